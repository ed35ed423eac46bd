"""Recall on the last days before the as-of date: what stops the training and sets the prior."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from topkin.interactions import Interactions, history_weights, joined
from topkin.metrics import ranking_metrics
from topkin.models.data import Counts, Purchases, newer, older
from topkin.models.encoder import pool
from topkin.models.prior import Prior, fitted
from topkin.topk import top_k

AT = 20
METRIC = f"recall@{AT}"


@dataclass(frozen=True)
class Validation:
    """Users with purchases before the cut and new items after it.

    known: their purchases before the cut. truth: CSR ``(indptr, items)`` of the items that each bought after
    it and not before, at least one.
    """

    known: Interactions
    truth: tuple[np.ndarray, np.ndarray]

    def recall(self, vectors: np.ndarray, users: np.ndarray) -> float:
        """Mean recall@20 over the users of the lists by cosine, bought items left out."""
        ids, _ = top_k(users, vectors, AT, exclude=(self.known.indptr, self.known.items))
        return float(ranking_metrics(ids, self.truth, (AT,))[METRIC].mean())

    def best_prior(
        self,
        out: np.ndarray,
        pooled: np.ndarray,
        counts: Counts,
        *,
        strengths: Sequence[float],
        rarity: float,
        half_life_days: float | None,
    ) -> tuple[Prior, float]:
        """The prior of highest recall among ``strengths``, and that recall; the earliest of equals.

        out, pooled: (n_items, dim) out-vectors and in-vectors without a prior.
        """
        best: tuple[Prior, float] | None = None
        length = coherence(self.known, pooled, counts.buyers, rarity=rarity, half_life_days=half_life_days)
        for strength in strengths:
            prior = fitted(counts.recent, counts.events, length, strength=strength)
            vectors, in_vectors = prior.published(out, pooled, prior.scaled(counts.recent, counts.events))
            users = pool(self.known, in_vectors, counts.buyers, rarity=rarity, half_life_days=half_life_days)
            recall = self.recall(vectors, users)
            if best is None or recall > best[1]:
                best = prior, recall
        assert best is not None
        return best


def coherence(
    history: Interactions, pooled: np.ndarray, buyers: np.ndarray, *, rarity: float, half_life_days: float | None
) -> float:
    """The median over users of ``|sum w in| / sum w``: how much of a purchase's in-vector stays in the pool.

    0 where nobody bought anything.
    """
    known = history.distinct()
    weights = history_weights(known, buyers, rarity=rarity, half_life_days=half_life_days)
    starts = known.indptr[:-1][np.diff(known.indptr) > 0]
    if len(starts) == 0:
        return 0.0
    sums = np.add.reduceat(weights[:, None] * pooled[known.items], starts, axis=0)
    totals = np.add.reduceat(weights, starts)
    return float(np.median(np.linalg.norm(sums, axis=1) / np.maximum(totals, 1e-30)))


def sample(purchases: Purchases, most: int, seed: int) -> Validation | None:
    """At most ``most`` users to validate on, drawn from all parts alike; None where there are none.

    purchases: those before the cut; what came in its ``days`` after it is the truth.
    """
    rng = np.random.default_rng([seed, 1])
    names = purchases.names()
    known, new = [], []
    for name in names:
        part = purchases.part(name)
        before, after = older(part, purchases.days), _novel(part, purchases.days)
        users = np.flatnonzero((np.diff(before.indptr) > 0) & (np.diff(after.indptr) > 0))
        wanted = -(-most // len(names))
        if len(users) > wanted:
            users = np.sort(rng.choice(users, wanted, replace=False))
        known.append(before.take(users))
        new.append(after.take(users))
    if not known or sum(k.n_users for k in known) == 0:
        return None
    truth = joined(new)
    return Validation(joined(known), (truth.indptr, truth.items))


def _novel(part: Interactions, days: float) -> Interactions:
    """The distinct items that each user bought in the last days and not before."""
    after = newer(part, days).distinct()
    before = older(part, days).distinct()
    keys = after.users.astype(np.int64) * part.n_items + after.items
    bought = before.users.astype(np.int64) * part.n_items + before.items
    fresh = ~np.isin(keys, bought)
    indptr = np.concatenate([[0], np.cumsum(fresh)])[after.indptr].astype(np.int64)
    return Interactions(indptr, after.items[fresh], after.ages[fresh], after.weights[fresh], part.n_items)
