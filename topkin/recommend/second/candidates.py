"""Which items a second stage ranks for each user, and what is known of each: one number of the encoder and each source.

A source is a fitted baseline. Candidates are the DEPTH best items of the encoder and of each source under the same
rules, and every bought item where these are ranked too; each has a feature of every one of them, its score divided by
the user's highest score of that ranker:

    feature = score / max over the user's candidates of |score|

As each ranker's best item is a candidate, that maximum is the one over all items that may be listed, however many
candidates there are. A source knows nothing of an item that it scores 0, which is then no candidate of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from topkin.baselines.registry import Baseline
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.recommend.explain import VectorRows
from topkin.recommend.repurchase.blend import pair_scores_of
from topkin.recommend.second.scored import scores_of
from topkin.search.topk import BUDGET_BYTES, top_k_of_scores

DEPTH = 200
"""Items that the encoder and each source bring, or as many as the list is long where that is more."""
ENCODER = "encoder"
"""The first of the rankers: the cosine."""


@dataclass(frozen=True)
class Candidates:
    """The candidates of some users.

    items: (n_users, width) int32, ascending within a user, padded -1 at the end. cosines: (n_users, width) float32 of
    the encoder, padded -inf. features: (n_rankers, n_users, width) float32, the encoder's first; 0 where there is no
    item.
    """

    items: np.ndarray
    cosines: np.ndarray
    features: np.ndarray

    def take(self, users: np.ndarray) -> "Candidates":
        """Those of some users, (m,) int, in their order."""
        return Candidates(self.items[users], self.cosines[users], self.features[:, users])

    @classmethod
    def joined(cls, parts: "Sequence[Candidates]") -> "Candidates":
        """Those of the users of several parts, one after the other; at least one part."""
        width = max(part.items.shape[1] for part in parts)

        def wide(values: np.ndarray, padding: float) -> np.ndarray:
            margins = [(0, 0)] * (values.ndim - 1) + [(0, width - values.shape[-1])]
            return np.pad(values, margins, constant_values=padding)

        return cls(
            np.concatenate([wide(part.items, -1) for part in parts]),
            np.concatenate([wide(part.cosines, -np.inf) for part in parts]),
            np.concatenate([wide(part.features, 0) for part in parts], axis=1),
        )

    def best(self, values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k candidates of highest value, ties by item number.

        values: (n_users, width) float32. Returns items (n_users, k) int32 padded -1, and their places among the
        candidates, likewise.
        """
        places, _ = top_k_of_scores(np.where(self.items < 0, np.float32(-np.inf), values), k)
        return np.where(places < 0, np.int32(-1), np.take_along_axis(self.items, np.maximum(places, 0), 1)), places


def candidates(
    ids: np.ndarray,
    sources: Mapping[str, Baseline],
    *,
    history: Interactions,
    exclude: Csr,
    queries: np.ndarray,
    vectors: VectorRows,
    allowed: np.ndarray,
    own: bool = False,
) -> Candidates:
    """The candidates of users with a vector.

    Args:
        ids: (n_users, depth) int32 padded -1, the encoder's best of the allowed items without the excluded.
        sources: Fitted, by name.
        history: The users' purchases.
        exclude: Items that each user may not get.
        queries: (n_users, dim) float32.
        vectors: Of all items.
        allowed: (n_items,) bool.
        own: Whether all that the user bought and may get is a candidate too.
    """
    rows: list[np.ndarray] = []
    scored = [scores_of(source, history) for source in sources.values()]
    lists = [ids, *(scores.best(ids.shape[1], exclude, allowed) for scores in scored)]
    if own:
        lists.append(_bought(history, allowed))
    items = _distinct(np.concatenate(lists, axis=1))
    cosines = _cosines(items, queries, vectors)
    items = np.where(cosines > -np.inf, items, np.int32(-1))  # no vector: no candidate
    some = np.maximum(items, 0)
    for values in [cosines, *(scores.of(some) for scores in scored)]:
        values = np.where(items < 0, np.float32(0), values)
        most = np.abs(values).max(axis=1, initial=0, keepdims=True)
        rows.append(np.divide(values, most, out=np.zeros_like(values), where=most > 0))
    return Candidates(items, cosines, np.stack(rows))


def users_at_once(n_items: int, rankers: int, depth: int) -> int:
    """How many users' candidates are made at a time, within a few times BUDGET_BYTES."""
    dense, sparse = 8 * (rankers + 2) * n_items, 4 * rankers * depth * (rankers + 6)
    return max(1, BUDGET_BYTES // max(dense + sparse, 1))


def _bought(history: Interactions, allowed: np.ndarray) -> np.ndarray:
    """Each user's own items that are allowed, (n_users, longest) int32 padded -1."""
    bought = history.distinct().pattern
    rows, items = bought.rows, bought.indices
    ids = np.full((bought.n_rows, max(int(bought.lengths.max(initial=0)), 1)), -1, np.int32)
    ids[rows, np.arange(len(rows)) - bought.indptr[rows]] = np.where(allowed[items], items, -1)
    return ids


def _distinct(items: np.ndarray) -> np.ndarray:
    """Each row's distinct items ascending, -1 after them, as narrow as the longest row and one at least."""
    last = np.iinfo(np.int32).max
    ordered = np.sort(np.where(items < 0, last, items), axis=1)
    ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = last
    ordered = np.sort(ordered, axis=1)
    width = max(int((ordered < last).sum(axis=1).max(initial=0)), 1)
    return np.where(ordered == last, np.int32(-1), ordered)[:, :width].astype(np.int32)


def _cosines(items: np.ndarray, queries: np.ndarray, vectors: VectorRows) -> np.ndarray:
    """The encoder's score of each candidate, (n_users, width) float32; -inf for padding and items without a vector."""
    cosines = np.full(items.shape, -np.inf, np.float32)
    row, column = np.nonzero(items >= 0)
    cosines[row, column] = pair_scores_of(row, items[row, column], queries, vectors)
    return cosines
