"""What changed between two nights, beside plain sets and counts."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gates.conftest import Version
from topkin.artifacts import storage
from topkin.gates.compare import common_of
from topkin.gates.figures import of_purchases
from topkin.report.night.changes import changes, listed, movers
from topkin.report.night.words import change_section

LISTS = st.dictionaries(st.integers(0, 5), st.lists(st.sampled_from("abcdefg"), unique=True, max_size=4), max_size=6)


def counted(lists: dict[int, list[str]]) -> pa.Table:
    counts = Counter(item for row in lists.values() for item in row)
    columns = {"item_id": pa.array(list(counts), pa.string()), "lists": pa.array(list(counts.values()), pa.int64())}
    return pa.table({name: pa.chunked_array([column]) for name, column in columns.items()})


@given(LISTS, LISTS)
def test_movers_are_those_of_two_counters(before: dict[int, list[str]], now: dict[int, list[str]]) -> None:
    titles = pa.table({"item_id": list("abcdefg"), "title": [f"title {c}" for c in "abcdefg"]})
    moved = movers(counted(before), counted(now), [titles, titles])
    was, there = (Counter(item for row in lists.values() for item in row) for lists in (before, now))
    for name, belongs in (
        ("climbers", lambda i: 0 < was[i] < there[i]),
        ("fallers", lambda i: 0 < there[i] < was[i]),
        ("entering", lambda i: there[i] and not was[i]),
        ("leaving", lambda i: was[i] and not there[i]),
    ):
        expected = sorted((i for i in "abcdefg" if belongs(i)), key=lambda i: (-abs(there[i] - was[i]), i))
        assert moved[name]["items"] == len(expected)
        assert moved[name]["most"] == [[f"title {i}", was[i], there[i]] for i in expected[:5]]


def test_two_nights_without_a_list_have_no_movers(tmp_path: Path) -> None:
    storage.write_parquet(
        counted({}).select(["item_id"]), str(tmp_path / "recommendations/part-00000-of-00001.parquet")
    )
    lists = listed(str(tmp_path))
    moved = movers(lists, lists, [pa.table({"item_id": ["a"], "title": ["title a"]})] * 2)
    assert all(side == {"items": 0, "most": []} for side in moved.values())


def judged(now: dict[str, str], live: dict[str, str]) -> dict[str, Any]:
    """The part of ``gates.json`` that is read."""
    own, before = of_purchases(now), of_purchases(live)
    return {"figures": own, "live": before, "common": common_of(now, live, own, before) if live else {}}


def night(folder: Path, users: range, items: str, rejected: int) -> dict[str, str]:
    rows = [(u, i, float(n + 1)) for u in users for n, i in enumerate(items)]
    source = {"rows": 200, "rejected": {"cancelled": rejected}, "accepted": len(rows)}
    version = Version(rows=rows, statistics={"sources": {"purchases": source}})
    return version.write(folder)


def test_two_nights_are_told_apart(tmp_path: Path) -> None:
    live, now = night(tmp_path / "a", range(1, 21), "abcd", 10), night(tmp_path / "b", range(4, 31), "bcdef", 30)
    changed = changes(now, live, judged(now, live))
    assert changed is not None
    assert (changed["users"], changed["since"]) == ({"new": 10, "gone": 3}, "2024-05-01T00:00:00")
    assert ["users", 20, 27] in changed["counts"]
    assert changed["rejects"] == [["purchases", "cancelled", 0.05, 0.15]]
    assert {name: side["items"] for name, side in changed["items"].items()} == {"new": 2, "gone": 1}
    assert changed["climbers"]["items"] == 2  # b and c: from 20 lists to 27
    assert [row[1:] for row in changed["entering"]["most"]] == [[0, 27]]
    assert [row[1:] for row in changed["leaving"]["most"]] == [[20, 0]]
    assert changed["lists"]["users"] == 17
    assert "user_id" not in str(changed)
    shown = change_section(changed)
    assert shown["known"] == "10 customers are new and 3 gone; 2 items are new and 1 gone."
    assert "stayed" in shown["lists"]
    assert {row[0]: row[3] for row in shown["counts"]}["customers"] == "+35.0 %"


def test_nothing_changed_where_nothing_did(tmp_path: Path) -> None:
    live = night(tmp_path / "a", range(1, 21), "abcd", 10)
    changed = changes(live, live, judged(live, live))
    assert changed is not None
    assert all(changed[name]["items"] == 0 for name in ("climbers", "fallers", "entering", "leaving"))
    assert (changed["users"], changed["lists"]["overlap"]) == ({"new": 0, "gone": 0}, 1.0)
    assert {row[3] for row in change_section(changed)["counts"]} == {"as before"}
    assert change_section(changed)["movers"] == change_section(changed)["items"] == []


def test_a_first_night_has_nothing_to_be_held_against(tmp_path: Path) -> None:
    now = night(tmp_path / "a", range(1, 5), "abc", 0)
    assert changes(now, {}, judged(now, {})) is None


def test_ids_of_another_type_are_not_compared(tmp_path: Path) -> None:
    now, live = night(tmp_path / "a", range(1, 5), "abc", 0), night(tmp_path / "b", range(1, 5), "abc", 0)
    path = storage.join(live["prepare"], "catalogue.parquet")
    catalogue = storage.read_parquet(path)
    at = catalogue.column_names.index("item_id")
    storage.write_parquet(catalogue.set_column(at, "item_id", pa.array(range(len(catalogue)), pa.int64())), path)
    changed = changes(now, live, judged(now, live))
    assert changed is not None
    assert "users" not in changed
    assert "none is compared" in change_section(changed)["known"]


@pytest.mark.parametrize(("lists", "number"), [({1: list("ab"), 2: list("a")}, {"a": 2, "b": 1})])
def test_lists_are_counted_by_item(lists: dict[int, list[str]], number: dict[str, int], tmp_path: Path) -> None:
    for user, row in lists.items():
        path = storage.join(str(tmp_path), "recommendations", "date=2024-05-01", f"part-{user}.parquet")
        storage.write_parquet(pa.table({"user_id": [user] * len(row), "item_id": row}), path)
    table = listed(str(tmp_path))
    assert dict(zip(table["item_id"].to_pylist(), table["lists"].to_pylist(), strict=True)) == number
