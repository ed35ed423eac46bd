"""``topkin explain`` agrees with the published lists, and says why an item is in none."""

import json
from pathlib import Path

import pytest

import topkin
from topkin.pipelines.cli.app import main


def explained(
    capsys: pytest.CaptureFixture[str], config: Path, user: object, item: object, *words: str
) -> dict[str, object]:
    assert main(["explain", str(user), str(item), "--config", str(config), "--json", *words]) == 0
    value: dict[str, object] = json.loads(capsys.readouterr().out)
    return value


def test_items_of_a_list_and_others_are_told_as_by_the_recommender(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = published.parent / "topkin-out"
    lists = topkin.open_run(output).table("recommendations")
    recommender = topkin.Recommender.load(output)
    first = lists["user_id"][0].as_py()
    listed = {row["item_id"]: row for row in lists.to_pylist() if row["user_id"] == first}
    assert len(listed) == 3
    for item in [*listed, *recommender.items.to_pylist()[:6]]:
        value, why = explained(capsys, published, first, item), recommender.why(first, item)
        assert value["listed"] == (item in listed)
        assert (value["rank"] if item in listed else None) == (listed[item]["rank"] if item in listed else None)
        assert bool(value["why_not"]) == (item not in listed)
        assert tuple(value["why_not"]) == why.why_not  # type: ignore[arg-type]
        assert value.get("place") == why.place
        assert [share["item_id"] for share in value["shares"]] == why.shares["item_id"].to_pylist()  # type: ignore[attr-defined]


def test_it_is_drawn_in_80_columns(
    published: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    row = topkin.open_run(published.parent / "topkin-out").table("recommendations").slice(0, 1).to_pylist()[0]
    assert main(["explain", str(row["user_id"]), row["item_id"], "--config", str(published)]) == 0
    out = capsys.readouterr().out
    assert f"rank 1 of 3, score {row['score']:.4g}" in out
    assert "what speaks for it" in out
    assert all(reason in out for reason in row["because"])
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(("user", "item", "what"), [("999", None, "user '999'"), (None, "x1", "item 'x1'")])
def test_an_unknown_id_names_the_nearest(
    published: Path, user: str | None, item: str | None, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recommender = topkin.Recommender.load(published.parent / "topkin-out")
    known = [str(i) for i in (recommender.items if user is None else recommender.users).to_pylist()]
    words = [user or str(recommender.users[0]), item or str(recommender.items[0])]
    assert main(["explain", *words, "--config", str(published)]) == 2
    printed = capsys.readouterr().err
    assert f"there is no {what}; the nearest ids are " in printed
    assert set(printed.strip().rpartition(" are ")[2].split(", ")) <= set(known)
