"""Which ids of one input another has, by ids and by rows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import Values

NEARLY_NONE = 0.01
"""Share of ids and of rows below which two inputs do not meet at all."""

FEW = 3
"""Ids of the left side below which a join that fails may be chance."""

EXAMPLES = 3


class IdCounts(NamedTuple):
    """The distinct ids of a column in any order, without null, and the rows of each, (n,) int64."""

    ids: pa.Array
    rows: np.ndarray

    @classmethod
    def of(cls, values: Values) -> "IdCounts":
        """The ids of a column; nulls do not count."""
        counts = (values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values).drop_null().value_counts()
        return cls(counts.field("values"), np.asarray(counts.field("counts"), np.int64))


@dataclass(frozen=True, kw_only=True)
class Join:
    """How the ids of two columns meet.

    left, right: the keys of the columns, as in ``purchases.item_id``. left_ids, right_ids: distinct ids; shared_ids:
    those in both. left_rows, right_rows: rows with an id; shared_rows: those of left whose id right has.
    left_whole, right_whole: whether all rows were looked at, not a sample. examples: ids of left that right
    lacks, as text, with their rows, those with the most first. right_examples: ids of right that left lacks.
    """

    left: str
    right: str
    left_ids: int
    right_ids: int
    shared_ids: int
    left_rows: int
    right_rows: int
    shared_rows: int
    left_whole: bool = True
    right_whole: bool = True
    examples: Mapping[str, int] = field(default_factory=dict)
    right_examples: Sequence[str] = ()

    @classmethod
    def of_counts(cls, left: str, right: str, counts: Mapping[str, int], examples: Mapping[str, int]) -> "Join":
        """A join of whole columns from its counts by name."""
        return cls(
            left=left,
            right=right,
            left_ids=counts["left_ids"],
            right_ids=counts["right_ids"],
            shared_ids=counts["shared_ids"],
            left_rows=counts["left_rows"],
            right_rows=counts["right_rows"],
            shared_rows=counts["shared_rows"],
            examples=examples,
        )

    @property
    def share_of_ids(self) -> float:
        """The share of left's ids that right has; 1 where left has none."""
        return self.shared_ids / self.left_ids if self.left_ids else 1.0

    @property
    def share_of_rows(self) -> float:
        """The share of left's rows whose id right has; 1 where left has none."""
        return self.shared_rows / self.left_rows if self.left_rows else 1.0

    @property
    def share_of_right(self) -> float:
        """The share of right's ids that left has; 1 where right has none."""
        return self.shared_ids / self.right_ids if self.right_ids else 1.0

    @property
    def missing_ids(self) -> int:
        """Ids of left that right lacks."""
        return self.left_ids - self.shared_ids

    @property
    def missing_rows(self) -> int:
        """Rows of left whose id right lacks."""
        return self.left_rows - self.shared_rows

    @property
    def fails(self) -> bool:
        """Whether nearly no id of left is in right, though both have some; of a sample of right none at all."""
        some = self.left_ids > 0 and self.right_ids > 0
        limit = NEARLY_NONE if self.right_whole else 0.0
        return some and (not self.shared_ids or max(self.share_of_ids, self.share_of_rows) < limit)

    def to_json(self) -> dict[str, Any]:
        """Its counts and shares."""
        shares = ("share_of_ids", "share_of_rows", "share_of_right")
        lists = {"examples": dict(self.examples), "right_examples": list(self.right_examples)}
        return {**asdict(self), **lists, **{name: getattr(self, name) for name in shares}}


def measure_join(
    left: str,
    right: str,
    left_ids: IdCounts,
    right_ids: IdCounts,
    *,
    left_whole: bool = True,
    right_whole: bool = True,
) -> Join:
    """How two columns of ids meet; those of different types do not."""
    shared = shared_ids(left_ids.ids, right_ids.ids)
    missing = np.flatnonzero(~shared)
    unmet = np.flatnonzero(~shared_ids(right_ids.ids, left_ids.ids))[:EXAMPLES] if len(missing) else missing
    most = missing[np.argsort(-left_ids.rows[missing], kind="stable")[:EXAMPLES]]
    return Join(
        left=left,
        right=right,
        left_ids=len(left_ids.ids),
        right_ids=len(right_ids.ids),
        shared_ids=int(shared.sum()),
        left_rows=int(left_ids.rows.sum()),
        right_rows=int(right_ids.rows.sum()),
        shared_rows=int(left_ids.rows[shared].sum()),
        left_whole=left_whole,
        right_whole=right_whole,
        examples={id_text(left_ids.ids[int(i)].as_py()): int(left_ids.rows[i]) for i in most},
        right_examples=[id_text(right_ids.ids[int(i)].as_py()) for i in unmet],
    )


def shared_ids(left: pa.Array, right: pa.Array) -> np.ndarray:
    """Which of left's ids right has, (n,) bool; none where the types differ."""
    if left.type != right.type:
        return np.zeros(len(left), bool)
    return np.asarray(pc.is_in(left, value_set=right)).astype(bool, copy=False)


def id_text(value: object) -> str:
    """An id in a message: a number bare, a text quoted, so that spaces around it are seen."""
    return str(value) if isinstance(value, int) else repr(value)
