"""The lists of the second stage: candidates ranked by a weighted mean of what each ranker says of them.

Where bought items are kept or boosted, they have their personal part beside it (``topkin.recommend.repurchase``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from topkin.baselines.fitted import fit_baselines
from topkin.baselines.registry import Baseline
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.recommend.explain import VectorRows
from topkin.recommend.repurchase.blend import Repurchase
from topkin.recommend.second.candidates import DEPTH, ENCODER, Candidates, candidates, users_at_once


def blended(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The score of each candidate, (n_users, width) float32: the weighted mean of its features, 1 at most.

    features: (n_rankers, n_users, width) float32. weights: (n_rankers,) float64, none below 0, one at least above. Sums
    run in the order of the rankers. Another model of the same features would stand in this place.
    """
    total = np.zeros(features.shape[1:])
    for feature, weight in zip(features, weights / weights.sum(), strict=True):
        if weight:
            total += weight * feature
    return total.astype(np.float32)


PERSONAL = "personal"
"""What decided where the personal part is more than what all rankers say."""


class BlendedLists(NamedTuple):
    """Lists of the second stage, (n_users, k) each.

    ids: int32 padded -1. cosines: float32, the encoder's. final: float32, by which they are ordered; both padded -inf.
    decided: int8, the place in ``SecondStage.deciders`` of the largest weighted part of it, padded -1.
    """

    ids: np.ndarray
    cosines: np.ndarray
    final: np.ndarray
    decided: np.ndarray

    def put(self, users: np.ndarray, lists: "BlendedLists") -> None:
        """Take the lists of some users, (m,) int, of the same length."""
        for mine, theirs in zip(self, lists, strict=True):
            mine[users] = theirs


def no_blend(n: int, k: int) -> BlendedLists:
    """Empty lists of n users."""
    none = np.full((n, k), -np.inf, np.float32)
    return BlendedLists(np.full((n, k), -1, np.int32), none, none.copy(), np.full((n, k), -1, np.int8))


@dataclass(frozen=True)
class SecondStage:
    """Ranks candidates by a blend.

    Args:
        weights: of the encoder and of each source by name, none below 0; the encoder's first.
        sources: the fitted baselines of the weights above 0.
    """

    weights: Mapping[str, float]
    sources: Mapping[str, Baseline]

    @classmethod
    def fitted(cls, weights: Mapping[str, float], history: Interactions, neighbours: int) -> "SecondStage":
        """With its sources fitted on purchases. neighbours: ``evaluate.neighbours``."""
        names = [name for name, weight in weights.items() if name != ENCODER and weight]
        return cls(weights, fit_baselines(history, names, neighbours))

    @property
    def rankers(self) -> tuple[str, ...]:
        """What has a feature, in their order."""
        return (ENCODER, *self.sources)

    @property
    def deciders(self) -> tuple[str, ...]:
        """What may have decided: the rankers, and the personal part."""
        return (*self.rankers, PERSONAL)

    def depth(self, k: int) -> int:
        """How many of the encoder's best items a list of k is chosen from."""
        return max(DEPTH, k)

    def ranked(
        self,
        ids: np.ndarray,
        k: int,
        *,
        history: Interactions,
        exclude: Csr,
        queries: np.ndarray,
        vectors: VectorRows,
        allowed: np.ndarray,
        repurchase: Repurchase | None = None,
    ) -> BlendedLists:
        """The k best candidates of each user; arguments as of ``candidates.candidates``.

        repurchase: how bought items rank beside new ones; None where they rank alike.

        They are the same whatever other users there are.
        """
        n = len(ids)
        lists = no_blend(n, k)
        own = 0 if repurchase is None else int(np.diff(history.indptr).max(initial=0))
        size = users_at_once(history.n_items, len(self.rankers), max(ids.shape[1], own))
        for start in range(0, n, size):
            users = np.arange(start, min(start + size, n))
            some = candidates(
                ids[users],
                self.sources,
                history=history.take(users),
                exclude=exclude.take(users),
                queries=queries[users],
                vectors=vectors,
                allowed=allowed,
                own=repurchase is not None,
            )
            lists.put(users, self._best(some, k, history.take(users), repurchase))
        return lists

    def _best(self, some: Candidates, k: int, history: Interactions, repurchase: Repurchase | None) -> BlendedLists:
        weights = np.array([self.weights[name] for name in self.rankers])
        values = blended(some.features, weights)
        personal = np.zeros_like(values)
        if repurchase is not None:
            values, personal = repurchase.raised(some.items, values, history)
        ids, places = some.best(values, k)
        at, none = np.maximum(places, 0), np.float32(-np.inf)
        parts = np.take_along_axis(some.features, at[None], axis=2) * weights[:, None, None]
        by_own = np.take_along_axis(personal > values - personal, at, axis=1)
        return BlendedLists(
            ids,
            np.where(ids < 0, none, np.take_along_axis(some.cosines, at, axis=1)),
            np.where(ids < 0, none, np.take_along_axis(values, at, axis=1)),
            np.where(ids < 0, -1, np.where(by_own, len(weights), parts.argmax(axis=0))).astype(np.int8),
        )

    def explain(self, because: np.ndarray, lists: BlendedLists, history: Interactions) -> np.ndarray:
        """The reasons, (n_users, k, most) int32 padded -1, of what decided: the bought items that it goes by.

        because: likewise, the encoder's, which stay where it decided. A source that goes by no bought items gives none.
        """
        because = because.copy()
        for number, source in enumerate(self.sources.values(), 1):
            mine = lists.decided == number
            users = np.flatnonzero(mine.any(axis=1))
            if len(users):
                ids = np.where(mine[users], lists.ids[users], np.int32(-1))
                named = source.explain(history.take(users), ids, because.shape[2])
                because[users] = np.where(mine[users][:, :, None], named, because[users])
        return because
