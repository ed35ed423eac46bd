"""A sample comes from all files, is bounded, and is the same each time."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.ingest.contract import InputSource, Inspection, inspect
from topkin.ingest.files import FILE, ROW, ArrowFiles, batches
from topkin.ingest.judging import sample
from topkin.ingest.judging.sample import sample_rows

FILES = ArrowFiles()


def inspected(folder: Path) -> Inspection:
    columns = {"user_id": "user", "item_id": "item", "timestamp": "time"}
    return inspect(InputSource(name="purchases", path=str(folder), columns=columns), FILES)


def write(folder: Path, *sizes: int, group: int = 1000) -> Inspection:
    """Files of so many rows, each row its number in all of them as user."""
    start = 0
    for number, n in enumerate(sizes):
        user = pa.array(np.arange(start, start + n))
        table = pa.table({"user": user, "item": user, "time": pa.array(np.arange(n), pa.timestamp("us"))})
        pq.write_table(table, folder / f"{number:04d}.parquet", row_group_size=group)
        start += n
    return inspected(folder)


def drawn(inspection: Inspection, rows: int) -> pa.Table:
    return pa.concat_tables(sample_rows(inspection, FILES, rows))


def test_few_rows_are_all_looked_at_with_their_places(tmp_path: Path) -> None:
    rows = drawn(write(tmp_path, 10, 0, 25, group=7), 35)
    assert rows["user"].to_pylist() == list(range(35))
    assert rows[ROW].to_pylist() == [*range(10), *range(25)]
    assert Counter(rows[FILE].to_pylist()) == {f"{tmp_path}/0000.parquet": 10, f"{tmp_path}/0002.parquet": 25}


def test_many_rows_give_some_of_each_file_by_its_size_and_the_same_ones_each_time(tmp_path: Path) -> None:
    inspection = write(tmp_path, 40_000, 10_000, 50, group=4_000)
    rows = drawn(inspection, 1000)
    by_file = Counter(Path(f).name for f in rows[FILE].to_pylist())
    assert by_file["0000.parquet"] == pytest.approx(4 * by_file["0001.parquet"], rel=0.01)
    assert by_file["0002.parquet"] >= 1
    assert len(rows) <= 1001
    assert len(set(rows["user"].to_pylist())) == len(rows)
    assert rows.equals(drawn(inspection, 1000))
    groups = {(f, r // 4_000) for f, r in zip(rows[FILE].to_pylist(), rows[ROW].to_pylist(), strict=True)}
    assert len(groups) == 10 + 3 + 1


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(0, 400), min_size=1, max_size=6), rows=st.integers(1, 500), group=st.integers(1, 90))
def test_a_sample_is_rows_of_the_input_no_row_twice(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], rows: int, group: int
) -> None:
    folder = write(tmp_path_factory.mktemp("in"), *sizes, group=group)
    if not sum(sizes):
        assert sample_rows(folder, FILES, rows) == []
        return
    seen = drawn(folder, rows)
    groups = sum(-(-n // group) for n in sizes)
    assert 1 <= len(seen) <= rows + groups
    assert len(seen) == sum(sizes) or sum(sizes) > rows
    starts = dict(zip((f.path for f in folder.files), np.cumsum([0, *(f.rows for f in folder.files)]), strict=False))
    numbers = [starts[f] + r for f, r in zip(seen[FILE].to_pylist(), seen[ROW].to_pylist(), strict=True)]
    assert numbers == seen["user"].to_pylist()
    assert len(set(numbers)) == len(numbers)


def test_many_row_groups_and_files_cost_no_more_than_some_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "GROUPS", 8)
    rows = drawn(write(tmp_path, *[100] * 30, group=10), 60)
    names = sorted(set(rows[FILE].to_pylist()))
    assert len(names) <= 8
    assert names[0].endswith("0000.parquet")
    assert names[-1].endswith("0029.parquet")
    assert len(rows) <= 68


def test_wide_rows_make_the_sample_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "BYTES", 24 * 100)
    assert len(drawn(write(tmp_path, 1000, group=1000), 1000)) <= 150


def test_files_whose_types_differ_are_tables_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, 3, 4)
    table = pq.read_table(tmp_path / "0001.parquet")
    pq.write_table(table.set_column(0, "user", table["user"].cast(pa.int32())), tmp_path / "0001.parquet")
    assert [len(t) for t in sample_rows(inspected(tmp_path), FILES)] == [3, 4]


def test_baskets_are_drawn_whole_from_all_of_a_group_and_their_items_are_bounded(tmp_path: Path) -> None:
    n, items = 2000, 50
    table = pa.table(
        {
            "user": pa.array(np.arange(n)),
            "items": pa.array([[f"i{e}" for e in range(items)]] * n),
            "time": pa.array(np.arange(n), pa.timestamp("us")),
        }
    )
    pq.write_table(table, tmp_path / "baskets.parquet", row_group_size=1000)
    columns = {"user_id": "user", "item_id": "items[]", "timestamp": "time"}
    inspection = inspect(InputSource(name="purchases", path=str(tmp_path), columns=columns), FILES)
    assert (inspection.rows, inspection.unnested, inspection.rows_judged) == (n, n * (items - 1), n * items)
    rows = drawn(inspection, 5000)
    assert len(rows) == 5000
    assert set(Counter(rows["user"].to_pylist()).values()) == {items}
    assert max(rows["user"].to_pylist()) > 1000
    place = dict(zip(rows["user"].to_pylist(), rows[ROW].to_pylist(), strict=True))
    assert all(user == row for user, row in place.items())
    for table in batches("purchases", inspection.files[0], FILES, inspection.columns, rows=120):
        assert len(table) == 2 * items
