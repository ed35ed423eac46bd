"""How much the personal part weighs: the weights that rank validation's lists best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.metrics.ranking import ranking_metrics
from topkin.recommend.bought import BOUGHT
from topkin.recommend.explain import VectorRows
from topkin.recommend.repurchase.blend import Candidates, Weights, own_scores, personal_part
from topkin.recommend.repurchase.rates import RepeatHistory, RepurchaseRates

METRIC, AT = "ndcg", 10
_GRID: Mapping[str, Sequence[float]] = {
    "personal": (0.0, 0.2, 0.4, 0.7, 1.0, 1.5, 2.2, 3.3, 5.0),
    "repeat": (0.0, 0.25, 0.5, 0.75, 1.0),
    "recent": (0.0, 0.125, 0.25, 0.4, 0.6),
    "due": (0.1, 0.25, 0.5, 1.0, 2.0),
}


class Case(NamedTuple):
    """Users whose later purchases say how the weights do: candidates, own items, what is typical, what came true.

    truth: of each user the distinct items bought in the validation period, bought before or not, at least one.
    """

    pairs: Candidates
    own: RepeatHistory
    items: RepurchaseRates
    truth: Csr

    @classmethod
    def of(
        cls,
        ids: np.ndarray,
        scores: np.ndarray,
        *,
        known: Interactions,
        truth: Csr,
        queries: np.ndarray,
        vectors: VectorRows,
        allowed: np.ndarray,
        items: RepurchaseRates,
    ) -> "Case":
        """From the model's best AT or more of the allowed items, bought ones too, as for :meth:`Repurchase.ranked`.

        known: the users' purchases before the cut. items: of the purchases of all users before the cut.
        """
        own = RepeatHistory.of(known)
        pairs = Candidates.of(ids, scores, own, own_scores(own, queries, vectors, allowed))
        return cls(pairs, own, items, truth)

    def judged(self, weights: Weights) -> np.ndarray:
        """The NDCG@10 of each user's list by these weights, (n_users,) float64."""
        ids, _ = self.pairs.ranked(personal_part(self.own, self.items, weights), weights.personal, AT)
        return ranking_metrics(ids, self.truth, (AT,))[f"{METRIC}@{AT}"]


def choose(cases: Sequence[Case], *, start: Weights, fixed: Sequence[str] = ()) -> Weights:
    """From ``start``, one weight at a time to its best value, while NDCG@10 over the users of all cases clearly rises.

    A step is taken where the mean gain is above two of its standard errors: few users change little. fixed: names of
    weights that stay.
    """

    def judged(weights: Weights) -> np.ndarray:
        return np.concatenate([case.judged(weights) for case in cases])

    best, values, rising = start, judged(start), True
    while rising:
        rising = False
        for name in (n for n in _GRID if n not in fixed):
            tried = [replace(best, **{name: option}) for option in _GRID[name]]
            found = [judged(weights) for weights in tried]
            number = int(np.argmax([one.mean() for one in found]))
            gain = found[number] - values
            if gain.mean() > 2 * gain.std() / math.sqrt(len(gain)) + 1e-9:
                best, values, rising = tried[number], found[number], True
    return best


def chosen(cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """The weights of every rule that ranks bought items, as ``bought.weights_of`` reads them; a case for each cut."""
    return {
        name: choose(cases, start=rule.weights, fixed=rule.fixed).to_json()
        for name, rule in BOUGHT.items()
        if rule.weights is not None
    }
