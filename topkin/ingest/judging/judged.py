"""Rows of an input, cleaned as ``prepare`` cleans them to see what would be rejected."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from topkin.ingest.cleaning import LISTED_TWICE, Cleaned, one_of_each_id
from topkin.ingest.contract import InputSource
from topkin.ingest.files import FILE, ROW
from topkin.ingest.judging.limits import count_by_reason, examples_of
from topkin.ingest.judging.lookups import FIELDS, Lookup
from topkin.ingest.readers import escape_invalid_utf8
from topkin.ingest.sql import side_column


class CleaningPlan(Protocol):
    """How the rows of some inputs are cleaned."""

    @property
    def sources(self) -> Mapping[str, InputSource]:
        """The inputs by name."""

    @property
    def lookups(self) -> Mapping[str, Lookup]:
        """What rules over purchases ask, by side."""

    def clean(self, name: str, rows: pa.Table, lookups: Mapping[str, pa.Table] | None = None) -> Cleaned:
        """Clean rows of an input, with FILE and ROW."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What would become of some rows of an input.

    rows: how many were looked at. rejected: reason -> rows, the most frequent first. examples: reason -> a rejected
    value in words. nulls: column -> share of null after ``normalise``.
    """

    rows: int
    rejected: Mapping[str, int]
    examples: Mapping[str, str]
    nulls: Mapping[str, float]


def judged(name: str, rows: pa.Table, plan: CleaningPlan, lookups: Mapping[str, pa.Table]) -> Judged:
    """What ``prepare`` would make of rows of the input ``name``, read with FILE and ROW.

    lookups: the tables of the plan's look-ups, by side. Raises ConfigError where an expression cannot be asked.
    """
    source = plan.sources[name]
    readable = escape_invalid_utf8(rows.drop_columns([FILE, ROW])).rows
    if name in ("purchases", "heldout"):
        fields = [pa.field(side_column(s), look.schema.field(FIELDS).type) for s, look in plan.lookups.items()]
        source.rules.bound(pa.schema([*readable.schema, *fields]))
    cleaned = plan.clean(name, rows, lookups)
    rejects = cleaned.rejects
    if name in LISTED_TWICE:
        rejects = pa.concat_tables([rejects, one_of_each_id(cleaned.accepted, source).rejects])
    normalised = source.rules.normalised(readable)
    return Judged(
        rows=len(rows),
        rejected=count_by_reason(rejects),
        examples=examples_of(rejects, source),
        nulls={c: normalised[c].null_count / len(rows) for c in normalised.column_names},
    )


def merged(parts: Sequence[Judged]) -> Judged:
    """What was seen of several tables of one input; the first example of each reason stands."""
    rows = sum(part.rows for part in parts)
    rejected: Counter[str] = Counter()
    nulls: Counter[str] = Counter()
    for part in parts:
        rejected.update(part.rejected)
        nulls.update({column: share * part.rows for column, share in part.nulls.items()})
    return Judged(
        rows=rows,
        rejected=dict(rejected.most_common()),
        examples={reason: example for part in reversed(parts) for reason, example in part.examples.items()},
        nulls={column: n / rows for column, n in nulls.items()},
    )
