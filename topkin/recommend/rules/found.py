"""Candidates or lists of users, from which rules choose."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from topkin.recommend.second.stage import BlendedLists

MORE = 3
"""Times as many candidates as before are asked for where they ran out."""
BUDGET = 1 << 24
"""Candidates of some users at a time, where more than the first are asked for."""


class Found(NamedTuple):
    """Candidates or lists of some users, (n, width) each: see ``lists.recommend``. blend: of a second stage."""

    ids: np.ndarray
    scores: np.ndarray
    sources: np.ndarray
    blend: BlendedLists | None = None

    @property
    def final(self) -> np.ndarray:
        """The scores by which they are ordered, (n, width) float32."""
        return self.scores if self.blend is None else self.blend.final

    def at(self, places: np.ndarray) -> "Found":
        """Those at some places, (n, k) int padded -1."""
        none, at = places < 0, np.maximum(places, 0)

        def some(values: np.ndarray, padding: float) -> np.ndarray:
            return np.where(none, values.dtype.type(padding), np.take_along_axis(values, at, axis=1))

        lists = some(self.ids, -1), some(self.scores, -np.inf), some(self.sources, -1)
        if self.blend is None:
            return Found(*lists)
        paddings = (-1, -np.inf, -np.inf, -1)
        return Found(*lists, BlendedLists(*map(some, self.blend, paddings)))

    def take(self, rows: np.ndarray) -> "Found":
        """Those of some users, (m,) int."""
        blend = None if self.blend is None else BlendedLists(*(values[rows] for values in self.blend))
        return Found(self.ids[rows], self.scores[rows], self.sources[rows], blend)

    @classmethod
    def joined(cls, parts: "Sequence[Found]") -> "Found":
        """Those of the users of several parts, one after the other, of one width."""
        return cls._of(parts, 0)

    def beside(self, other: "Found") -> "Found":
        """Those of the same users, one after the other."""
        return self._of((self, other), 1)

    def without(self, out: np.ndarray) -> "Found":
        """None in some places, (n, width) bool."""

        def left(values: np.ndarray, padding: float) -> np.ndarray:
            return np.where(out, values.dtype.type(padding), values)

        lists = left(self.ids, -1), left(self.scores, -np.inf), left(self.sources, -1)
        blend = self.blend
        return Found(*lists, blend and BlendedLists(*map(left, blend, (-1, -np.inf, -np.inf, -1))))

    def wide(self, width: int) -> "Found":
        """As wide as that."""
        if width == self.ids.shape[1]:
            return self

        def padded(values: np.ndarray, padding: float) -> np.ndarray:
            out = np.full((len(values), width), values.dtype.type(padding))
            out[:, : values.shape[1]] = values
            return out

        lists = padded(self.ids, -1), padded(self.scores, -np.inf), padded(self.sources, -1)
        blend = self.blend
        return Found(*lists, blend and BlendedLists(*map(padded, blend, (-1, -np.inf, -np.inf, -1))))

    @classmethod
    def _of(cls, parts: "Sequence[Found]", axis: int) -> "Found":
        ids, scores, sources = (np.concatenate(values, axis) for values in zip(*(p[:3] for p in parts), strict=True))
        blends = [p.blend for p in parts if p.blend is not None]
        blend = [np.concatenate(values, axis) for values in zip(*blends, strict=True)]
        return cls(ids, scores, sources, BlendedLists(*blend) if blends else None)

    def put(self, rows: np.ndarray, other: "Found") -> None:
        """Take the lists of some users, (m,) int, of the same length."""
        for mine, theirs in zip(self[:3], other[:3], strict=True):
            mine[rows] = theirs
        if self.blend is not None and other.blend is not None:
            self.blend.put(rows, other.blend)
