"""Tables without some users: their rows, and the rows in which another user's names them."""

import json
import re
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.privacy.forgotten import REASON, Forgotten

USER, NEIGHBOUR, RANK, RECORD = "user_id", "neighbour_id", "rank", "record"
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_ESCAPED = re.compile(rb"\\x([0-9A-Fa-f]{2})")
"""A byte of a binary id, as DuckDB writes it into a record's JSON."""
NOTHING = "{}"
"""What a reject of a user that was forgotten shows of its row."""


def without_users(table: pa.Table, forgotten: Forgotten, *, neighbours_are_users: bool = False) -> pa.Table:
    """A table of a run without some users.

    Args:
        table: Any table of :mod:`topkin.artifacts.schemas`.
        forgotten: Who they are.
        neighbours_are_users: Whether ``neighbour_id`` names users. Rows that name one of them go too, and the ranks of
            what is left are counted anew.

    Returns:
        The rows that are left, in their order; a record of a reject that shows one of them is emptied.
    """
    if USER in table.column_names:
        table = table.filter(pa.array(~forgotten.among(table[USER])))
    if neighbours_are_users and NEIGHBOUR in table.column_names:
        named = forgotten.among(table[NEIGHBOUR])
        if named.any():
            table = _ranked_anew(table.filter(pa.array(~named)))
    if RECORD in table.column_names and len(table):
        shows = shown(table[RECORD], forgotten)
        if shows.any():
            records = pc.if_else(pa.array(shows), NOTHING, table[RECORD])
            reasons = pc.if_else(pa.array(shows), REASON, table["reason"])
            for name, column in ((RECORD, records), ("reason", reasons)):
                at = table.schema.get_field_index(name)
                table = table.set_column(at, table.schema.field(name), column)
    return table


def _ranked_anew(table: pa.Table) -> pa.Table:
    """Ranks from 1 for each user; the rows are sorted by user and rank."""
    users = table[USER].combine_chunks()
    n = len(users)
    first = np.ones(n, bool)
    if n > 1:
        first[1:] = np.asarray(pc.not_equal(users[1:], users[:-1]))
    start = np.maximum.accumulate(np.where(first, np.arange(n), 0)) if n else np.zeros(0, np.int64)
    at = table.schema.get_field_index(RANK)
    ranks = pa.array((np.arange(n) - start + 1).astype(np.int32))
    return table.set_column(at, table.schema.field(RANK), ranks)


def shown(records: pa.ChunkedArray, forgotten: Forgotten) -> np.ndarray:
    """Which records of rejects, texts of JSON, show the id of one of them, (n,) bool.

    One that cannot be read does too: it cannot be cleared of an id.
    """
    shows, values, rows = np.zeros(len(records), bool), list[bytes](), list[int]()
    for row, record in enumerate(records.to_pylist()):
        try:
            inside = _ids(json.loads(record))
        except ValueError:
            shows[row] = True
            continue
        values += inside
        rows += [row] * len(inside)
    shows[np.array(rows, np.int64)[forgotten.among(pa.array(values, pa.binary()))]] = True
    return shows


def _ids(value: Any) -> list[bytes]:
    """Every value within, as the bytes of the ids that it may be."""
    if isinstance(value, dict):
        return [one for inner in value.values() for one in _ids(inner)]
    if isinstance(value, list):
        return [one for inner in value for one in _ids(inner)]
    if isinstance(value, float) and value.is_integer():
        return [str(int(value)).encode()]  # an id may come as a float
    if not isinstance(value, str):
        return [] if value is None else [str(value).encode()]
    raw = value.encode("utf-8", "surrogatepass")
    if _UUID.fullmatch(value):
        return [raw, UUID(value).bytes]
    return [raw, _ESCAPED.sub(lambda byte: bytes([int(byte[1], 16)]), raw)] if "\\x" in value else [raw]
