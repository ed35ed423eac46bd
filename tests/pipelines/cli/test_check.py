"""``topkin check`` shows what the inputs hold and says everything that is wrong with them."""

import json
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.pipelines.cli.app import main
from topkin.pipelines.cli.commands import event_line
from topkin.pipelines.engine.stages import Event

CONFIG = """
[run]
output = "out"
[purchases]
path = "sales.parquet"
quantity = "qty"
[purchases.normalise]
item_id = "upper(item_id)"
[purchases.rules]
returned = "qty > 0"
"no time" = "timestamp > '2020-01-01'"
"lower case" = "item_id = upper(item_id)"
[items]
path = "goods.parquet"
title = "name"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    sales = pa.table(
        {
            "user_id": ["a", "b", None, "a"],
            "item_id": ["x", "y", "x", "y"],
            "timestamp": [datetime(2024, 1, n) for n in (1, 2, 3, 4)],
            "qty": [1, -1, 1, 2],
            "unused": [0, 0, 0, 0],
        }
    )
    pq.write_table(sales, tmp_path / "sales.parquet")
    pq.write_table(pa.table({"item_id": ["X", "Y"], "name": ["Cup", "Jug"]}), tmp_path / "goods.parquet")
    (tmp_path / "topkin.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    return tmp_path


def test_good_inputs_are_shown_with_types_rules_and_what_these_reject(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "purchases: 1 file, 4 rows" in out
    assert "items: 1 file, 2 rows" in out
    assert "key column type null user_id user_id string 25.0%" in out
    assert "rule returned, rejects 25.0%: qty > 0" in out
    assert "normalise item_id: upper(item_id)" in out
    assert "timestamp timestamp timestamp[us]" in out
    assert out.count("without a zone taken as UTC") == 1
    assert "unused" not in out
    assert "all is well" in out
    assert not (folder / "out").exists()


def test_notes_stand_below_the_table_whose_rows_stay_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if "timestamp[us]" in line]
    assert len(row) <= 80
    assert "zone" not in row
    assert any(line.startswith("timestamp: without a zone taken as UTC") for line in lines)


def test_json_holds_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", "--as-of", "2024-06-01"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["ok"] is True
    assert value["as_of"] == "2024-06-01T00:00:00"
    purchases, items = value["inputs"]
    assert {"key": "quantity", "column": "qty", "type": "int64", "null": 0.0} in purchases["columns"]
    assert {"name": "no time", "expression": "timestamp > '2020-01-01'", "rejects": 0.0, "kind": "rule"} in purchases[
        "expressions"
    ]
    asked_after_normalising = {
        "name": "lower case",
        "expression": "item_id = upper(item_id)",
        "rejects": 0.0,
        "kind": "rule",
    }
    assert asked_after_normalising in purchases["expressions"]
    assert items["rows"] == 2


def test_everything_wrong_is_said_at_once_with_the_code_of_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--set", "purchases.quantity=quantity", "--set", "items.title=title"]) == 3
    err = capsys.readouterr().err
    assert "has no column 'quantity' (purchases.quantity)" in err
    assert "has no column 'title' (items.title)" in err


def test_a_missing_file_and_a_wrong_rule_are_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--set", "items.path=good.parquet"]) == 3
    assert "there is no file" in capsys.readouterr().err
    assert main(["check", "--set", "purchases.rules.returned=qty >"]) == 2
    assert "'qty >'" in capsys.readouterr().err


def test_findings_are_in_the_json_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--set", "items.title=title", "--json"]) == 3
    printed = capsys.readouterr()
    assert json.loads(printed.out)["ok"] is False
    assert "items.title" in json.loads(printed.out)["inputs"][1]["findings"][0]
    assert json.loads(printed.err)["error"]["type"] == "InputError"


def test_real_purchases_are_well(online_retail: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["init", f"{online_retail}/purchases.parquet", "--items", f"{online_retail}/items.parquet"]
    assert main([*args, "-o", f"{tmp_path}/topkin.toml"]) == 0
    assert main(["check", "--config", f"{tmp_path}/topkin.toml", "--as-of", "2011-11-09"]) == 0
    assert "541,909 rows" in capsys.readouterr().out


def test_a_list_of_items_that_is_not_there_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--set", "recommend.deny=nope.parquet"]) == 3
    assert "recommend.deny" in capsys.readouterr().err


@pytest.mark.parametrize("ids", [[1], [None], ["X"]])
def test_a_list_of_other_ids_is_said_before_any_work(
    folder: Path, ids: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"item_id": ids}), folder / "deny.parquet")
    code = main(["check", "--set", "recommend.deny=deny.parquet"])
    assert code == (0 if ids == ["X"] else 3)
    assert ("recommend.deny" in capsys.readouterr().err) == bool(code)


def test_item_lists_are_told_by_the_keys_of_their_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"item_id": ["X"]}), folder / "deny.parquet")
    pq.write_table(pa.table({"item_id": ["Y"]}), folder / "other.parquet")
    sets = ["recommend.deny=deny.parquet", "lists.same.k=3", "lists.mail.deny=other.parquet"]
    assert main(["check", *(word for text in sets for word in ("--set", text))]) == 0
    out = capsys.readouterr().out
    assert [out.count(f"ids of {of}.deny ") for of in ("recommend", "lists.mail", "lists.same")] == [1, 1, 0]


def test_an_output_in_the_way_of_a_file_is_told_and_nothing_is_made(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "taken").write_text("a file")
    assert main(["check", "--set", "run.output=taken/deep/out"]) == 2
    assert "run.output must be a folder that can be written" in capsys.readouterr().err
    assert main(["check", "--set", "run.output=new/deep/out"]) == 0
    assert not (folder / "new").exists()


def test_reasons_of_topkins_own_are_shown_with_share_and_value_and_are_a_fault_where_most_rows_go(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = pa.array([2**64 - 1 - n for n in range(80)] + [1], pa.uint64())
    times = pa.array([datetime(2024, 1, 1)] * 81)
    pq.write_table(
        pa.table({"user_id": [f"u{n}" for n in range(81)], "item_id": ids, "timestamp": times}), "big.parquet"
    )
    (folder / "big.toml").write_text('[purchases]\npath = "big.parquet"\n')
    assert main(["check", "--config", "big.toml"]) == 3
    printed = capsys.readouterr()
    assert "rejected 80 of 81 rows (98.8 %):" in printed.out
    assert "item_id is above the largest int64" in printed.out
    assert "item_id = 18446744073709551615 in row 0 of big.parquet" in printed.out
    assert "all is well" not in printed.out
    assert "got 98.8 % of 81" in printed.err
    assert 'purchases.normalise.item_id = "CAST(item_id AS VARCHAR)"' in printed.err
    assert main(["check", "--config", "big.toml", "--json"]) == 3
    (reason,) = json.loads(capsys.readouterr().out)["inputs"][0]["rejects"]
    assert (reason["reason"], reason["rows"]) == ("item_id is above the largest int64", 80)


def test_what_is_rejected_late_in_the_last_file_is_seen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sales = pq.read_table("sales.parquet")
    Path("many").mkdir()
    for number in range(3):
        pq.write_table(sales, f"many/{number}.parquet")
    pq.write_table(sales.set_column(3, "qty", pa.array([0] * 4)), "many/3.parquet")
    main(["check", "--set", "purchases.path=many", "--set", "prepare.max_reject_share=1"])
    assert "in row 1 of many/0.parquet" in (out := capsys.readouterr().out)
    assert "rejected 10 of 16 rows (62.5 %)" in out


def test_a_failing_check_calls_rules_rules_and_missing_columns_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--set", "purchases.user_id=who"]) == 3
    out = " ".join(capsys.readouterr().out.split())
    assert "rule returned: qty > 0" in out
    assert "normalise returned" not in out
    assert "user_id who missing" in out
    assert "normalise item_id" in out


def test_the_next_command_is_that_of_where_one_stands(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert main(["check", "--config", "../topkin.toml", "--as-of", "2024-06-01"]) == 0
    assert "topkin run --config ../topkin.toml --as-of 2024-06-01 does the work" in capsys.readouterr().out
    assert main(["check", "--config", f"file://{folder}/topkin.toml"]) == 0
    assert main(["check"]) == 2
    assert "--config PATH names another, as ../topkin.toml" in capsys.readouterr().err


def test_a_rule_asks_the_catalogue(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["check", "--set", "purchases.rules.jugs=item.name <> 'Jug'", "--set", "prepare.max_reject_share=1"]) == 0
    )
    assert "jugs" in capsys.readouterr().out
    assert main(["check", "--set", "purchases.rules.jugs=item.nam <> 'Jug'"]) == 2
    assert "has no column 'nam', did you mean 'name'" in capsys.readouterr().err


def test_the_line_of_prepare_tells_what_was_rejected_by_reason() -> None:
    counts = {"rows": 58_762, "rejected": {"returned": 234, "timestamp is in the future": 1000}}
    summary = {"sources": {"purchases": counts, "items": {"rows": 3, "rejected": {}}}, "events": 5}
    line = event_line(Event("prepare", "finished", 1.5, summary))
    rejected = "purchases rejected 1,234 (2.1 %): timestamp is in the future 1,000, returned 234"
    assert line.splitlines() == ["prepare        1.5 s   events 5", f"           {rejected}"]


def test_events_without_a_row_are_shown_as_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pq.read_table("sales.parquet").slice(0, 0), "views.parquet")
    Path("topkin.toml").write_text(CONFIG + '[events.view]\npath = "views.parquet"\n')
    assert main(["check"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "events.view: 1 file, 0 rows" in out
    assert "no rows, which is no fault of events" in out
    assert main(["prepare", "--as-of=2024-02-01"]) == 0
    assert "view: 0 events, input of weight 1" in capsys.readouterr().err
