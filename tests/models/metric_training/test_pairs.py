"""Pairs of items: made of purchases as a loop over them would, numbered by rows, what is left out told."""

from collections import defaultdict
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.config.items_train import PairsSettings
from topkin.errors import InputError
from topkin.models.metric_training.pairs import made_pairs, read_pairs

DAY = 86_400_000_000


def purchases(seed: int, rows: int = 200) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "user_id": [f"u{n}" for n in rng.integers(0, 12, rows)],
            "item_id": rng.integers(0, 15, rows),
            "basket": rng.integers(0, 40, rows),
            "timestamp": pa.array(rng.integers(0, 60, rows) * DAY, pa.timestamp("us")),
        }
    )


def brute(table: pa.Table, made_by: str, days: float) -> dict[tuple[int, int], int]:
    groups: dict[tuple[int, int], set[Any]] = defaultdict(set)
    rows = table.to_pylist()
    for a, b in permutations(rows, 2):
        if a["item_id"] == b["item_id"]:
            continue
        gap = (b["timestamp"] - a["timestamp"]).total_seconds() / 86_400
        if made_by == "basket":
            group, other, near = a["basket"], b["basket"], True
        else:
            group, other = a["user_id"], b["user_id"]
            near = abs(gap) <= days if made_by == "user" else 0 < gap <= days
        if group == other and near:
            groups[tuple(sorted((a["item_id"], b["item_id"])))].add(group)  # type: ignore[index]
    return {pair: len(result) for pair, result in groups.items()}


@pytest.mark.parametrize("made_by", ["basket", "user", "after"])
@pytest.mark.parametrize("seed", range(3))
def test_pairs_of_purchases_are_those_of_a_loop(made_by: Any, seed: int) -> None:
    table = purchases(seed)
    pairs = made_pairs(table, PairsSettings(path="", made_by=made_by, days=10))
    got = {(row["first"], row["second"]): row["n"] for row in pairs.to_pylist()}
    assert got == brute(table, made_by, 10)


def test_pairs_that_come_too_seldom_are_none() -> None:
    table = purchases(0)
    twice = made_pairs(table, PairsSettings(path="", made_by="user", days=10, min_count=2))
    assert set(twice["n"].to_pylist()) <= set(range(2, 13))
    assert len(twice) == sum(n > 1 for n in brute(table, "user", 10).values())


def test_a_table_of_pairs_becomes_row_numbers_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "pairs.parquet")
    pq.write_table(pa.table({"first": ["a", "b", "b", "x", "c"], "second": ["b", "a", "c", "a", "c"]}), path)
    pairs, notes = read_pairs(PairsSettings(path=path), pa.array(["a", "b", "c"]))
    assert pairs.tolist() == [[0, 1], [1, 2]]
    assert notes == [
        "1 of 5 pairs name an item that is not prepared: left out",
        "1 pairs are of an item with itself: left out",
    ]


def test_a_missing_file_a_missing_column_and_ids_of_another_type_are_told(tmp_path: Path) -> None:
    path = str(tmp_path / "pairs.parquet")
    pq.write_table(pa.table({"first": ["a"], "secnd": ["b"]}), path)
    items = pa.array([1, 2])
    with pytest.raises(InputError, match="there is no file"):
        read_pairs(PairsSettings(path=str(tmp_path / "none.parquet")), items)
    with pytest.raises(InputError, match="did you mean 'secnd'"):
        read_pairs(PairsSettings(path=path), items)
    with pytest.raises(InputError, match="cast one of them"):
        read_pairs(PairsSettings(path=path, second="secnd"), items)
