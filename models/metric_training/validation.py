"""How good vectors are on rows kept out: by labels, by the partners of pairs, or by a row's own second view."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from topkin.linalg.cosine import unit_rows
from topkin.metrics.retrieval import knn_accuracy
from topkin.search.topk import top_k

MOST_QUERIES, MOST_REFERENCES = 1_000, 10_000
PARTNERS, NEIGHBOURS = 10, 10
CHANGES_SEED = 7

Encode = Callable[[np.ndarray], np.ndarray]
"""Vectors of rows by their numbers: (k,) int to (k, dim)."""


class Validation:
    """A measure of rows kept out: the interface; larger is better.

    Attributes:
        name: Of the measure.
    """

    name = ""

    @property
    def asked(self) -> int:
        """How many rows or pairs the measure is a share of."""
        raise NotImplementedError

    def measure(self, encode: Encode) -> float:
        """The measure, on a sample where there are very many rows."""
        raise NotImplementedError

    def final(self, encode: Encode) -> dict[str, float]:
        """What is told at the end, by name: of all rows that are learned from."""
        return {self.name: self.measure(encode)}


@dataclass
class LabelValidation(Validation):
    """Recall@1: the share of held-out rows whose nearest row of the training has their label.

    Args:
        queries: (q,) row numbers.
        references: (r,) row numbers of the training.
        labels: Of all rows, by number.
        seed: Of the sample of references.
    """

    queries: np.ndarray
    references: np.ndarray
    labels: np.ndarray
    seed: int
    name = "recall@1"

    def __post_init__(self) -> None:
        self.queries = self.queries[np.isin(self.labels[self.queries], self.labels[self.references])]
        self.sample = sampled(self.references, MOST_REFERENCES, self.seed)

    @property
    def asked(self) -> int:
        """Rows kept out."""
        return len(self.queries)

    def measure(self, encode: Encode) -> float:
        """See the class."""
        return self._recall(encode, self.sample)

    def final(self, encode: Encode) -> dict[str, float]:
        """Among all rows of the training."""
        return {self.name: self._recall(encode, self.references)}

    def _recall(self, encode: Encode, references: np.ndarray) -> float:
        nearest, _ = top_k(unit_rows(encode(self.queries)), unit_rows(encode(references)), 1)
        return float((self.labels[references[nearest[:, 0]]] == self.labels[self.queries]).mean())


@dataclass
class PairValidation(Validation):
    """Recall@10 of the partner: the share of held-out pairs whose second row is among the first's ten nearest.

    Args:
        pairs: (p, 2) row numbers that no training pair holds.
        references: (r,) row numbers that partners are looked for among, beside the partners.
        seed: Of the sample of references.
    """

    pairs: np.ndarray
    references: np.ndarray
    seed: int
    name = f"recall@{PARTNERS}"

    def __post_init__(self) -> None:
        rest = sampled(self.references, MOST_REFERENCES, self.seed)
        self.candidates = np.unique(np.concatenate([rest, self.pairs[:, 1]]))

    @property
    def asked(self) -> int:
        """Pairs kept out."""
        return len(self.pairs)

    def measure(self, encode: Encode) -> float:
        """See the class; the first row itself is no answer."""
        k = min(PARTNERS + 1, len(self.candidates))
        nearest, _ = top_k(unit_rows(encode(self.pairs[:, 0])), unit_rows(encode(self.candidates)), k)
        listed = self.candidates[nearest]
        own = listed == self.pairs[:, :1]
        rank = np.cumsum(~own, axis=1)
        hit = (listed == self.pairs[:, 1:]) & (rank <= PARTNERS)
        return float(hit.any(axis=1).mean())


@dataclass
class ViewValidation(Validation):
    """Recall@1 of views, which needs no labels: a row changed once finds itself changed otherwise, among the others.

    Args:
        queries: (q,) row numbers kept out.
        view: Vectors of rows changed at random, by their numbers and a seed.
        references: (r,) row numbers of the training, for the vote of neighbours where there are labels.
        labels: Of all rows, -1 for none.
        seed: Of the sample of references.
    """

    queries: np.ndarray
    view: Callable[[np.ndarray, int], np.ndarray]
    references: np.ndarray
    labels: np.ndarray
    seed: int
    name = "view_recall@1"

    @property
    def asked(self) -> int:
        """Rows kept out."""
        return len(self.queries)

    def measure(self, encode: Encode) -> float:
        """See the class."""
        first, second = (unit_rows(self.view(self.queries, CHANGES_SEED + side)) for side in range(2))
        nearest, _ = top_k(first, second, 1)
        return float((nearest[:, 0] == np.arange(len(first))).mean())

    def final(self, encode: Encode) -> dict[str, float]:
        """With it, where there are labels, the share of rows whose label wins a vote of their ten nearest."""
        out = {self.name: self.measure(encode)}
        asked = self.queries[self.labels[self.queries] >= 0]
        known = self.references[self.labels[self.references] >= 0]
        if len(asked) and len(known) > NEIGHBOURS:
            vectors = encode(asked), encode(known)
            votes = knn_accuracy(
                vectors[0], self.labels[asked], vectors[1], self.labels[known], ks=(1, NEIGHBOURS), distance="cosine"
            )
            out |= {f"knn_accuracy@{k}": share for k, share in votes.items()}
        return out


def as_good(scores: Sequence[float], asked: int) -> int:
    """The place of the last score that is no more than a standard error below the highest.

    Steps get smaller to the end, so that late epochs even noise out; shares of so many rows tell no smaller
    differences. Breiman et al., Classification and Regression Trees, 1984, the rule of one standard error.
    """
    highest = max(scores)
    error = math.sqrt(max(highest * (1 - highest), 0.0) / max(asked, 1))
    return max(at for at, score in enumerate(scores) if score >= highest - error)


def sampled(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most so many of the rows, in their order."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng([seed, 1]).choice(rows, most, replace=False))


def held_out(rows: int, share: float, seed: int) -> np.ndarray:
    """Which of some rows are kept out, (n,) bool, by the seed: at most 1,000, for what is kept out teaches nothing."""
    kept = np.zeros(rows, bool)
    count = min(MOST_QUERIES, int(np.ceil(share * rows))) if share else 0
    kept[np.random.default_rng([seed, 2]).permutation(rows)[:count]] = True
    return kept
