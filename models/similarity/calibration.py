"""From similarity to a decision: the threshold above which a match is right often enough."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage


@dataclass(frozen=True)
class Calibration:
    """A threshold, what it gives, and the curve it was chosen from.

    Attributes:
        threshold: accept a match whose score is at least this.
        precision: the share of accepted ones that are right.
        recall: the share of queries with a known label that are accepted and right.
        target: the precision asked for; None for the highest F1.
        queries: how many it was chosen on.
        thresholds: (m,) float64, one for each distinct score, highest first.
        precisions: (m,) at each.
        recalls: (m,) at each.

    Examples:
        >>> from topkin.models import Calibration, calibrate
        >>> calibrate([0.9, 0.8, 0.3], [True, True, False], 0.95).save("curve.parquet")
        >>> Calibration.load("curve.parquet").threshold
        0.8
    """

    threshold: float
    precision: float
    recall: float
    target: float | None
    queries: int
    thresholds: np.ndarray = field(repr=False)
    precisions: np.ndarray = field(repr=False)
    recalls: np.ndarray = field(repr=False)

    def __str__(self) -> str:
        aim = "highest F1" if self.target is None else f"precision of at least {self.target:g}"
        return (
            f"threshold {self.threshold:.4f} ({aim}): precision {self.precision:.3f}, recall {self.recall:.3f}, on "
            f"{self.queries:,} queries"
        )

    def save(self, path: str) -> None:
        """Write the curve as Parquet, the choice beside it."""
        chosen = {name: getattr(self, name) for name in _CHOSEN}
        table = pa.table({name: getattr(self, name) for name in _CURVE})
        storage.write_parquet(table.replace_schema_metadata({"calibration": json.dumps(chosen)}), path)

    @classmethod
    def load(cls, path: str) -> "Calibration":
        """From :meth:`save`."""
        table = storage.read_parquet(path)
        chosen = json.loads(table.schema.metadata[b"calibration"])
        return cls(**chosen, **{name: table[name].to_numpy() for name in _CURVE})


_CHOSEN = ("threshold", "precision", "recall", "target", "queries")
_CURVE = ("thresholds", "precisions", "recalls")


def calibrate(
    scores: Sequence[float] | np.ndarray,
    right: Sequence[bool] | np.ndarray,
    target: float | None,
    known: Sequence[bool] | np.ndarray | None = None,
) -> Calibration:
    """The lowest threshold that accepts with a precision of at least ``target``. Equal scores are accepted together.

    Args:
        scores: (n,) finite, of the best match of each query.
        right: (n,) bool, whether the match was right.
        target: above 0, at most 1; None for the threshold with the highest F1, of equal ones the lowest.
        known: (n,) bool, as of :func:`match_metrics`; all where None.

    Raises:
        ValueError: another target, none or unequally many queries, scores that are not finite, a right match of a
            label that is not known, a target that no threshold reaches, with the best that one does, or, without a
            target, no right match.

    Examples:
        >>> from topkin.models import calibrate
        >>> chosen = calibrate([0.9, 0.8, 0.6, 0.3], [True, True, False, True], target=0.9)
        >>> chosen.threshold, chosen.precision, chosen.recall
        (0.8, 1.0, 0.5)
    """
    scores, truth = np.asarray(scores, np.float64), np.asarray(right)
    if truth.size and not np.isin(truth, (False, True)).all():
        raise ValueError("each match must be right or not, True or False, got something else: compare the labels")
    right = truth.astype(bool)
    if target is not None and (isinstance(target, str) or not 0 < target <= 1):
        raise ValueError(f"the target precision must be above 0 and at most 1, got {target!r}")
    if scores.shape != right.shape or scores.ndim != 1 or not len(scores):
        raise ValueError(f"each query must have a score and a truth, got shapes {scores.shape} and {right.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite, got {int((~np.isfinite(scores)).sum())} that are not")
    askable = np.ones(len(right), bool) if known is None else np.asarray(known, bool)
    if askable.shape != right.shape or (right & ~askable).any():
        raise ValueError(f"known must be a truth for each query, True where its match is right, got {askable.shape}")
    if target is None and not right.any():
        raise ValueError(
            f"the highest F1 needs a right match, got none in {len(right)}: index items of the queries' labels, or "
            "train the encoder longer"
        )
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(ordered[1:] != ordered[:-1], True)
    rights = np.cumsum(right[order])[last]
    accepted = np.flatnonzero(last) + 1
    precisions, recalls = rights / accepted, rights / max(askable.sum(), 1)
    f1 = 2 * rights / (accepted + askable.sum())
    good = np.flatnonzero(f1 == f1.max()) if target is None else np.flatnonzero(precisions >= target)
    if not len(good):
        best = int(np.argmax(precisions))
        raise ValueError(
            f"a threshold must reach precision {target:g}, the best is {precisions[best]:.4f} at score "
            f"{ordered[last][best]:.4f}: lower the target, or train the encoder longer"
        )
    at = int(good[-1])
    return Calibration(
        threshold=float(ordered[last][at]),
        precision=float(precisions[at]),
        recall=float(recalls[at]),
        target=None if target is None else float(target),
        queries=len(scores),
        thresholds=ordered[last],
        precisions=precisions,
        recalls=recalls,
    )


def match_metrics(
    scores: Sequence[float] | np.ndarray,
    right: Sequence[bool] | np.ndarray,
    known: Sequence[bool] | np.ndarray,
    threshold: float,
) -> dict[str, float]:
    """How well matches at a threshold tell labels, some of which cannot be told.

    Args:
        scores: (n,) of the best match of each query.
        right: (n,) bool, whether its label is the query's.
        known: (n,) bool, whether any indexed item has the query's label.
        threshold: matches with at least this score are accepted.

    Returns:
        ``precision``, the share of accepted matches that are right; ``recall``, the share of queries with a known label
        that are accepted and right; ``f1`` of both; ``accuracy``, the share of all queries that are accepted and right,
        or refused and of no known label; ``false_positive_rate``, the share of queries of no known label that are
        accepted; ``accepted``, their share of all; ``threshold``, ``queries``. A share of nothing is 0.
    """
    accepted = np.asarray(scores) >= threshold
    right, known = np.asarray(right, bool), np.asarray(known, bool)
    hits, queries = int((accepted & right).sum()), len(accepted)

    def share(part: int, whole: int) -> float:
        return float(part / whole) if whole else 0.0

    return {
        "threshold": float(threshold),
        "precision": share(hits, int(accepted.sum())),
        "recall": share(hits, int(known.sum())),
        "f1": share(2 * hits, int(accepted.sum() + known.sum())),
        "accuracy": share(hits + int((~accepted & ~known).sum()), queries),
        "false_positive_rate": share(int((accepted & ~known).sum()), int((~known).sum())),
        "accepted": share(int(accepted.sum()), queries),
        "queries": float(queries),
    }
