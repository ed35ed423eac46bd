from datetime import datetime, time, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts.partition import hash_ids, hash_rows, in_first_half, in_sample, partition_of, split_by_partition

MASK = 2**64 - 1


def naive(value: int | str | bytes) -> int:
    """The definition, in Python's integers."""
    if isinstance(value, int):
        h = value & MASK
    else:
        data = value.encode() if isinstance(value, str) else value
        h = sum((b + 1) * pow(0x9E3779B97F4A7C15, i, 2**64) for i, b in enumerate(data)) + len(data)
    h &= MASK
    h = ((h ^ (h >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    h = ((h ^ (h >> 27)) * 0x94D049BB133111EB) & MASK
    return h ^ (h >> 31)


@given(st.lists(st.text(max_size=12)), st.integers(0, 5))
def test_a_string_hashes_as_its_definition_wherever_it_is_sliced(values: list[str], at: int) -> None:
    for kind in (pa.string(), pa.large_string()):
        array = pa.array(values, kind).slice(min(at, len(values)))
        assert hash_ids(array).tolist() == [naive(v) for v in array.to_pylist()]


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_an_integer_hashes_as_its_definition(values: list[int]) -> None:
    assert hash_ids(pa.array(values, pa.int64())).tolist() == [naive(v) for v in values]


def test_the_hash_never_changes() -> None:
    # the partition of a stored id must be the same in every later version
    assert hash_ids(pa.array(["17850", "", "é"])).tolist() == [naive("17850"), naive(""), naive("é")]
    assert partition_of(pa.array([0, 1, -1, 17850], pa.int64()), 1000).tolist() == GOLDEN_INTEGERS
    assert partition_of(pa.array(["", "a", "17850", "85123A", "é"]), 1000).tolist() == GOLDEN_STRINGS


GOLDEN_INTEGERS = [0, 789, 67, 542]
GOLDEN_STRINGS = [0, 441, 65, 741, 14]


def test_a_string_and_its_bytes_share_a_partition() -> None:
    assert hash_ids(pa.array([b"ab", b"\x00"])).tolist() == hash_ids(pa.array(["ab", "\x00"])).tolist()


def test_blocks_and_chunks_do_not_matter() -> None:
    ids = pa.array([f"user{i}" for i in range(70_000)])
    chunked = pa.chunked_array([ids.slice(0, 7), ids.slice(7, 0), ids.slice(7)])
    np.testing.assert_array_equal(hash_ids(ids), hash_ids(chunked))
    assert hash_ids(ids[66_000:66_001])[0] == hash_ids(ids)[66_000]


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(np.arange(100_000)),
        pa.array(np.arange(0, 100_000 * 4096, 4096)),
        pa.array([f"{i:08d}" for i in range(100_000)]),
        pa.array([f"customer-{i}@example.org" for i in range(100_000)]),
    ],
)
def test_partitions_are_even(ids: pa.Array) -> None:
    for parts in (2, 8, 7):
        counts = np.bincount(partition_of(ids, parts), minlength=parts)
        assert abs(counts / (100_000 / parts) - 1).max() < 0.05


def test_split_keeps_every_row_once_and_in_order() -> None:
    ids = pa.array([i % 50 for i in range(1000)], pa.int64())
    table = pa.table({"user_id": ids, "n": np.arange(1000)})
    parts = split_by_partition(table, "user_id", 7)
    assert sorted(n for t in parts.values() for n in t["n"].to_pylist()) == list(range(1000))
    for p, t in parts.items():
        assert t["n"].to_pylist() == sorted(t["n"].to_pylist())
        assert set(partition_of(t["user_id"], 7)) == {p}
    assert split_by_partition(table, "user_id", 1)[0].equals(table)
    assert split_by_partition(table.slice(0, 0), "user_id", 3) == {}


def test_misuse_says_what_came() -> None:
    with pytest.raises(TypeError, match="got double"):
        partition_of(pa.array([1.0]), 2)
    with pytest.raises(ValueError, match="got 1 nulls"):
        partition_of(pa.array([1, None], pa.int64()), 2)
    with pytest.raises(ValueError, match="got 0"):
        partition_of(pa.array([1], pa.int64()), 0)


MIDNIGHT = datetime(2010, 12, 1)


@pytest.mark.parametrize(
    ("value", "kinds"),
    [
        (7, [pa.int8(), pa.int64(), pa.uint64(), pa.dictionary(pa.int8(), pa.int32())]),
        (1.5, [pa.float32(), pa.float64()]),
        ("a", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]),
        (b"ab", [pa.binary(), pa.large_binary(), pa.binary(2)]),
        (MIDNIGHT, [pa.timestamp("s"), pa.timestamp("us"), pa.timestamp("ns"), pa.date32()]),
        (True, [pa.bool_()]),
        (Decimal("1.50"), [pa.decimal128(10, 2)]),
        (time(8), [pa.time32("s"), pa.time64("us")]),
        (timedelta(1), [pa.duration("s"), pa.duration("ns")]),
    ],
)
def test_equal_values_of_any_type_make_equal_rows(value: object, kinds: list[pa.DataType]) -> None:
    rows = [hash_rows(pa.table({"a": pa.array([value, None, value], k)})).tolist() for k in kinds]
    assert all(r == rows[0] for r in rows)
    assert rows[0][0] == rows[0][2] != rows[0][1]


def test_rows_differ_where_a_value_a_null_or_the_column_does() -> None:
    rows = pa.table({"a": ["", None, "x", "", "y"], "b": [0, 0, 0, None, 0], "c": [0.0, -0.0, float("nan"), 0.0, 0.0]})
    assert len(set(hash_rows(rows).tolist())) == 5
    swapped = hash_rows(pa.table({"a": [1, 2], "b": [2, 1]})).tolist()
    assert swapped[0] != swapped[1]
    zeros = hash_rows(pa.table({"c": [0.0, -0.0]})).tolist()
    assert zeros[0] == zeros[1]


def test_nested_columns_are_refused() -> None:
    with pytest.raises(TypeError, match="column 'tags' must hold single values"):
        hash_rows(pa.table({"tags": [[1]]}))


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_either_half_of_the_ids_is_about_half_of_every_partition(parts: int) -> None:
    ids = pa.array([f"user {n}" for n in range(4000)])
    first, part = in_first_half(ids), partition_of(ids, parts)
    assert first.tolist() == [naive(i) < 2**63 for i in ids.to_pylist()]
    shares = [first[part == p].mean() for p in range(parts)]
    assert 0.4 < min(shares) <= max(shares) < 0.6


def test_a_sample_is_about_its_share_of_every_partition_and_half_and_holds_the_smaller_ones() -> None:
    ids = pa.array([f"user {n}" for n in range(4000)])
    part, half = partition_of(ids, 5), in_first_half(ids)
    drawn = {share: in_sample(ids, share, seed=7) for share in (0.2, 0.6, 1.0)}
    assert drawn[1.0].all()
    assert not (drawn[0.2] & ~drawn[0.6]).any()
    for inside in (*(part == p for p in range(5)), half, ~half):
        assert 0.14 < drawn[0.2][inside].mean() < 0.26
    other = in_sample(ids, 0.2, seed=8)
    assert 0.01 < (other & drawn[0.2]).mean() < 0.08
    assert in_sample(ids.slice(17, 9), 0.6, seed=7).tolist() == drawn[0.6][17:26].tolist()
