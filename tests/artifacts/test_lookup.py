"""One user or item is found in a run's tables, whatever type its id has, and little is read for it."""

import itertools
import threading
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import lookup, manifest, sealing, storage
from topkin.artifacts.embeddings import vector_column
from topkin.errors import ArtifactError


def as_type(run: Any, text: str) -> Any:
    """A text as an id of the run; an item's code is read as hexadecimal where ids are numbers."""
    kind = lookup.id_types(run)[0]
    return int(text, 16) if pa.types.is_integer(kind) else lookup.as_id(text, kind)


def test_a_user_is_found_with_history_latest_first_and_recommendations_by_rank(small_run: Any) -> None:
    view = lookup.user(small_run, as_type(small_run, "104"))
    assert view is not None
    assert view.segment == "France"
    assert [(p.item.title, p.quantity) for p in view.history] == [("RED PAPER LANTERN", 2), ("BLUE PAPER LANTERN", 1)]
    assert [(r.rank, r.item.title, r.source) for r in view.recommendations] == [
        (1, "Garden spade [large]", "model"),
        (2, "RED PAPER LANTERN", "model"),
    ]
    assert [b.title for b in view.recommendations[0].because] == ["RED PAPER LANTERN"]
    assert [r.times_bought for r in view.recommendations] == [3, 0]
    assert view.short is None


def test_every_user_is_found_in_its_partition(small_run: Any) -> None:
    for n in range(20):
        user = as_type(small_run, f"{n + 100}")
        view = lookup.user(small_run, user)
        assert view is not None
        assert view.user_id == user
        assert len(view.recommendations) == 2


def test_a_short_list_says_why_and_neighbours_come_along(small_run: Any) -> None:
    view = lookup.user(small_run, as_type(small_run, "100"))
    assert view is not None
    assert view.short is not None
    assert view.short["reason"] == "nothing else is allowed"
    assert view.neighbours == ((as_type(small_run, "103"), 0.5),)
    assert [(r.item.item_id, r.support) for r in view.bought_by_neighbours] == [(as_type(small_run, "b2"), 7)]


def test_an_item_is_found_with_its_neighbours(small_run: Any) -> None:
    view = lookup.item(small_run, as_type(small_run, "a1"))
    assert view is not None
    assert [(r.rank, r.item.title) for r in view.neighbours] == [(1, "BLUE PAPER LANTERN"), (2, "Garden spade [large]")]


def test_items_that_brought_vectors_are_found_as_others_are(small_run: Any) -> None:
    before = [lookup.item(small_run, as_type(small_run, "a1")), lookup.find(small_run, "lantern")]
    path = storage.join(small_run.path, "prepared", "catalogue.parquet")
    table = storage.read_parquet(path)
    storage.write_parquet(table.append_column("vector", vector_column(np.ones((len(table), 3)))), path)
    assert [lookup.item(small_run, as_type(small_run, "a1")), lookup.find(small_run, "lantern")] == before


def test_unknown_ids_are_not_found(small_run: Any) -> None:
    assert lookup.user(small_run, as_type(small_run, "9999")) is None
    assert lookup.item(small_run, as_type(small_run, "9999")) is None
    assert lookup.find(small_run, "9999").user_id is None


def test_only_the_users_part_file_is_read(small_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = lookup._where

    def where(path: str, *args: Any) -> pa.Table:
        read.append(path)
        return real(path, *args)

    monkeypatch.setattr(lookup, "_where", where)
    rows = lookup.user_rows(small_run, "recommend", "recommendations/date=2024-05-01", as_type(small_run, "104"))
    assert (len(rows), len(read)) == (2, 1)


@pytest.mark.parametrize(
    "ids", [[5, 1, 9, 5, 7, 3], ["e", "b", None, "é", "🙂", "c"], [b"e", b"", b"\xff", None, b"a", b"a"]]
)
def test_rows_are_those_of_the_values_and_row_groups_without_them_are_not_read(ids: list[Any], tmp_path: Path) -> None:
    path = str(tmp_path / "rows.parquet")
    table = pa.table({"boxes": [[n, n] for n in range(len(ids))], "key": ids, "n": range(len(ids))})
    storage.write_parquet(table, path, row_group_rows=2)
    groups = [set(ids[at : at + 2]) for at in (0, 2, 4)]
    for size in (1, 2):
        for values in itertools.combinations(sorted({one for one in ids if one is not None}), size):
            rows = lookup._where(path, "key", list(values), ["n"])
            assert rows.to_pydict() == {"n": [n for n, one in enumerate(ids) if one in values]}
            wanted = pa.array(values, table.schema.field("key").type)
            read = lookup._groups(pq.read_metadata(path), "key", wanted)
            assert {n for n, some in enumerate(groups) if some & set(values)} <= set(read)
            if values == (max(one for one in ids if one is not None),):
                assert len(read) == 1


def test_files_are_read_by_the_thread_that_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of Arrow's that has a Python file while Python ends aborts the process."""
    path = str(tmp_path / "stage" / "rows.parquet")
    storage.write_parquet(pa.table({"key": range(1000), "n": range(1000)}), path, row_group_rows=100)
    manifest.seal(str(tmp_path / "stage"), stage="prepare", key="k", summary={})
    threads = set()
    real = sealing.Verified.read

    def read(self: Any, size: int = -1) -> bytes:
        threads.add(threading.get_ident())
        return real(self, size)

    monkeypatch.setattr(sealing.Verified, "read", read)
    assert len(lookup._where(path, "key", [3, 700])) == 2
    assert len(storage.read_parquet(path)) == 1000
    with storage.open_parquet(path) as file:
        assert sum(map(len, file.iter_batches(30))) == len(file.read_row_groups([0, 1])) + 800
    assert threads == {threading.get_ident()}


def test_words_find_titles_in_any_case_and_order_best_sold_first(small_run: Any) -> None:
    candidates = lookup.find(small_run, "lantern Paper")
    assert (candidates.user_id, candidates.item_id) == (None, None)
    assert [i.title for i in candidates.titles] == ["BLUE PAPER LANTERN", "RED PAPER LANTERN"]


def test_brackets_in_titles_and_words_are_plain_text(small_run: Any) -> None:
    assert [i.title for i in lookup.find(small_run, "[large]").titles] == ["Garden spade [large]"]
    assert lookup.find(small_run, ".*").titles == ()


def test_misspelt_words_lead_to_the_nearest_titles(small_run: Any) -> None:
    candidates = lookup.find(small_run, "gardn spde")
    assert candidates.titles == ()
    assert [i.title for i in candidates.nearest] == ["Garden spade [large]"]
    assert lookup.find(small_run, "zzzzzz").nearest == ()


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("17", pa.int64(), 17),
        ("x", pa.int64(), None),
        ("99999999999999999999", pa.int64(), None),
        ("017", pa.string(), "017"),
        ("ab", pa.binary(), b"ab"),
        ("0x00ff", pa.binary(), b"\x00\xff"),
        ("0xzz", pa.binary(), None),
    ],
)
def test_a_typed_text_becomes_an_id_of_the_tables_type(text: str, kind: pa.DataType, expected: Any) -> None:
    assert lookup.as_id(text, kind) == expected


@pytest.mark.parametrize("value", [b"ab", b"\x00\xff", b"0xaa", "text", 7])
def test_a_shown_id_can_be_typed_again(value: Any) -> None:
    kind = {bytes: pa.binary(), str: pa.string(), int: pa.int64()}[type(value)]
    assert lookup.as_id(str(lookup.format_id(value)), kind) == value


def test_a_uuid_is_found_by_its_text() -> None:
    one = uuid.UUID(int=7920)
    for text in (str(one), str(one).upper(), one.hex, f"{{{one}}}"):
        assert one.bytes in lookup.possible_ids(text, pa.binary())
    assert lookup.possible_ids(f"0x{one.hex}", pa.binary()) == [one.bytes]
    assert lookup.possible_ids(str(one), pa.string()) == [str(one)]
    assert lookup.possible_ids("-5", pa.int64()) == [-5]
    assert lookup.possible_ids("x", pa.int64()) == []


def test_a_missing_part_is_refused(small_run: Any) -> None:
    folder = storage.join(small_run.folder("prepare"), "histories")
    storage.filesystem(folder)[0].delete_file(storage.join(folder, storage.part_name(1, 3)))
    with pytest.raises(ArtifactError, match="has 2 of 3 part files"):
        lookup.user(small_run, as_type(small_run, "100"))


def test_a_damaged_file_is_named(small_run: Any) -> None:
    path = storage.join(small_run.folder("prepare"), "catalogue.parquet")
    storage.write_bytes(b"PAR1 no more", path)
    with pytest.raises(ArtifactError, match=r"catalogue\.parquet is damaged"):
        lookup.item(small_run, as_type(small_run, "a1"))


def test_a_damaged_part_of_the_histories_is_named(small_run: Any) -> None:
    folder = storage.join(small_run.folder("prepare"), "histories")
    storage.write_bytes(b"not Parquet at all", storage.join(folder, storage.files(folder)[0]))
    with pytest.raises(ArtifactError, match=r"histories/part-00000.* is damaged"):
        lookup.id_types(small_run)
