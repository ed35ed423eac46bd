"""The columns that rules name: of items in the catalogue, of users in the histories."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas
from topkin.config.shop.rules import ListRules
from topkin.errors import ConfigError

PLAIN = ("category", "price")
"""Columns of the catalogue that a rule may name beside features."""


def item_columns(rules: ListRules) -> list[str]:
    """The columns of the catalogue that the rules read."""
    capacity = [rules.capacity] if isinstance(rules.capacity, str) else []
    eligible = [rule.item for rule in rules.eligible.values()]
    new = rules.new_items
    moments = filter(None, (rules.valid_from, rules.valid_to, new and new.column))
    named = [*rules.max_per, *rules.boost, *eligible, *moments, *capacity]
    sales = [] if new is None else ["events", "first_sale"]
    return list(dict.fromkeys([*sales, *(name if name in PLAIN else "features" for name in named)]))


def user_columns(rules: ListRules) -> list[str]:
    """The columns of the histories that the rules read."""
    named = [rule.user for rule in rules.eligible.values()]
    return list(dict.fromkeys(name if name == "segment" else "features" for name in named))


def column(table: pa.Table, name: str) -> pa.Array:
    """A column of the catalogue or the histories, or one of their features; null where the table has none."""
    if name in (*PLAIN, "segment"):
        return _one(table[name])
    return pc.struct_field(_one(table["features"]), [name])


def labels(table: pa.Table, name: str, key: str) -> pa.DictionaryArray:
    """A column as labels, one a row; a number is one too. Raises ConfigError, with the key, where it holds others."""
    values = column(table, name)
    if not (pa.types.is_string(values.type) or pa.types.is_floating(values.type)):
        raise ConfigError(
            f"{key} must name a column with one label a row, {name} is {_named(values.type)}: keep one of them"
        )
    return values.dictionary_encode()


def codes(values: pa.DictionaryArray) -> np.ndarray:
    """The number of each row's label, (n,) int32; -1 for none."""
    return np.asarray(pc.fill_null(values.indices, -1)).astype(np.int32)


def numbers(table: pa.Table, name: str, key: str) -> np.ndarray:
    """A column of numbers, (n,) float64; NaN for none. Raises ConfigError, with the key, where it holds others."""
    values = column(table, name)
    if not pa.types.is_floating(values.type):
        raise ConfigError(f"{key} must name a column of numbers, {name} is {_named(values.type)}")
    return np.asarray(values.to_numpy(zero_copy_only=False)).astype(np.float64)


def times(table: pa.Table, name: str) -> np.ndarray:
    """A column of times, (n,) datetime64[us]; NaT for none."""
    return np.asarray(column(table, name)).astype("datetime64[us]")


def label_lists(table: pa.Table, name: str, key: str) -> tuple[np.ndarray, pa.Array]:
    """The rows and labels of a column of labels or lists of them, (m,) int64 and (m,) string. Raises ConfigError."""
    values = column(table, name)
    if pa.types.is_floating(values.type):
        values = pc.cast(values, pa.string())
    if values.type == schemas.LABELS:
        return np.asarray(pc.list_parent_indices(values)).astype(np.int64), pc.list_flatten(values)
    if not pa.types.is_string(values.type):
        raise ConfigError(f"{key} must name a column of labels or of lists of them, {name} is {_named(values.type)}")
    return np.flatnonzero(np.asarray(pc.is_valid(values))), values.drop_null()


def _named(t: pa.DataType) -> str:
    return "a list of labels" if t == schemas.LABELS else "a time" if t == schemas.TIME else str(t)


def _one(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    return (
        pa.concat_arrays(values.chunks or [pa.array([], values.type)])
        if isinstance(values, pa.ChunkedArray)
        else values
    )


def rows_of(codes_of_user: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows of some columns, (g, columns), and the number of each row's, (n,) int64."""
    distinct, number = np.unique(np.stack(codes_of_user, axis=1), axis=0, return_inverse=True)
    return distinct, number.reshape(-1)
