"""The values of every judged user, read a few columns at a time in an order that no split into parts changes."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.evaluation.protocol import COUNTS_KEY, JudgedUsers
from topkin.metrics.bootstrap import bootstrap


@dataclass(frozen=True)
class EvaluationResults:
    """The values of every judged user, and what the users were given, read when asked for.

    read: gives of a part's ``evaluation.Judged`` one table, by the part's number and the table's name, some
    of its columns or all.
    """

    parts: int
    read: Callable[[int, str, Sequence[str] | None], pa.Table]

    @classmethod
    def of_parts(cls, parts: Sequence[JudgedUsers]) -> "EvaluationResults":
        """From what ``evaluate_part`` gave for each part."""

        def read(part: int, name: str, columns: Sequence[str] | None) -> pa.Table:
            table = getattr(parts[part], name)
            return table if columns is None else table.select(list(columns))

        return cls(len(parts), read)

    def tables(self, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """One table of every part, in their order."""
        return (self.read(part, name, columns) for part in range(self.parts))

    @cached_property
    def counts(self) -> dict[str, Any]:
        """The counts of all parts together."""
        metadata = [t.schema.metadata[COUNTS_KEY] for t in self.tables("users", ["user_id"])]
        return _sum([json.loads(m) for m in metadata])

    @cached_property
    def row_order(self) -> np.ndarray:
        """The place in the order of the ids of each row of the users' tables, one after the other, (n,) int64."""
        ids = pa.chunked_array([c for t in self.tables("users", ["user_id"]) for c in t["user_id"].chunks])
        order = np.empty(len(ids), np.int64)
        order[np.asarray(pc.sort_indices(ids))] = np.arange(len(ids))
        return order

    def columns(self, names: Sequence[str]) -> np.ndarray:
        """Columns of the users that have a value, (n, n_names) in the order of the ids.

        The names are of one truth, so that the users without a value are the same in all.
        """
        values = np.empty((len(self.row_order), len(names)))
        start = 0
        for table in self.tables("users", names):
            rows = self.row_order[start : start + len(table)]
            for column, name in enumerate(names):
                values[rows, column] = table[name].to_numpy()
            start += len(table)
        known = ~np.isnan(values[:, 0]) if names else np.ones(len(values), bool)
        return values if known.all() else values[known]

    @cached_property
    def recommended_counts(self) -> dict[tuple[str, str], pa.Table]:
        """By protocol and model: item, and ``lists@k``, summed over the parts."""
        rows = pa.concat_tables(list(self.tables("listed")))
        counts = rows.column_names[3:]
        rows = rows.group_by(rows.column_names[:3], use_threads=False).aggregate([(c, "sum") for c in counts])
        rows = rows.rename_columns([c.removesuffix("_sum") for c in rows.column_names])
        counted = {}
        for pair in rows.group_by(["protocol", "model"], use_threads=False).aggregate([]).to_pylist():
            chosen = (pc.field("protocol") == pair["protocol"]) & (pc.field("model") == pair["model"])
            counted[pair["protocol"], pair["model"]] = rows.filter(chosen).select(["item", *counts]).sort_by("item")
        return counted


@dataclass(frozen=True, kw_only=True)
class EvaluationContext:
    """What is known beside the judged users.

    models: what was judged, the model first. left_out: baselines asked for and not fitted, with the reason.
    sales, buyers: (n_items,) purchases and distinct buyers before the date. cold: (n_items,) bool. deciles:
    (n_items,), see ``evaluation.sales_deciles``. buying_users: how many users bought before it. quartiles: the
    most purchases that the users of the first three quarters have, by purchases. listed: length of the
    published lists. bought: their rule for bought items. made_by: what made them, ``encoder`` or a baseline,
    which is then the model, too. known_items: how many are ranked because they have a vector, where there are no
    purchases before the date; None else.
    """

    as_of: datetime
    ks: tuple[int, ...]
    models: tuple[str, ...]
    left_out: Mapping[str, str]
    sales: np.ndarray
    buyers: np.ndarray
    cold: np.ndarray
    deciles: np.ndarray
    buying_users: int
    known_items: int | None = None
    quartiles: tuple[int, ...]
    listed: int
    bought: str
    made_by: str = "encoder"
    ruled: bool = False

    @property
    def rivals(self) -> tuple[str, ...]:
        """The baselines that the model is compared with: all but itself."""
        return tuple(model for model in self.models[1:] if model != self.made_by)


def _sum(counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for name in counts[0]:
        values = [c[name] for c in counts if c[name] is not None]
        if name in ("from", "to"):  # ISO times of one format: their order is that of time
            total[name] = (min if name == "from" else max)(values, default=None)
        else:
            total[name] = sum(values)
    return total


def mean(values: np.ndarray) -> float:
    """The mean, summed without rounding."""
    return math.fsum(values) / len(values)


def intervals(values: np.ndarray, resamples: int, seed: int) -> list[list[float]]:
    """[low, mean, high] of each column."""
    bounds = bootstrap(values, resamples, seed)
    return [[float(a), mean(c), float(b)] for a, c, b in zip(bounds.low, values.T, bounds.high, strict=True)]
