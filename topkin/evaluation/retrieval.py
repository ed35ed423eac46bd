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
        """At most so many rows, drawn by a seed, and their numbers."""
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
    """

    metrics: dict[str, float] | None
    knn: dict[int, float]
    by_label: list[dict[str, Any]]
    nearest: TopK
    right: np.ndarray


def judge(queries: LabelledVectors, rows: np.ndarray, items: LabelledVectors, ks: Sequence[int]) -> Retrieval:
    """Look queries up among the items, exactly, by cosine.

    Args:
        queries: What is looked up; of the items themselves no item is found for itself.
        rows: (n,) their numbers among the items, where ``queries.own``.
        items: Those that may be found.
        ks: Cut-offs; those above the number of items are left out.
    """
    exclude = Csr.single(rows) if queries.own else None
    found = top_k(unit_rows(queries.vectors), unit_rows(items.vectors), min(FEW, len(items.ids)), exclude=exclude)
    nearest = items.labels.take(pa.array(np.where(found[0][:, 0] < 0, 0, found[0][:, 0])))
    known = np.asarray(pc.is_valid(queries.labels)) & (found[0][:, 0] >= 0)
    right = known & np.asarray(pc.fill_null(pc.equal(nearest, queries.labels), False))
    among = np.asarray(pc.is_valid(items.labels))
    ks = [k for k in ks if k < int(among.sum())]
    metrics, knn = None, {}
    shared = np.intersect1d(_words(queries.labels), _words(items.labels))
    if len(shared) and ks and (not queries.own or _twice(items.labels)):
        asked = queries.vectors[known], queries.labels.filter(pa.array(known)).to_pylist()
        others = items.vectors[among], items.labels.filter(pa.array(among)).to_pylist()
        if queries.own and len(asked[0]) == len(others[0]):
            metrics, knn = retrieval_metrics(*asked, ks=ks), knn_accuracy(*asked, ks=ks)
        elif queries.own:
            metrics = {"recall_any@1": float(right[known].mean()), "queries": int(known.sum())}
        else:
            metrics, knn = retrieval_metrics(*asked, *others, ks=ks), knn_accuracy(*asked, *others, ks=ks)
    return Retrieval(metrics, knn, _by_label(queries.labels, nearest, known, right), found, right)


def _words(labels: pa.Array) -> np.ndarray:
    return np.asarray(pc.unique(labels.drop_null()).to_pylist(), dtype=object)


def _twice(labels: pa.Array) -> bool:
    counts = pc.value_counts(labels.drop_null())
    return len(counts) > 0 and bool(pc.max(counts.field("counts")).as_py() > 1)


def _by_label(labels: pa.Array, nearest: pa.Array, known: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """A row for each label, the worst first."""
    rows = []
    own, theirs = np.asarray(labels.to_pylist(), dtype=object), np.asarray(nearest.to_pylist(), dtype=object)
    for label in sorted(set(own[known])):
        mine = known & (own == label)
        wrong = [w for w in theirs[mine & ~right] if w is not None]
        names, counts = np.unique(np.asarray(wrong, dtype=str), return_counts=True)
        confused = None if not len(names) else {"label": str(names[counts.argmax()]), "queries": int(counts.max())}
        rows.append(
            {
                "label": str(label),
                "queries": int(mine.sum()),
                "recall@1": float(right[mine].mean()),
                "confused": confused,
            }
        )
    return sorted(rows, key=lambda row: (row["recall@1"], row["label"]))
