"""How well vectors find others of their label: the metrics of metric learning, with ties counted honestly.

Each query ranks the references by score. Of its list, with R references of its label:

========================  ==========================================================================
``recall_any@k``          1 where one of the first k has the label: metric learning's Recall@k, the
                          ``hit_rate@k`` of :mod:`topkin.metrics.ranking`
``recall_fraction@k``     hits among the first k / R: recommendation's Recall@k
``precision@k``           hits among the first k / k
``r_precision``           hits among the first R / R
``map@r``                 the mean over the first R places of precision there, where there is a hit, else 0
``mrr``                   1 / rank of the first hit
========================  ==========================================================================

R-precision and MAP@R as in Musgrave, Belongie and Lim, A metric learning reality check, ECCV 2020.

Ties: references of equal score have no order, so each metric is its expected value over all orders of each tie.
A collapsed model, whose vectors are all equal, scores chance then (``precision@k`` is R / references), where an
argsort would give it whatever order the data came in. Scores are float64 products rounded to float32.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from topkin.linalg.cosine import unit_rows
from topkin.linalg.csr import Csr
from topkin.metrics.labels import values_of
from topkin.search.topk import top_k

DISTANCES = ("cosine", "euclidean", "inner_product")
_SHALLOW = 512
_BLOCK_BYTES = 64 << 20
Listing = tuple[int, np.ndarray, np.ndarray]


def retrieval_scores(
    queries: np.ndarray,
    query_labels: Sequence[Any] | np.ndarray,
    references: np.ndarray | None = None,
    reference_labels: Sequence[Any] | np.ndarray | None = None,
    *,
    ks: Sequence[int] = (1, 5, 10),
    to_r: bool = True,
    distance: str = "cosine",
) -> dict[str, np.ndarray]:
    """Every metric of the module for each query, ``{"recall_any@1": (n,) float64, …}``.

    queries: (n, d) floats. references: (m, d); the queries themselves where None, each left out of its own
    list. Labels: (n,) and (m,), of any hashable type. to_r: r_precision and map@r too, which read lists as
    long as the largest label is frequent. distance: one of DISTANCES. A query with no reference of its label
    gets NaN. Raises ValueError for NaN, lengths that differ, or a k above the number of references.
    """
    case = _Case(queries, query_labels, references, reference_labels, distance)
    _check_ks(ks, case.listed)
    names = [f"{name}@{k}" for k in ks for name in ("recall_any", "recall_fraction", "precision")] + ["mrr"]
    out = {name: np.full(len(case.queries), np.nan) for name in [*names, *(("r_precision", "map@r") if to_r else ())]}
    positives = case.positives()
    depth = max(ks) if not to_r else max(max(ks), int(positives.max(initial=0)))
    for query, scores, rows in case.lists(depth, to_first_hit=True):
        if positives[query]:
            list_of = _Ties(scores, case.reference_labels[rows] == case.query_labels[query])
            for name, value in list_of.metrics(ks, int(positives[query]), to_r).items():
                out[name][query] = value
    return out


def retrieval_metrics(
    queries: np.ndarray,
    query_labels: Sequence[Any] | np.ndarray,
    references: np.ndarray | None = None,
    reference_labels: Sequence[Any] | np.ndarray | None = None,
    **settings: Any,
) -> dict[str, float]:
    """The means of :func:`retrieval_scores` over the queries that have a reference of their label.

    ``queries`` and ``queries_left_out`` count those with and without. Raises ValueError where all are without.
    """
    scores = retrieval_scores(queries, query_labels, references, reference_labels, **settings)
    used = ~np.isnan(scores["mrr"])
    if not used.any():
        raise ValueError(
            f"a query must have a reference of its label, none of {len(used)} has: give labels that occur twice"
        )
    means = {name: float(values[used].mean()) for name, values in scores.items()}
    return {**means, "queries": int(used.sum()), "queries_left_out": int((~used).sum())}


def knn_accuracy(
    queries: np.ndarray,
    query_labels: Sequence[Any] | np.ndarray,
    references: np.ndarray | None = None,
    reference_labels: Sequence[Any] | np.ndarray | None = None,
    *,
    ks: Sequence[int] = (1, 5, 10),
    distance: str = "cosine",
) -> dict[int, float]:
    """The share of queries whose label wins a vote of the k nearest references, for each k.

    Ties in score at the k-th place share what is left of the k votes; ties between labels count by the chance of
    guessing among them. With all vectors equal and labels equally frequent that is 1 / labels. Arguments and
    Raises as :func:`retrieval_scores`.
    """
    case = _Case(queries, query_labels, references, reference_labels, distance)
    _check_ks(ks, case.listed)
    right = dict.fromkeys(ks, 0.0)
    for query, scores, rows in case.lists(max(ks)):
        labels, ties = case.reference_labels[rows], _Ties(scores, np.zeros(len(rows), bool))
        for k in ks:
            share = np.clip((k - ties.starts) / ties.sizes, 0, 1)[ties.group]
            votes = np.bincount(labels, share, minlength=case.n_labels)
            winners = np.flatnonzero(votes >= votes.max() - 1e-9)
            right[k] += (case.query_labels[query] in winners) / len(winners)
    return {k: value / max(len(case.queries), 1) for k, value in right.items()}


class _Case:
    """Checked queries and references, and each query's list of references."""

    def __init__(
        self, queries: object, query_labels: object, references: object, reference_labels: object, distance: str
    ) -> None:
        if distance not in DISTANCES:
            raise ValueError(f"distance must be one of {', '.join(DISTANCES)}, got {distance!r}")
        if (references is None) != (reference_labels is None):
            raise ValueError("references and reference_labels go together, got one of them: give both or neither")
        self.own = references is None
        queries = _vectors(queries, query_labels, "queries")
        references = queries if self.own else _vectors(references, reference_labels, "references")
        if queries.shape[1] != references.shape[1]:
            raise ValueError(f"queries and references must have one dim, got {queries.shape} and {references.shape}")
        labels = [query_labels] if self.own else [query_labels, reference_labels]
        codes, self.n_labels = codes_of(*labels)
        self.query_labels, self.reference_labels = codes[0], codes[-1]
        self.queries, self.references = _comparable(queries, references, distance)
        self.listed = len(references) - self.own

    def positives(self) -> np.ndarray:
        """How many references each query's label has, itself left out, (n,) int."""
        counts = np.bincount(self.reference_labels, minlength=self.n_labels)
        return counts[self.query_labels] - int(self.own)

    def lists(self, depth: int, *, to_first_hit: bool = False) -> Iterator[Listing]:
        """(query, scores, rows), best first: the first ``depth`` and all that tie with the last of them.

        to_first_hit: on to the first reference of the query's label and all that tie with it.
        """
        todo = np.arange(len(self.queries))
        if depth <= _SHALLOW and depth + 1 < self.listed and len(self.references) > 4 * _SHALLOW:
            exclude = Csr.single(todo) if self.own else None
            rows, scores = top_k(self.queries, self.references, depth + 1, exclude=exclude)
            clear = scores[:, depth - 1] > scores[:, depth]
            if to_first_hit:
                hits = self.reference_labels[rows[:, :depth]] == self.query_labels[:, None]
                clear &= hits.any(axis=1)
            for query in np.flatnonzero(clear):
                yield int(query), scores[query, :depth], rows[query, :depth]
            todo = np.flatnonzero(~clear)
        step = max(1, _BLOCK_BYTES // (8 * max(len(self.references), 1)))
        wide = self.references.astype(np.float64).T
        for at in range(0, len(todo), step):
            part = todo[at : at + step]
            block = (self.queries[part].astype(np.float64) @ wide).astype(np.float32)
            for query, scores in zip(part, block, strict=True):
                yield self._whole(int(query), scores, depth, to_first_hit)

    def _whole(self, query: int, scores: np.ndarray, depth: int, to_first_hit: bool) -> Listing:
        if self.own:
            scores[query] = -np.inf
        last = np.partition(scores, len(scores) - depth)[len(scores) - depth]
        if to_first_hit:
            alike = self.reference_labels == self.query_labels[query]
            if self.own:
                alike[query] = False
            last = min(last, scores[alike].max(initial=-np.inf)) if alike.any() else last
        rows = np.flatnonzero(scores >= last)
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        return query, scores[rows], rows


class _Ties:
    """A sorted list as groups of equal scores: where each starts, its size, its hits and the hits before it."""

    def __init__(self, scores: np.ndarray, hits: np.ndarray) -> None:
        new = np.ones(len(scores), bool)
        new[1:] = scores[1:] != scores[:-1]
        self.starts = np.flatnonzero(new)
        self.sizes = np.diff(np.append(self.starts, len(scores)))
        self.hits = np.add.reduceat(hits.astype(np.int64), self.starts)
        self.before = np.cumsum(self.hits) - self.hits
        self.group = np.cumsum(new) - 1

    def metrics(self, ks: Sequence[int], positives: int, to_r: bool) -> dict[str, float]:
        """The expected value of every metric. positives: R of the module, at least 1."""
        group = self.group
        chance = (self.hits / self.sizes)[group]
        expected = np.cumsum(chance)
        out = {"mrr": self._first()}
        for k in ks:
            out[f"recall_any@{k}"] = 1.0 - self._none(k)
            out[f"recall_fraction@{k}"] = float(expected[k - 1]) / positives
            out[f"precision@{k}"] = float(expected[k - 1]) / k
        if to_r:
            place = np.arange(positives)
            group = group[:positives]
            # A hit at a place of a tie finds the hits before the tie, itself, and its part of the tie's others.
            others = (place - self.starts[group]) * (self.hits[group] - 1) / np.maximum(self.sizes[group] - 1, 1)
            precise = chance[:positives] * (self.before[group] + 1 + others) / (place + 1)
            out["r_precision"] = float(expected[positives - 1]) / positives
            out["map@r"] = float(precise.sum()) / positives
        return out

    def _none(self, k: int) -> float:
        """The chance that the first k places hold no hit."""
        g = self.group[k - 1]
        if self.before[g]:
            return 0.0
        size, misses, drawn = int(self.sizes[g]), int(self.sizes[g] - self.hits[g]), int(k - self.starts[g])
        return math.comb(misses, drawn) / math.comb(size, drawn) if drawn <= 64 else _no_hit(size, misses, drawn)

    def _first(self) -> float:
        """The expected 1 / rank of the first hit."""
        g = int(np.argmax(self.hits > 0))
        return _reciprocal(int(self.starts[g]), int(self.sizes[g]), int(self.hits[g]))


def _no_hit(size: int, misses: int, drawn: int) -> float:
    if drawn > misses:
        return 0.0
    log = math.lgamma
    return math.exp(log(misses + 1) - log(misses - drawn + 1) - log(size + 1) + log(size - drawn + 1))


@lru_cache(maxsize=65536)
def _reciprocal(before: int, size: int, hits: int) -> float:
    """The mean of 1 / rank of the first of ``hits`` in a tie of ``size`` that ``before`` others precede."""
    drawn = np.arange(size - hits + 1)
    missed = np.concatenate([[1.0], np.cumprod((size - hits - drawn[:-1]) / (size - drawn[:-1]))])
    return float((missed * hits / (size - drawn) / (before + drawn + 1)).sum())


def codes_of(*labels: Any) -> tuple[list[np.ndarray], int]:
    """Labels of any hashable type as numbers from 0, alike in all sequences, and how many labels there are."""
    if all(isinstance(part, np.ndarray) and part.ndim == 1 and part.dtype.kind in "iu" for part in labels):
        names, numbers = np.unique(np.concatenate(labels), return_inverse=True)
        return np.split(numbers, np.cumsum([len(part) for part in labels])[:-1]), len(names)
    known: dict[Any, int] = {}
    parts = [values_of(part) for part in labels]
    out = [np.fromiter((known.setdefault(v, len(known)) for v in part), np.int64, len(part)) for part in parts]
    return out, len(known)


def _vectors(x: object, labels: object, what: str) -> np.ndarray:
    x = np.asarray(x)
    if x.ndim != 2 or x.dtype.kind not in "fiu" or not len(x):
        raise ValueError(f"{what} must be (n, d) numbers with a row at least, got {x.dtype} of shape {x.shape}")
    labels = values_of(labels)
    if len(labels) != len(x):
        raise ValueError(f"{what} must have a label each, got {len(labels)} labels for {len(x)} rows")
    bad = int((~np.isfinite(x)).any(axis=1).sum())
    if bad:
        raise ValueError(f"{what} must be finite, got {bad} rows with a NaN or an infinity: set them aside")
    return x.astype(np.float32, copy=False)


def _comparable(queries: np.ndarray, references: np.ndarray, distance: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors whose inner product ranks as the distance does."""
    if distance == "cosine":
        return unit_rows(queries), unit_rows(references)
    if distance == "inner_product":
        return queries, references
    # |q - x|² = |q|² - 2 (q · x - |x|² / 2): one more coordinate ranks by it; centred first, to lose no digits.
    centre = references.mean(axis=0, dtype=np.float64).astype(np.float32)
    queries, references = queries - centre, references - centre
    half = np.einsum("nd,nd->n", references, references, dtype=np.float64) / 2
    ones = np.ones((len(queries), 1), np.float32)
    return np.hstack([queries, ones]), np.hstack([references, -half[:, None].astype(np.float32)])


def _check_ks(ks: Sequence[int], listed: int) -> None:
    if not isinstance(ks, Sequence | np.ndarray) or any(not isinstance(k, int | np.integer) for k in ks):
        raise TypeError(f"ks must be a list of whole numbers, got {ks!r}: such as ks=(1, 5)")
    if not len(ks) or min(ks) < 1:
        raise ValueError(f"k must be at least 1, got {list(ks)}")
    if max(ks) > listed:
        raise ValueError(f"k must be at most the number of references in a list, {listed}, got {max(ks)}: lower k")
