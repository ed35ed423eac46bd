"""What a user did with the items that are named as reasons: bought, viewed or another type of event."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas
from topkin.interactions import INPUTS

NAME = schemas.BECAUSE_EVENTS.name


def with_event_names(recommendations: pa.Table, histories: pa.Table) -> pa.Table:
    """``schemas.recommendations`` with the last column ``because_events`` where histories have inputs.

    Of several events with an item that of the greatest weight is named, of equals the latest; null for an item that is
    a reason and no input: it was bought.
    """
    if INPUTS[0] not in histories.column_names:
        return recommendations
    reasons = recommendations["because"].combine_chunks()
    reasons = reasons if isinstance(reasons, pa.Array) else pa.array([], recommendations["because"].type)
    lengths = np.asarray(pc.list_value_length(reasons)).astype(np.int64)
    user = pc.index_in(recommendations["user_id"], value_set=histories["user_id"].combine_chunks())
    events = strongest_events(histories, np.repeat(np.asarray(user), lengths), pc.list_flatten(reasons))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return recommendations.append_column(schemas.BECAUSE_EVENTS, pa.ListArray.from_arrays(offsets, events))


def strongest_events(histories: pa.Table, rows: np.ndarray, items: pa.Array) -> pa.Array:
    """The type of the strongest event of each (row of histories, item), (n,) strings; null where none is an input."""
    names, times, weights, kinds = (pc.list_flatten(histories[name]).combine_chunks() for name in INPUTS)
    lengths = np.asarray(pc.list_value_length(histories[INPUTS[0]])).astype(np.int64)
    users = np.repeat(np.arange(len(histories)), lengths)
    among = names.unique()
    key = users * (len(among) + 1) + np.asarray(pc.index_in(names, value_set=among)).astype(np.int64)
    order = np.lexsort((np.arange(len(key)), np.asarray(times.cast(pa.int64())), np.asarray(weights), key))
    asked = np.asarray(pc.fill_null(pc.index_in(items, value_set=among), len(among))).astype(np.int64)
    asked = rows.astype(np.int64) * (len(among) + 1) + asked
    at = np.searchsorted(key[order], asked, side="right") - 1
    strongest = np.full(len(asked), -1)
    if len(order):
        there = (at >= 0) & (key[order][at] == asked)
        strongest = np.where(there, order[at], -1)
    return kinds.take(pa.array(strongest, mask=strongest < 0))
