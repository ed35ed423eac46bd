"""What replaces a column's values so that they are what a key means: the price of a piece, a yes or no."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from topkin.artifacts.ids import value_kind
from topkin.ingest.inference.available import availability
from topkin.ingest.inference.columns import (
    ColumnProfile,
    InferredColumn,
    SuggestedRule,
    name_words,
)
from topkin.ingest.inference.shop import amount_kind
from topkin.ingest.sql import quoted_if_needed

_MONEY_WORDS = (
    "total", "amount", "amt", "revenue", "sales", "value", "net", "gross", "sum", "extended", "turnover", "spend",
    "spent", "umsatz", "gesamtpreis",
)  # fmt: skip
_TAKEN_OFF = {"discount", "tax", "taxes", "shipping", "freight", "refunded", "order", "id"}


def infer_price(
    table: Sequence[ColumnProfile], sample: pa.Table, inferred: Sequence[InferredColumn]
) -> tuple[list[InferredColumn], list[SuggestedRule]]:
    """The columns with a price where only a total of the line has one, and what makes a total the price of a piece."""
    by_key = {c.key: c for c in inferred}
    if "quantity" not in by_key or "item_id" not in by_key:
        return list(inferred), []
    used = {c.column for c in inferred}
    candidates = [by_key["price"].column] if "price" in by_key else _totals(table, used)
    for column in candidates:
        kind = amount_kind(*(sample[c] for c in (by_key["item_id"].column, by_key["quantity"].column, column)))
        if kind is None:
            continue
        mark = "a total of the line" if kind.total else "of a piece"
        if "price" in by_key:
            columns = [replace(c, why=f"{c.why}; {mark}: {kind.why}") if c.key == "price" else c for c in inferred]
        else:
            columns = [*inferred, InferredColumn("price", column, f"{mark}: {kind.why}", "likely")]
        if not kind.total:
            return columns, []
        form = f"{{}} / nullif({quoted_if_needed(by_key['quantity'].column)}, 0)"
        return columns, [SuggestedRule.of(column, form, f"a total of the line: {kind.why}")]
    return list(inferred), []


def _totals(table: Sequence[ColumnProfile], used: set[str]) -> list[str]:
    """The columns that may hold the total of a line, by name, the likeliest first."""
    totals = []
    for column in table:
        words = name_words(column.name)
        places = [n for n, word in enumerate(_MONEY_WORDS) if word in words]
        number = value_kind(column.type) in ("integer", "float")
        if number and places and column.name not in used and not _TAKEN_OFF & set(words):
            totals.append((places[0], column.name))
    return [name for _, name in sorted(totals)]


def suggest_values(table: Sequence[ColumnProfile], inferred: Sequence[InferredColumn]) -> list[SuggestedRule]:
    """What makes a flag, a word or a count of stock the boolean that ``items.available`` is."""
    profiles = {column.name: column for column in table}
    rules = []
    for c in inferred:
        if c.key == "available" and (column := profiles.get(c.column)):
            _, why, form = availability(name_words(column.name), column.type, column.values)
            if form:
                rules.append(SuggestedRule.of(c.column, form, why))
    return rules


def suggest_fields(expressions: Mapping[str, str], inferred: Sequence[InferredColumn]) -> list[SuggestedRule]:
    """What makes a column of a field of a struct, or a time of its parts."""
    return [
        SuggestedRule(c.column, sql, "a time of its parts" if sql.startswith("make_") else "a field of a struct")
        for c in inferred
        if (sql := expressions.get(c.column)) is not None
    ]
