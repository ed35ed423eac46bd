"""How many tables become one."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from topkin.transforms import coders
from topkin.transforms.coders import MergeTables

SCHEMA = pa.schema({"name": pa.string(), "count": pa.int64()})


class Merge:
    """Sums counts by name, and keeps how many rows each call was given."""

    def __init__(self):
        self.rows = []

    def __call__(self, tables):
        rows = pa.concat_tables(tables)
        self.rows.append(len(rows))
        summed = rows.group_by("name", use_threads=False).aggregate([("count", "sum")])
        summed = summed.rename_columns({"count_sum": "count"}).select(SCHEMA.names)
        return summed.take(pc.sort_indices(summed["name"])).cast(SCHEMA)


def counts(**values: int) -> pa.Table:
    return pa.table({"name": list(values), "count": list(values.values())}, SCHEMA)


def combined(combine: MergeTables, bundles: list[list[pa.Table]]) -> pa.Table:
    accumulators = []
    for bundle in bundles:
        accumulator = combine.create_accumulator()
        for table in bundle:
            accumulator = combine.add_input(accumulator, table)
        accumulators.append(accumulator)
    return combine.extract_output(combine.merge_accumulators(iter(accumulators)))


@pytest.mark.parametrize(
    "bundles",
    [
        [[counts(b=1, a=2)]],
        [[counts(b=1, a=2)], [counts(a=5)]],
        [[counts(b=1), counts(a=7), counts(b=2)], [], [SCHEMA.empty_table()], [counts(a=1, c=1)]],
    ],
)
def test_tables_in_bundles_come_to_what_all_at_once_do(bundles):
    merge = Merge()
    every = [table for bundle in bundles for table in bundle if len(table)]
    assert combined(MergeTables(merge, SCHEMA), bundles).equals(Merge()(every))
    assert combined(MergeTables(merge, SCHEMA), [[]]).equals(SCHEMA.empty_table())


def test_no_more_is_held_at_once_than_some_rows_or_twice_what_they_come_to(monkeypatch):
    monkeypatch.setattr(coders, "_ROWS", 8)
    merge = Merge()
    bundles = [[counts(a=1, b=n, c=2)] for n in range(30)]
    assert combined(MergeTables(merge, SCHEMA), bundles) == counts(a=30, b=sum(range(30)), c=60)
    assert max(merge.rows) <= 3 + 8 + 3


def test_a_table_alone_is_merged_once():
    merge = Merge()
    assert combined(MergeTables(merge, SCHEMA), [[counts(b=1, a=1)]]) == counts(a=1, b=1)
    assert merge.rows == [2]
