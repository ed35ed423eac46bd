"""From similarity to a decision: the threshold above which a match is right often enough."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage


@dataclass(frozen=True)
class Calibration:
    """A threshold, what it gives, and the curve it was chosen from.

    Attributes:
        threshold: accept a match whose score is at least this.
        precision: the share of accepted ones that are right.
        recall: the share of all queries that are accepted and right.
        target: the precision asked for.
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
    target: float
    queries: int
    thresholds: np.ndarray
    precisions: np.ndarray
    recalls: np.ndarray

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


def calibrate(scores: Sequence[float] | np.ndarray, right: Sequence[bool] | np.ndarray, target: float) -> Calibration:
    """The lowest threshold that accepts with a precision of at least ``target``. Equal scores are accepted together.

    Args:
        scores: (n,) finite, of the best match of each query.
        right: (n,) bool, whether the match was right.
        target: above 0, at most 1.

    Raises:
        ValueError: another target, none or unequally many queries, scores that are not finite, or a target that
            no threshold reaches, with the best that one does.

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
    if isinstance(target, str) or not 0 < target <= 1:
        raise ValueError(f"the target precision must be above 0 and at most 1, got {target!r}")
    if scores.shape != right.shape or scores.ndim != 1 or not len(scores):
        raise ValueError(f"each query must have a score and a truth, got shapes {scores.shape} and {right.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite, got {int((~np.isfinite(scores)).sum())} that are not")
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(ordered[1:] != ordered[:-1], True)
    rights = np.cumsum(right[order])[last]
    accepted = np.flatnonzero(last) + 1
    precisions, recalls = rights / accepted, rights / len(scores)
    good = np.flatnonzero(precisions >= target)
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
        target=float(target),
        queries=len(scores),
        thresholds=ordered[last],
        precisions=precisions,
        recalls=recalls,
    )
