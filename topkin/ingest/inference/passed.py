"""The columns that were passed over, each with the reason in a line."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import pyarrow as pa

from topkin.artifacts.ids import storage
from topkin.ingest.inference.columns import (
    CONTRARY_WORDS,
    KEY_WORDS,
    ColumnProfile,
    InferredColumn,
    content_score,
    name_score,
    name_words,
)
from topkin.ingest.inference.nested import nested_advice


class PassedOver(NamedTuple):
    """A column that no key reads, and why."""

    column: str
    why: str


def passed_over(
    schema: pa.Schema, table: Sequence[ColumnProfile], inferred: Sequence[InferredColumn], used: Collection[str]
) -> list[PassedOver]:
    """The columns of a schema that are not ``used``, in order."""
    profiles = {column.name: column for column in table}
    inferred = [c for c in inferred if c.key in KEY_WORDS]  # an order is told by more than a name
    passed = []
    for field in schema:
        if field.name not in used:
            profile = profiles.get(field.name)
            nested = pa.types.is_nested(storage(field.type))
            why = nested_advice(field.name, field.type) if nested or profile is None else _why(profile, inferred)
            passed.append(PassedOver(field.name, why))
    return passed


def _why(column: ColumnProfile, inferred: Sequence[InferredColumn]) -> str:
    kind = str(storage(column.type))
    if not len(column.values):
        return "null in every row looked at"
    if column.distinct == 1:
        return f"the same in every row that has it: {str(column.values[0].as_py())[:40]}"
    best: tuple[float, str, str] | None = None
    for c in inferred:
        by_name, by_content = name_score(c.key, column.name), content_score(c.key, column)[0]
        if by_name > 0 and by_content > 0 and (best is None or by_name > best[0]):
            best = (by_name, c.key, c.column)
    if best:
        return f"{kind}, second to {best[2]} as {best[1]}"
    facts = f"{kind}, {column.distinct:,} different"
    words = name_words(column.name)
    for c in inferred:
        against = [word for word in words if word in CONTRARY_WORDS[c.key]]
        if against and any(word in words for word in KEY_WORDS[c.key]):
            return f"{facts}; no {c.key}, for its name says {against[0]}"
    return f"{facts}; no key takes it"
