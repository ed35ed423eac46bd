"""Features of items or users as rows of one table: each label has a row, each number lies between two.

Row 0 stands for nothing known. A number's row is a blend of the two knots beside it, so that what is learned of it is
piecewise linear; knots are quantiles, so that every piece has data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas
from topkin.errors import ArtifactError

KNOTS = 16
LISTED = 12  # labels of a list that are read
MOST_LABELS = 65_536  # of a feature, the most frequent


@dataclass(frozen=True)
class FeatureRows:
    """How a column ``features`` of ``schemas.catalogue`` or ``schemas.histories`` is read.

    features: of each its name, and ``labels`` (strings) or ``knots`` (ascending numbers).
    """

    features: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, table: pa.Table) -> "FeatureRows":
        """Learn labels and knots from a table; none where it has no column ``features``.

        A label that one row alone has tells nothing of another one, and is left out; so are features for rules alone.
        """
        if "features" not in table.column_names:
            return cls()
        learned = [(field, values) for field, values in _columns(table) if not _for_rules(field)]
        return cls(tuple(_learned(field, values) for field, values in learned))

    @property
    def size(self) -> int:
        """Rows beside row 0."""
        return sum(self._sizes)

    @cached_property
    def _sizes(self) -> list[int]:
        return [len(f["labels"] if "labels" in f else f["knots"]) for f in self.features]

    def read(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """The rows of each row's features, (n, width) int32 padded with 0, and their shares, float32.

        The shares of a feature add up to 1 where it is known. Raises ArtifactError where the table lacks one.
        """
        if not self.features:
            return np.zeros((len(table), 0), np.int32), np.zeros((len(table), 0), np.float32)
        named = {field.name: values for field, values in _columns(table)} if "features" in table.column_names else {}
        rows, shares, first = [], [], 1
        for feature, size in zip(self.features, self._sizes, strict=True):
            if (values := named.get(feature["name"])) is None:
                raise ArtifactError(
                    f"the table must have the feature {feature['name']!r} that the encoder was trained on, it has "
                    f"{', '.join(named) or 'none'}: train again"
                )
            if pa.types.is_floating(values.type) != ("knots" in feature):
                raise ArtifactError(
                    f"the feature {feature['name']!r} must be {'a number' if 'knots' in feature else 'labels'} as in "
                    f"the training of the encoder, it is {values.type}: train again, or give its kind"
                )
            at, share = _of_number(values, feature["knots"]) if "knots" in feature else _of_labels(values, feature)
            shares.append(share.astype(np.float32))  # where a tiny share is none
            rows.append(np.where(shares[-1] > 0, at + first, 0).astype(np.int32))
            first += size
        return np.concatenate(rows, axis=1), np.concatenate(shares, axis=1)

    def to_json(self) -> list[dict[str, Any]]:
        """The features as they are."""
        return [dict(feature) for feature in self.features]

    @classmethod
    def from_json(cls, value: Sequence[Mapping[str, Any]]) -> "FeatureRows":
        """From :meth:`to_json`."""
        return cls(tuple(value))


def _for_rules(field: pa.Field) -> bool:
    return (field.metadata or {}).items() >= schemas.RULES_ALONE.items()


def _columns(table: pa.Table) -> list[tuple[pa.Field, pa.Array]]:
    """The fields of a column ``features`` with their values, null where the whole is."""
    column = table["features"]
    whole = pa.concat_arrays(column.chunks or [pa.array([], column.type)])
    return [(field, pc.struct_field(whole, [number])) for number, field in enumerate(whole.type)]


def _learned(field: pa.Field, values: pa.Array) -> dict[str, Any]:
    if pa.types.is_floating(field.type):
        known = np.asarray(values.drop_null()).astype(np.float64)
        knots = np.unique(np.quantile(known, np.linspace(0, 1, KNOTS))) if len(known) else np.zeros(0)
        return {"name": field.name, "knots": knots.tolist()}
    labels = pc.list_flatten(values) if pa.types.is_list(field.type) else values
    counted = pc.value_counts(labels.drop_null())
    table = pa.table({"label": counted.field(0), "n": counted.field(1)})
    table = table.filter(pc.greater(table["n"], 1)).sort_by([("n", "descending"), ("label", "ascending")])
    return {"name": field.name, "labels": table["label"].slice(0, MOST_LABELS).to_pylist()}


def _of_number(values: pa.Array, knots: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The knots beside each number, (n, 2) from 0, and how near each is."""
    numbers = np.asarray(pc.fill_null(values, np.nan)).astype(np.float64)
    known = np.isfinite(numbers) & (len(knots) > 0)
    if len(knots) < 2:
        at = np.zeros((len(numbers), 2), np.int64)
        return at, np.column_stack([known, np.zeros(len(numbers))])
    ends = np.asarray(knots)
    numbers = np.clip(np.where(known, numbers, ends[0]), ends[0], ends[-1])
    left = np.clip(np.searchsorted(ends, numbers, side="right") - 1, 0, len(ends) - 2)
    way = (numbers - ends[left]) / (ends[left + 1] - ends[left])
    return np.column_stack([left, left + 1]), np.column_stack([1 - way, way]) * known[:, None]


def _of_labels(values: pa.Array, feature: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The places of labels, (n, 1) or (n, LISTED) from 0, and the share of each among those of its list."""
    labels = pa.array(feature["labels"], pa.string())
    listed = pa.types.is_list(values.type)
    flat = pc.list_flatten(values) if listed else values
    place = np.asarray(pc.fill_null(pc.index_in(flat, value_set=labels), -1)).astype(np.int64)
    if not listed:
        return place[:, None], (place >= 0).astype(np.float64)[:, None]
    row = np.asarray(pc.list_parent_indices(values)).astype(np.int64)[place >= 0]
    place = place[place >= 0]
    number = np.arange(len(row)) - np.searchsorted(row, row)
    row, place, number = (x[number < LISTED] for x in (row, place, number))
    at, share = np.zeros((len(values), LISTED), np.int64), np.zeros((len(values), LISTED))
    at[row, number] = place
    share[row, number] = 1.0 / np.bincount(row, minlength=len(values))[row]
    return at, share
