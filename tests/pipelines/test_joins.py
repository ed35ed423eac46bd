"""Ids that do not meet: told by init and check with what mends them, mended by init, counted by prepare."""

import json
import unicodedata
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import topkin
from topkin.config.load import load_settings
from topkin.config.sections import Settings
from topkin.errors import InputError
from topkin.ingest.contract import inspect, sources
from topkin.ingest.files import ArrowFiles, batches
from topkin.ingest.inference.look import look
from topkin.ingest.inference.written import configuration
from topkin.ingest.joins import read
from topkin.ingest.prepare import Prepared, prepare
from topkin.pipelines.cli.app import main
from topkin.pipelines.engine.job import Job
from topkin.pipelines.prepare import check_inputs, inputs_of

AS_OF, CLOCK = datetime(2024, 10, 1), datetime(2025, 1, 1)
NUMBERS, UPPER, ACCENTS = ([f"{form.format(n)}" for n in range(1, 13)] for form in ("{}", "AB-{}", "é{}x"))
MISSES: dict[str, tuple[list[str], Callable[[str], Any], str]] = {
    "leading zeros": (NUMBERS, lambda v: v.zfill(10), "ltrim(item_id, '0')"),
    "case": (UPPER, str.lower, "upper(item_id)"),
    "trailing spaces": (UPPER, lambda v: v + "  ", "trim(item_id)"),
    "a float's ending": (NUMBERS, lambda v: v + ".0", "regexp_replace(item_id, '\\.0+$', '')"),
    "Unicode form": (ACCENTS, lambda v: unicodedata.normalize("NFD", v), "nfc_normalize(item_id)"),
    "numbers": (NUMBERS, int, "CAST(item_id AS VARCHAR)"),
}


def shop(folder: Path, sold: list[Any], listed: list[Any], **columns: list[Any]) -> dict[str, Any]:
    """Purchases of twelve users and a catalogue, as files; the sections of a configuration for them."""
    rows = [(u, sold[(u * 5 + k) % len(sold)], AS_OF - timedelta(days=u + 9 * k)) for u in range(12) for k in range(5)]
    users, items, times = zip(*rows, strict=True)
    pq.write_table(pa.table({"user_id": users, "item_id": items, "timestamp": times}), folder / "p.parquet")
    titles = [f"thing {n}" for n in range(len(listed))]
    pq.write_table(pa.table({"item_id": listed, "title": titles, **columns}), folder / "items.parquet")
    return {"purchases": {"path": str(folder / "p.parquet")}, "items": {"path": str(folder / "items.parquet")}}


def prepared(settings: Settings, folder: Path) -> Prepared:
    """What the job would write, made in memory of the rows that it would read."""
    inputs = inputs_of(Job(settings=settings, as_of=AS_OF, out=str(folder / "out")))
    raw = {
        name: pa.concat_tables([t for f in i.files for t in batches(name, f, ArrowFiles(), i.columns, rows=64)])
        for name, i in inputs.inspections.items()
    }
    return prepare(raw, inputs.plan)


@pytest.mark.parametrize("miss", MISSES)
def test_a_join_that_misses_is_told_by_check_and_mended_by_init(miss: str, tmp_path: Path) -> None:
    sold, change, expression = MISSES[miss]
    sections = shop(tmp_path, sold, [change(v) for v in sold])
    faults = check_inputs(Settings.model_validate(sections), AS_OF)
    assert len(faults) == 1
    line = f"write item_id = {json.dumps(expression)} under [items.normalise]"
    assert line in str(faults[0])
    assert "by which 100 % of the items sold are in the catalogue, and no two ids become one" in str(faults[0])

    seen = look(str(tmp_path / "p.parquet"), str(tmp_path / "items.parquet"), None, (), CLOCK)
    assert not seen.findings
    assert "0 % of the items sold" in seen.joins[0]
    assert "100 % as they are made" in seen.joins[0]
    (tmp_path / "topkin.toml").write_text(configuration(seen, tmp_path / "topkin.toml", CLOCK))
    settings = load_settings(tmp_path / "topkin.toml")
    assert settings.items is not None
    assert settings.items.normalise == {"item_id": expression}
    assert check_inputs(settings, AS_OF) == []
    (join,) = prepared(settings, tmp_path).statistics["joins"]
    assert (join["share_of_ids"], join["share_of_rows"], join["share_of_right"]) == (1, 1, 1)


def test_an_expression_goes_round_the_one_that_is_there(tmp_path: Path) -> None:
    sections = shop(tmp_path, UPPER, [f" {v.lower()}" for v in UPPER])
    sections["items"]["normalise"] = {"item_id": "trim(item_id)"}
    (fault,) = check_inputs(Settings.model_validate(sections), AS_OF)
    assert 'item_id = "upper(trim(item_id))" under [items.normalise] in place of the one there' in str(fault)


def test_ids_that_would_become_one_are_named(tmp_path: Path) -> None:
    sections = shop(tmp_path, NUMBERS, [*("0" + v for v in NUMBERS), "003"])
    (fault,) = check_inputs(Settings.model_validate(sections), AS_OF)
    assert "they differ in leading zeros, but no expression is proposed, for '03' and '003' of items" in str(fault)


def test_users_that_are_others_are_no_fault_and_those_spelled_otherwise_are(tmp_path: Path) -> None:
    sections = shop(tmp_path, NUMBERS, NUMBERS)
    for name, users, faults in (("others", [101, 102, 103], 0), ("spelled", [f"{u:05d}" for u in range(12)], 1)):
        pq.write_table(pa.table({"user_id": users}), tmp_path / f"{name}.parquet")
        asked = Settings.model_validate({**sections, "users": {"path": str(tmp_path / f"{name}.parquet")}})
        assert len(check_inputs(asked, AS_OF)) == faults


def test_a_catalogue_of_which_nothing_is_available_is_a_fault(tmp_path: Path) -> None:
    sections = shop(tmp_path, NUMBERS, NUMBERS, active=[False] * 12)
    sections["items"]["available"] = "active"
    (fault,) = check_inputs(Settings.model_validate(sections), AS_OF)
    assert "column 'active' (items.available) must be true for some item, got false in all 12 rows" in str(fault)
    shop(tmp_path, NUMBERS, NUMBERS, active=[*[False] * 11, None])
    assert check_inputs(Settings.model_validate(sections), AS_OF) == []


def test_python_is_told_the_same(tmp_path: Path) -> None:
    shop(tmp_path, NUMBERS, [v.zfill(3) for v in NUMBERS])
    purchases, items = (pq.read_table(tmp_path / name) for name in ("p.parquet", "items.parquet"))
    with pytest.raises(InputError, match=r"0 % of the items sold.*ltrim\(item_id, '0'\)"):
        topkin.Recommender({"train": {"epochs": 0}}).fit(purchases, items=items)


@pytest.mark.parametrize("missing", ["list", "exclude"])
def test_items_gone_from_the_catalogue_follow_the_rule_and_are_told(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = shop(tmp_path, NUMBERS, [*NUMBERS[:9], "never sold"])
    sections["items"]["missing"] = missing
    settings = Settings.model_validate(sections)
    tables = prepared(settings, tmp_path)
    gone = {row["item_id"] for row in tables.catalogue.to_pylist() if not row["available"]}
    assert gone == (set() if missing == "list" else set(NUMBERS[9:]))
    sold = {row["item_id"]: row["events"] for row in tables.catalogue.to_pylist()}
    assert all(sold[item] for item in NUMBERS)  # they stay in histories and training
    (join,) = tables.statistics["joins"]
    lost = sum(sold[item] for item in NUMBERS[9:])
    assert (join["left_ids"], join["shared_ids"], join["right_ids"]) == (12, 9, 10)
    assert (join["left_rows"], join["shared_rows"]) == (sum(sold.values()), sum(sold.values()) - lost)
    fate = {"list": "listed all the same", "exclude": "not recommended"}[missing]
    assert join["line"].endswith(f"are in the catalogue, 3 not ({lost} purchases): {fate}")

    monkeypatch.chdir(tmp_path)
    toml = f'[purchases]\npath = "p.parquet"\n[items]\npath = "items.parquet"\nmissing = "{missing}"\n'
    Path("topkin.toml").write_text(toml)
    assert main(["check", "--as-of", "2024-10-02"]) == 0
    out = " ".join(capsys.readouterr().out.split())  # lines break at the width of the screen
    assert "75.0 % of the items sold (9 of 12, 75.0 % of the purchases) are in the catalogue" in out
    assert "90.0 % of the catalogue's items (9 of 10) are sold" in out
    assert f"3 of the items sold, {lost} of 60 purchases, such as" in out
    assert f'items.missing = "{missing}"' in out


def test_lists_whose_ids_the_shop_does_not_know_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop(tmp_path, NUMBERS, NUMBERS)
    monkeypatch.chdir(tmp_path)
    Path("topkin.toml").write_text('[purchases]\npath = "p.parquet"\n[items]\npath = "items.parquet"\n')
    for name, ids in (("some", ["1", "x"]), ("none", ["x", "y", "z"]), ("zeros", [v.zfill(6) for v in NUMBERS])):
        pq.write_table(pa.table({"sku": ids}), f"{name}.parquet")
    asked = ["check", "--as-of", "2024-10-02", "--set", "recommend.allow_column=sku", "--set"]
    assert main([*asked, "recommend.allow=some.parquet"]) == 0
    assert "50.0 % of the ids of recommend.allow (1 of 2) are items of the shop" in capsys.readouterr().out
    assert main([*asked, "recommend.allow=none.parquet"]) == 3
    err = capsys.readouterr().err
    assert "0 % of the ids of recommend.allow (0 of 3) are items of the shop, so that" in err
    assert err.strip().endswith("write the list with ids of the purchases or of the catalogue")
    assert main([*asked, "recommend.allow=zeros.parquet"]) == 3
    assert "they differ in leading zeros: write the list with the ids as the purchases" in capsys.readouterr().err
    assert main(["check", "--as-of", "2024-10-02", "--set", "recommend.deny=none.parquet"]) == 3
    err = capsys.readouterr().err
    assert "must have the column item_id, it has sku: set recommend.deny_column to the one with the item's id" in err


def test_ids_that_do_not_meet_and_a_catalogue_of_which_nothing_is_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop(tmp_path, NUMBERS[:9], [v.zfill(10) for v in NUMBERS[:9]], active=[False] * 9)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["init", "p.parquet", "--items", "items.parquet"]) == 0
    out = capsys.readouterr().out
    assert "0 % of the items sold (0 of 9, 0 % of the purchases) are in the catalogue as they are written" in out
    assert "100 % as they are made: they differ in leading zeros" in out
    assert main(["check", "--as-of", "2024-10-01"]) == 3
    assert "none of them could be recommended" in capsys.readouterr().err


def test_of_large_inputs_some_rows_of_all_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sold = [str(n % 50) for n in range(6000)]
    shop(tmp_path, NUMBERS, [str(n) for n in range(40)])
    (tmp_path / "p").mkdir()
    for part in range(3):
        rows = pa.table({"user_id": sold, "item_id": sold, "timestamp": [AS_OF - timedelta(days=1)] * len(sold)})
        pq.write_table(rows, tmp_path / "p" / f"{part}.parquet", row_group_size=1000)
    monkeypatch.setattr(read, "WHOLE", 10_000)
    monkeypatch.setattr(read, "SAMPLED", 16 * 100)
    config = tmp_path / "topkin.toml"
    config.write_text('[purchases]\npath = "p"\n[items]\npath = "items.parquet"\n')
    settings = load_settings(config)
    inspections = {name: inspect(source, ArrowFiles()) for name, source in sources(settings).items()}
    [joined] = read.input_joins(inspections, lambda _: ArrowFiles())
    assert not joined.join.left_whole
    assert joined.join.left_rows < 18_000
    assert (joined.join.left_ids, joined.join.shared_ids) == (50, 40)
    assert "(a sample: " in joined.lines(settings)[0]
