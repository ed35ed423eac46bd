"""Tables without some users: their rows, and the rows in which another user's names them."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.privacy.forgotten import REASON, Forgotten

USER, NEIGHBOUR, RANK, RECORD = "user_id", "neighbour_id", "rank", "record"
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
        shows = np.array([_shows(record, forgotten) for record in table[RECORD].to_pylist()], bool)
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


def _shows(record: str, forgotten: Forgotten) -> bool:
    """Whether a value of a record is the id of one of them."""
    try:
        values = json.loads(record)
    except ValueError:
        return True  # what cannot be read cannot be cleared of it
    return any(forgotten.among(pa.array([text])).any() for text in _texts(values))


def _texts(value: Any) -> list[str]:
    """Every value within, as text."""
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    if isinstance(value, float) and value.is_integer():
        return [str(int(value))]  # an id may come as a float
    return [] if value is None else [str(value)]
