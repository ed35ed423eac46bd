"""What published lists showed is what a loop over their rows finds, however many parts they have."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import storage
from topkin.artifacts.partition import partition_of
from topkin.recommend.rules.shown import shown_items


def write(folder: Path, rows: list[tuple[str, str]], parts: int) -> str:
    users = pa.array([user for user, _ in rows])
    numbers = partition_of(users, parts)
    for part in range(parts):
        mine = [row for row, number in zip(rows, numbers, strict=True) if number == part]
        table = pa.table({"user_id": pa.array([u for u, _ in mine], pa.string()),
                          "item_id": pa.array([i for _, i in mine], pa.string())})  # fmt: skip
        storage.write_parquet(table, str(folder / storage.part_name(part, parts)))
    return str(folder)


@pytest.mark.parametrize("tonight", [1, 3])
def test_lists_of_any_parts_are_read(tmp_path: Path, tonight: int) -> None:
    rng = np.random.default_rng(5)
    rows = [(f"u{rng.integers(12)}", f"i{rng.integers(9)}") for _ in range(60)]
    folders = [write(tmp_path / "one", rows[:30], 1), write(tmp_path / "three", rows[30:], 3)]
    items = pa.array([f"i{n}" for n in range(1, 9)])  # i0 is gone tonight
    users = pa.array([f"u{n}" for n in range(14)])  # two were never shown anything
    for part in range(tonight):
        mine = users.filter(pa.array(partition_of(users, tonight) == part))
        shown = shown_items(folders, part, tonight, mine, items)
        for row, user in enumerate(mine.to_pylist()):
            got = shown.indices[shown.indptr[row] : shown.indptr[row + 1]].tolist()
            assert got == sorted({int(i[1:]) - 1 for u, i in rows if u == user and i != "i0"})


def test_ids_of_another_type_are_others(tmp_path: Path) -> None:
    folder = write(tmp_path / "texts", [("1", "2")], 1)
    shown = shown_items([folder], 0, 1, pa.array([1]), pa.array(["2"]))
    assert len(shown.indices) == 0
    assert shown_items([], 0, 1, pa.array([1]), pa.array([2])).n_rows == 1
