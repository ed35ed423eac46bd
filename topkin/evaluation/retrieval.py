"""Items judged by their labels: does a look-up find items of its own label, and where does it not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.linalg.cosine import unit_rows
from topkin.linalg.csr import Csr
from topkin.metrics.retrieval import knn_accuracy, retrieval_metrics
from topkin.search.topk import TopK, top_k

FEW = 20
"""Labels, and neighbours of a shown query, that a report has room for."""


@dataclass(frozen=True)
class LabelledVectors:
    """Rows with a vector, and their labels.

    Attributes:
        ids: (n,)
        vectors: (n, dim) float32 of any length.
        labels: (n,) strings, null where there is none.
        own: Whether they are the items themselves, each looked up among the others.
    """

    ids: pa.Array
    vectors: np.ndarray
    labels: pa.Array
    own: bool = False

    def sample(self, most: int, seed: int) -> "tuple[np.ndarray, LabelledVectors]":
        """At most so many rows, drawn by a seed, and their numbers; of items of which not all are, half at most."""
        if self.own and most < len(self.ids):
            most = min(most, (len(self.ids) + 1) // 2)
        rows = np.sort(np.random.default_rng(seed).permutation(len(self.ids))[:most])
        at = pa.array(rows)
        return rows, LabelledVectors(self.ids.take(at), self.vectors[rows], self.labels.take(at), self.own)


@dataclass(frozen=True)
class Retrieval:
    """What look-ups found.

    Attributes:
        metrics: Of :mod:`topkin.metrics.retrieval`, over the queries whose label some other item has; None where
            there is no such query.
        knn: The accuracy of a vote of the k nearest, by k.
        by_label: Of each label: queries, Recall@1, and the label most often found in its place; the worst first.
        nearest: Of each query, its :data:`FEW` nearest items: rows and cosines.
        right: (n,) bool, whether the nearest item of a query has its label.
        asked: (n,) bool, whether a query has a label.
    """

    metrics: dict[str, float] | None
    knn: dict[int, float]
    by_label: list[dict[str, Any]]
    nearest: TopK
    right: np.ndarray
    asked: np.ndarray


def judge(queries: LabelledVectors, rows: np.ndarray, items: LabelledVectors, ks: Sequence[int]) -> Retrieval:
    """Look queries up among the items that have a label, exactly, by cosine; among all where none has one.

    Items looked up are found by none of the others that are: all are looked up among the rest, or, where all items are,
    each among the others.

    Args:
        queries: What is looked up.
        rows: (n,) their numbers among the items, where ``queries.own``.
        items: Those that may be found.
        ks: Cut-offs beside 1; those above the number of items are left out.
    """
    labelled = np.asarray(pc.is_valid(items.labels))
    among = labelled if labelled.any() else np.ones(len(labelled), bool)
    whole = queries.own and len(queries.ids) == len(items.ids)
    if queries.own and not whole:
        among = among.copy()
        among[rows] = False
    places = np.flatnonzero(among)
    asked = np.asarray(pc.is_valid(queries.labels))
    if not len(places):
        nothing = np.full((len(asked), 1), -1, np.int32), np.full((len(asked), 1), -np.inf, np.float32)
        return Retrieval(None, {}, [], nothing, np.zeros(len(asked), bool), asked)
    own_place = np.where(among[rows], np.searchsorted(places, rows), -1) if whole else np.zeros(0, np.int64)
    exclude = Csr.single(own_place) if whole else None
    unit = unit_rows(items.vectors[places])
    at, scores = top_k(unit_rows(queries.vectors), unit, min(FEW, len(places)), exclude=exclude)
    neighbours = np.where(at < 0, np.int32(-1), places[at].astype(np.int32)), scores
    names, own, theirs = _numbered(queries.labels, items.labels)
    nearest = np.where(neighbours[0][:, 0] < 0, -1, theirs[np.maximum(neighbours[0][:, 0], 0)])
    right = asked & (nearest >= 0) & (nearest == own)
    counts = np.bincount(theirs[places[theirs[places] >= 0]], minlength=len(names) + 1)
    shared = asked & (counts[own] > whole)
    ks = sorted(k for k in {1, *ks} if k <= len(places) - whole)
    metrics, knn = None, {}
    if shared.any() and ks:
        others = () if whole else (items.vectors[places], theirs[places])
        metrics = retrieval_metrics(queries.vectors[asked], own[asked], *others, ks=ks)
        voting = asked if whole else shared
        knn = knn_accuracy(queries.vectors[voting], own[voting], *others, ks=ks)
    return Retrieval(metrics, knn, _by_label(names, own, nearest, shared, right), neighbours, right, asked)


def _numbered(queries: pa.Array, items: pa.Array) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The labels in their order, and the number of each query's and each item's; -1 for none."""
    names = pc.unique(pa.chunked_array([queries, items]).drop_null()).sort()
    numbers = (pc.fill_null(pc.index_in(labels, value_set=names), -1) for labels in (queries, items))
    own, theirs = (np.asarray(n).astype(np.int64) for n in numbers)
    return names.to_pylist(), own, theirs


def _by_label(
    names: Sequence[str], own: np.ndarray, nearest: np.ndarray, known: np.ndarray, right: np.ndarray
) -> list[dict[str, Any]]:
    """A row for each label of known queries, the worst first. own, nearest: (n,) numbers of labels."""
    rows: list[dict[str, Any]] = []
    if not known.any():
        return rows
    order = np.argsort(own[known], kind="stable")
    labels, first = np.unique(own[known][order], return_index=True)
    for label, mine in zip(labels, np.split(np.flatnonzero(known)[order], first[1:]), strict=True):
        wrong = nearest[mine[~right[mine] & (nearest[mine] >= 0)]]
        taken, counts = np.unique(wrong, return_counts=True)
        confused = None
        if len(taken):
            confused = {"label": names[taken[counts.argmax()]], "queries": int(counts.max())}
        recall = float(right[mine].mean())
        rows.append({"label": names[label], "queries": len(mine), "recall@1": recall, "confused": confused})
    return sorted(rows, key=lambda row: (row["recall@1"], row["label"]))
