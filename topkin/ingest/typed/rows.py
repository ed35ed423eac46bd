"""Accepted events of several types: the columns beside those of purchases, and what becomes of a user's."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas
from topkin.config.shop.events import EventType
from topkin.errors import nearest_name
from topkin.ingest.typed.returns import taken_back
from topkin.interactions import INPUTS

EVENT, WEIGHT, ORDER_ID = "__event", "__weight", "__order_id"
"""Columns of accepted events: the number of the type, what the event weighs, the order that it belongs to."""

COLUMNS = schemas.schema(ORDER_ID, **{EVENT: pa.int8(), WEIGHT: pa.float32(), ORDER_ID: pa.string()})


class TypeCodes(NamedTuple):
    """The number of each row's type, (n,) int8, 0 where it has none, and which rows to reject for a reason."""

    codes: np.ndarray
    rejected: Sequence[tuple[np.ndarray, str]]


def type_codes(column: str, labels: pa.Array | pa.ChunkedArray, types: Sequence[EventType]) -> TypeCodes:
    """Of the values of a column the types of the purchases' log.

    A value that is no type is told with the type that it is near; all those that are near none, together.
    """
    own = {t.name: number for number, t in enumerate(types) if t.source == "purchases"}
    labels = labels.combine_chunks() if isinstance(labels, pa.ChunkedArray) else labels
    codes = np.asarray(pc.fill_null(pc.index_in(labels, pa.array(list(own), pa.string())), -1))
    null = np.asarray(pc.is_null(labels)).astype(bool)
    rejected = [(null, f"{column} is null")]
    if unknown := pc.unique(labels.filter(pa.array((codes < 0) & ~null))).to_pylist():
        near = {value: nearest_name(value, own) for value in unknown}
        for value in sorted(v for v in unknown if near[v]):
            where = np.asarray(pc.fill_null(pc.equal(labels, value), False)).astype(bool)
            rejected.append((where, f"{column} is {value!r}, no type of purchases.event_weights: {near[value]!r}?"))
        rejected.append((codes < 0, f"{column} is no type of purchases.event_weights"))
    return TypeCodes(np.asarray([*own.values()], np.int8)[np.maximum(codes, 0)], rejected)


class TypedEvents(NamedTuple):
    """The events of some users: purchases, inputs, and how many rows of each type there are, (n_types,) each.

    purchases: ``schemas.events`` of what counts as bought and was not taken back. inputs: rows with COLUMNS that
    histories pool. counts: rows. netted: purchases that were taken back, and returns that took one.
    """

    purchases: pa.Table
    inputs: pa.Table
    counts: np.ndarray
    netted: np.ndarray


def part_events(events: pa.Table, types: Sequence[EventType]) -> TypedEvents:
    """Events of whole users, sorted by user and time, as what they are to a run.

    Raises no error: a return without a purchase before it takes nothing back.
    """
    codes = np.asarray(events[EVENT]).astype(np.int64)
    counts = np.bincount(codes, minlength=len(types))
    target, pooled, back = (
        np.array(flags)[codes] if len(codes) else np.zeros(0, bool)
        for flags in ([t.is_target for t in types], [t.is_input for t in types], [t.role == "return" for t in types])
    )
    gone = took = np.zeros(len(codes), bool)
    if back.any():
        gone, took = taken_back(events, target, back, ORDER_ID)
    netted = np.bincount(codes[gone | took], minlength=len(types))
    purchases = events.filter(pa.array(target & ~gone)).drop_columns(COLUMNS.names).combine_chunks()
    weights = np.asarray(events[WEIGHT])
    return TypedEvents(purchases, events.filter(pa.array(pooled & ~gone & (weights > 0))), counts, netted)


def before_heldout(inputs: pa.Table, heldout: pa.Table) -> pa.Table:
    """Inputs without those from the moment on at which something of their user is held out."""
    if not len(heldout):
        return inputs
    first = heldout.group_by("user_id", use_threads=False).aggregate([("timestamp", "min")])
    row = pc.index_in(inputs["user_id"], value_set=first["user_id"].combine_chunks())
    end = first["timestamp_min"].take(row)
    return inputs.filter(pc.fill_null(pc.less(inputs["timestamp"], end), True))


def with_inputs(histories: pa.Table, inputs: pa.Table, types: Sequence[EventType]) -> pa.Table:
    """Histories with the columns INPUTS: the items, times, weights and types of the inputs of each user.

    histories: ``schemas.histories`` of all users of the inputs. inputs: sorted by user and time.
    """
    names = pa.array([t.name for t in types], pa.string()).take(inputs[EVENT].combine_chunks())
    values = [inputs[name].combine_chunks() for name in ("item_id", "timestamp", WEIGHT)]
    return _with_lists(histories, inputs["user_id"], [*values, names])


def with_earlier_inputs(histories: pa.Table, now: pa.Table, cut: datetime) -> pa.Table:
    """Histories as of a date, with the inputs before it where those of now have some.

    histories: ``schemas.histories``. now: user_id and INPUTS, of those users and others, sorted likewise.
    """
    if INPUTS[0] not in now.column_names:
        return histories
    lengths = np.asarray(pc.list_value_length(now[INPUTS[0]])).astype(np.int64)
    users = now["user_id"].take(pa.array(np.repeat(np.arange(len(now)), lengths)))
    values = [pc.list_flatten(now[name]).combine_chunks() for name in INPUTS]
    known = pc.is_in(users, value_set=histories["user_id"].combine_chunks()).combine_chunks()
    keep = pc.and_(known, pc.less(values[1], pa.scalar(cut, schemas.TIME)))
    return _with_lists(histories, users.filter(keep), [v.filter(keep) for v in values])


def _with_lists(histories: pa.Table, users: pa.ChunkedArray, values: Sequence[pa.Array]) -> pa.Table:
    """Histories with INPUTS from the values of each; users: of each value, in the order of the histories."""
    user = pc.index_in(users, value_set=histories["user_id"].combine_chunks())
    offsets = np.zeros(len(histories) + 1, np.int32)
    np.cumsum(np.bincount(np.asarray(user).astype(np.int64), minlength=len(histories)), out=offsets[1:])
    item = histories.schema.field("items").type.value_type
    for field, column in zip(schemas.inputs(item), values, strict=True):
        lists = pa.ListArray.from_arrays(pa.array(offsets), column).cast(field.type)
        histories = histories.append_column(field, lists)
    return histories


assert tuple(schemas.inputs(pa.int64()).names) == INPUTS
