"""Purchases without a time: what they have in its place."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import value_kind
from topkin.config.purchases import ROW_ORDER
from topkin.errors import ConfigError
from topkin.ingest.folders.dates import time_expression
from topkin.ingest.inference.columns import (
    ColumnProfile,
    InferredColumn,
    SuggestedRule,
    content_score,
    name_score,
    name_words,
    unread_time,
)
from topkin.ingest.sql import Expression, query

_ORDER_WORDS = {
    *("order", "position", "pos", "seq", "sequence", "step", "index", "idx", "row", "nr", "number", "no", "event"),
    *("invoice", "receipt", "basket", "transaction", "session", "visit", "bill", "ticket"),
}
_WITHIN_WORDS = {
    *("cart", "line", "item", "product", "sku", "qty", "quantity", "count", "num", "size", "price", "rank"),
    *("rating", "stars", "store", "customer", "user", "type", "status", "category"),
}
"""Words of what tells rows of one basket apart, or is no order at all."""
_ROWS = 100_000  # looked at
_RISING = 0.99  # share of rows that are not below the one before: exports are not sorted to the last row
_DIGITS = "TRY_CAST(regexp_extract({}, '[0-9]+') AS BIGINT)"


class TimeOfParts(NamedTuple):
    """A time that stands in several columns: its SQL expression over the row, and its values."""

    expression: str
    values: pa.ChunkedArray


def time_of_parts(rows: pa.Table) -> TimeOfParts | None:
    """The time that columns for year, month and day make; None where there is none, or its name is taken."""
    expression = time_expression(rows.schema)
    if expression is None or "timestamp" in (name.lower() for name in rows.column_names):
        return None
    try:
        values = Expression("purchases.normalise.timestamp", expression).evaluate(rows)
    except ConfigError:  # their numbers are no dates
        return None
    return TimeOfParts(expression, values)


def has_time(table: Sequence[ColumnProfile]) -> bool:
    """Whether some column of a table reads as a time, or its name says that it should."""
    for column in table:
        content, name = content_score("timestamp", column)[0], name_score("timestamp", column.name)
        if content > 0 and (name > 0 or content >= 0.8 > -name):
            return True
    return unread_time(table) is not None


class Order(NamedTuple):
    """The column that orders purchases without times, and the expression that makes a number of it, where it is text.

    The column is ``row`` where none does.
    """

    column: InferredColumn
    rule: SuggestedRule | None = None


def infer_order(rows: pa.Table, columns: Sequence[InferredColumn]) -> Order:
    """What orders the purchases of a sample, whose rows stand in the order of the files.

    columns: those inferred, user_id among them, which are not asked. A column of whole numbers that are not the same in
    all rows of a user does where it rises with the rows, or counts each user's from 0 or 1, or where its name says so;
    so does a text such as C1234 with the name of an order. By each alone it may; most of them together win.
    """
    used = {c.column for c in columns}
    user = next(c.column for c in columns if c.key == "user_id")
    rows = rows.slice(0, _ROWS)
    best: tuple[float, Order] | None = None
    for name in rows.column_names:
        if name not in used and (judged := _judged(rows, user, name)) is not None:
            best = judged if best is None or judged[0] > best[0] else best
    if best is not None:
        return best[1]
    why = "no column reads as a time or an order: files by name and their rows, if that is how they were sold"
    return Order(InferredColumn("order", ROW_ORDER, why, "a guess"))


def chosen_order(name: str, rows: pa.Table) -> Order:
    """The order that the user named: ``row``, or a column. Raises ConfigError where there is none of the name."""
    if name != ROW_ORDER and name not in rows.column_names:
        raise ConfigError(
            f"--column order={name}: there is no column {name!r}, the columns are {', '.join(rows.column_names)}; "
            '"row" is the order of files and rows'
        )
    return Order(InferredColumn("order", name, "you said so", "said"))


def _judged(rows: pa.Table, user: str, name: str) -> tuple[float, Order] | None:
    """How much speaks for a column, and the order by it; None where too little does."""
    words, kind = set(name_words(name)), value_kind(rows.schema.field(name).type)
    named = bool(words & _ORDER_WORDS) and not words & _WITHIN_WORDS
    rule = None
    if kind == "integer":
        numbers = rows[name]
    elif kind == "text" and named:
        rule = SuggestedRule.of(name, _DIGITS, "the number in it orders the purchases")
        numbers = query(f"SELECT {rule.expression} AS n FROM rows", rows.select([name]))["n"]
    else:
        return None
    if numbers.null_count or not len(numbers) or pc.min_max(numbers)["min"] == pc.min_max(numbers)["max"]:
        return None
    order = np.asarray(numbers).astype(np.float64)
    codes = rows[user].combine_chunks().dictionary_encode().indices
    users = np.asarray(pc.fill_null(codes, -1)).astype(np.int64)
    by_user = np.lexsort((np.arange(len(order)), users))
    u, o = users[by_user], order[by_user]
    same = u[1:] == u[:-1]
    if not same.any() or not np.any(same & (o[1:] != o[:-1])):
        return None  # tells nothing of a user's purchases apart
    rises = bool(np.mean(np.diff(order) >= 0) >= _RISING)
    within = bool(np.mean(o[1:][same] >= o[:-1][same]) >= _RISING)
    counts = within and _counts(users, order)
    score = 1.0 * named + 1.0 * rises + 0.75 * (within and not rises) + 0.5 * counts - 2.0 * bool(words & _WITHIN_WORDS)
    if score < (1.0 if kind == "integer" else 1.5):
        return None
    reasons = [
        *(["by its name"] if named else []),
        *(["it rises with the rows"] if rises else ["it rises with the rows of each user"] if within else []),
        *(["it counts each user's"] if counts else []),
    ]
    why = f"no column reads as a time; {', '.join(reasons)}; purchases of one number are one basket"
    return score, Order(InferredColumn("order", name, why, "sure" if score >= 2 else "likely"), rule)


def _counts(users: np.ndarray, order: np.ndarray) -> bool:
    """Whether most users' numbers are 0 or 1 and those after it, none left out."""
    rows = pa.table({"user": users, "n": order})
    sql = "SELECT min(n) AS low, max(n) - min(n) + 1 = count(DISTINCT n) AS whole FROM rows GROUP BY user"
    seen = query(f"SELECT avg(CASE WHEN whole AND low IN (0, 1) THEN 1 ELSE 0 END) AS share FROM ({sql})", rows)
    return bool(seen["share"][0].as_py() >= 0.9)
