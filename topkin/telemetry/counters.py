"""Counts by kind and name, as a small table that workers emit and one place sums."""

from collections.abc import Iterable, Mapping

import pyarrow as pa

SCHEMA = pa.schema(
    [pa.field("kind", pa.string(), False), pa.field("name", pa.string(), False), pa.field("count", pa.int64(), False)]
)
CountsByKind = Mapping[str, Mapping[str, int]]


def counts_table(counts: CountsByKind) -> pa.Table:
    """The counts as rows kind, name, count."""
    rows = [(kind, name, int(n)) for kind, names in counts.items() for name, n in names.items()]
    return pa.table([pa.array([r[c] for r in rows], SCHEMA.field(c).type) for c in range(3)], schema=SCHEMA)


def sum_counts(tables: Iterable[pa.Table]) -> dict[str, dict[str, int]]:
    """The sum of tables of counts, in any order: kind -> name -> count."""
    summed: dict[str, dict[str, int]] = {}
    for table in tables:
        for row in table.to_pylist():
            names = summed.setdefault(row["kind"], {})
            names[row["name"]] = names.get(row["name"], 0) + row["count"]
    return summed
