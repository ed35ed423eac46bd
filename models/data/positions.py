"""Interactions whose ages are positions, parted for validation so that most of what is known stays known."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa

from topkin.interactions import Interactions
from topkin.models.data.histories import PreparedHistories

MOST_HELD_OUT = 0.2
"""Share of all interactions that a user's last position may take away, over all users."""

MOST_OF_OWN = 0.25
"""Share of a user's own positions that cuts before the last one may take away."""


@dataclass(frozen=True)
class PositionHistories(PreparedHistories):
    """Histories in which a cut holds out the last positions of some users, and nothing of the others.

    A user who has no more positions than are held out keeps them all, as does one of whose positions a deeper cut than
    of the last would take more than MOST_OF_OWN: short histories are judged as long as they are. So that a cut takes no
    more than MOST_HELD_OUT of the interactions where each user has few, it is of a ``share`` of the users, drawn by
    ``seed``.
    """

    source: PreparedHistories | None = field(default=None)
    share: float = 1.0
    seed: int = 0

    @classmethod
    def of(cls, source: PreparedHistories, seed: int) -> "PositionHistories":
        """Of all histories, in one pass over them."""
        whole = held = 0
        for name in source.names():
            part = source.part(name)
            whole += len(part.items)
            held += int((part.ages[np.repeat(_several(part, 1.0), np.diff(part.indptr))] < 1).sum())
        share = min(1.0, MOST_HELD_OUT * whole / held) if held else 1.0
        same: dict[str, Any] = {name: getattr(source, name) for name in ("days", "buffer", "workers", "some", "epoch")}
        return cls(source.folder, source.item_ids, source.as_of, source=source, share=share, seed=seed, **same)

    def with_ids(self, item_ids: pa.ChunkedArray) -> Self:
        """See :class:`PreparedHistories`."""
        assert self.source is not None
        return replace(super().with_ids(item_ids), source=self.source.with_ids(item_ids))

    def to_send(self) -> Self:
        """See :class:`PreparedHistories`."""
        assert self.source is not None
        return replace(super().to_send(), source=self.source.to_send())

    def names(self) -> list[str]:
        """See :class:`PreparedHistories`."""
        assert self.source is not None
        return self.source.names()

    def user_features(self, name: str) -> pa.Table:
        """See :class:`PreparedHistories`."""
        assert self.source is not None
        return self.source.user_features(name)

    def part(self, name: str) -> Interactions:
        """One part, with ages from which the cut takes nothing for users whose last positions are not held out."""
        assert self.source is not None
        part = self.source.part(name)
        if not self.days:
            return part
        drawn = np.random.default_rng([self.seed, 3, self.names().index(name)]).random(part.n_users) < self.share
        shift = np.float32(self.days) * (~(drawn & _several(part, self.days))).astype(np.float32)
        inputs = None if part.inputs is None else _older(part.inputs, shift)
        return replace(_older(part, shift), inputs=inputs)


def _older(part: Interactions, days: np.ndarray) -> Interactions:
    """Ages with more days for each user, (n_users,) float32."""
    return replace(part, ages=part.ages + np.repeat(days, np.diff(part.indptr)))


def _several(part: Interactions, days: float) -> np.ndarray:
    """The users of whose positions a cut of ``days`` leaves enough, (n_users,) bool."""
    deepest = np.zeros(part.n_users, np.float32)
    np.maximum.at(deepest, part.users, part.ages)
    return (deepest >= days) & ((days <= 1) | (np.ceil(deepest) * MOST_OF_OWN >= days))
