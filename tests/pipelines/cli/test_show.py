"""``topkin show`` draws what the run's tables hold, and says what it could not find."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from topkin.artifacts import schemas, sealing, storage
from topkin.artifacts.lookup import Item
from topkin.pipelines.cli import show
from topkin.pipelines.cli.app import main
from topkin.pipelines.cli.terminal.tables import Sheet

pytestmark = pytest.mark.parametrize("small_run", ["string"], indirect=True)


@pytest.fixture
def config(small_run: Any, tmp_path: Path) -> str:
    path = tmp_path / "topkin.toml"
    path.write_text('[run]\noutput = "out"\n[purchases]\npath = "sales.parquet"\n')
    return f"--config={path}"


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def test_a_user_is_drawn_with_titles_and_reasons(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "100", config]) == 0
    out = capsys.readouterr().out
    assert "user 100, France: 2 purchases" in out
    assert "recommendations by item_knn" in out
    row = next(line for line in out.splitlines() if "Garden spade [large]" in line)
    assert "0.800" in row
    assert "model" in row
    assert "RED PAPER LANTERN" in row
    own = next(line for line in out.splitlines() if "0.900" in line)
    assert "bought 3 times" in own
    assert "RED PAPER LANTERN" not in own
    assert "the list is short: wanted 20, got 2, reason nothing else is allowed" in out
    assert "bought by people alike" in out


def test_every_list_of_a_user_is_drawn(config: str, small_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_run.folder("recommend")
    for name in ("recommendations", "short_lists"):
        shutil.copytree(f"{folder}/{name}", f"{folder}/lists/mail/{name}")
    storage.write_json({"model": "encoder"}, f"{folder}/lists/mail/lists.json")
    assert main(["show", "100", config]) == 0
    out = capsys.readouterr().out
    assert "recommendations by item_knn" in out
    assert "recommendations mail" in [line.strip() for line in out.splitlines()]
    assert "the list mail is short: wanted 20, got 2" in out
    assert main(["show", "100", config, "--json"]) == 0
    user = json.loads(capsys.readouterr().out)["user"]
    assert user["lists"]["mail"]["recommendations"] == user["recommendations"]


def test_an_item_is_drawn_with_its_neighbours(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "a1", config]) == 0
    out = capsys.readouterr().out
    assert "item a1  RED PAPER LANTERN" in out
    assert "0.750" in out


def test_what_is_bought_together_is_drawn(config: str, small_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"item_id": "a1", "rank": 1, "neighbour_id": "b2", "support": 1234, "lift": 2.5}
    table = pa.Table.from_pylist([row], schemas.bundles(pa.string()))
    storage.write_parquet(table, f"{small_run.folder('similar')}/bundles.parquet")
    assert main(["show", "a1", config]) == 0
    out = capsys.readouterr().out
    assert "bought together" in out
    assert "2.5" in next(line for line in out.splitlines() if "1,234" in line)


def test_words_of_one_title_show_its_item(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "red", "lantern", config]) == 0
    assert "item a1  RED PAPER LANTERN" in capsys.readouterr().out


def test_words_of_several_titles_list_them(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "lantern", config]) == 0
    out = capsys.readouterr().out
    assert "several titles have these words" in out
    assert out.index("a2") < out.index("a1")


def test_an_unknown_id_names_the_nearest_titles(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "papr", "lanturn", config]) == 2
    err = capsys.readouterr().err
    assert "there is no user or item 'papr lanturn'; the nearest titles are" in err
    assert "a1  RED PAPER LANTERN" in err


def test_a_flag_keeps_to_users_or_items(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "a1", "--user", config]) == 2
    assert "there is no user 'a1'" in capsys.readouterr().err
    assert main(["show", "100", "--item", config]) == 2
    assert "there is no item '100'" in capsys.readouterr().err
    assert main(["show", "100", "--item", "--user", config]) == 2


def test_json_holds_the_same(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "100", "--json", config]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["run_id"] == "r1"
    assert value["user"]["user_id"] == "100"
    assert value["user"]["model"] == "item_knn"
    assert value["user"]["history"][0]["time"] == "2024-04-29T00:00:00"
    assert [r["item"]["item_id"] for r in value["user"]["recommendations"]] == ["a2", "b1"]
    assert [r["score"] for r in value["user"]["recommendations"]] == [0.9, 0.8]
    assert main(["show", "a1", "--json", config]) == 0
    assert len(json.loads(capsys.readouterr().out)["item"]["neighbours"]) == 2
    assert main(["show", "lantern", "--json", config]) == 0
    assert len(json.loads(capsys.readouterr().out)["candidates"]) == 2


def test_a_run_that_is_not_finished_shows_what_it_has(
    config: str, small_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = storage.join(small_run.path, "run.json")
    state = storage.read_json(path)
    del state["stages"]["recommend"], state["stages"]["similar"]
    storage.write_json(sealing.sealed(state), path)
    assert main(["show", "100", config]) == 0
    assert "no recommendations yet: topkin recommend makes them" in capsys.readouterr().out
    assert main(["show", "a1", config]) == 0
    assert "no neighbours yet: topkin similar makes them" in capsys.readouterr().out


def test_an_unknown_run_is_answered_with_those_there_are(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "100", "--run", "r9", config]) == 2
    printed = capsys.readouterr().err
    assert "there is no run r9 in" in printed
    assert "; it has r1 (topkin runs lists them)" in printed


def test_nothing_to_show_is_said(
    config: str, small_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "100", config, "--set", f"run.output={tmp_path}/empty"]) == 1
    assert "has no finished run to show: topkin run makes one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "shown"),
    [("[b]", "[b]"), ("[/]", "[/]"), ("\x1b[31mred\n", "\\x1b[31mred\\n"), ("\u202eabc", "\\u202eabc"), ("é😀", "é😀")],
)
def test_texts_of_the_data_neither_style_nor_steer_the_terminal(
    small_run: Any, text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Sheet("t", "item", "title")
    table.add(show._id(Item(text)), show._title(Item("i", title=text)))
    Console().print(table)
    assert capsys.readouterr().out.splitlines()[-1].split() == [shown, shown]


def test_an_item_without_a_title_is_said_to_have_none(small_run: Any) -> None:
    assert str(show._title(Item("i", title=None))) == str(show._title(Item("i", title=""))) == "no title"


def test_a_title_as_long_as_a_book_is_cut(small_run: Any) -> None:
    drawn = str(show._title(Item("i", title="word " * 10_000)))
    assert len(drawn) == show.LONGEST
    assert drawn.endswith("…")


def test_a_word_like_an_option_is_an_id_or_told_to_be_neither(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "-5", config]) == 2
    assert "there is no user or item '-5', and no option of that name" in capsys.readouterr().err
    assert main(["show", "--usr", "100", config]) == 2
    assert "there is no user or item '--usr 100', and no option of that name" in capsys.readouterr().err
    assert main(["show", "--user", "100", config]) == 0
