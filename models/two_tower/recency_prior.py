"""Recent popularity from the catalogue's counts: a score of its own, or a power in the lengths of other blocks."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

DISCOUNT = 0.8
_LARGEST = 3.0


@dataclass(frozen=True)
class RecencyPrior:
    """What is added to every score for what sells now: one block of coordinates, 1 in, ``b`` out.

    discount: share of an item's long-term sales that is taken off its recent ones, so that 1 asks what sells
    more than it used to; below 0, sales are added. centre: the raw prior that scores 0, its mean over the items
    sold. recent: the power of recent sales.
    """

    discount: float = DISCOUNT
    centre: float = 0.0
    recent: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    def of(self, catalogue: pa.Table) -> np.ndarray:
        """b of each row of a catalogue, (n,) float32 within -3 and 3."""
        return self.scaled(*sales(catalogue))

    def scaled(self, recent: np.ndarray, events: np.ndarray) -> np.ndarray:
        """b from counts: log recent sales less ``discount`` times log sales, centred and clipped."""
        score = raw(recent, events, self.discount, self.recent)
        return np.clip(score - self.centre, -_LARGEST, _LARGEST).astype(np.float32)


def sales(catalogue: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """The recent sales and all sales of each row of a catalogue, each (n,) float64."""
    recent, events = (np.asarray(catalogue[name]).astype(np.float64) for name in ("recent", "events"))
    return recent, events


def raw(recent: np.ndarray, events: np.ndarray, discount: float, power: float = 1.0) -> np.ndarray:
    """power * log(recent + 1/2) - discount * log(events + 5), (n,) float64: low for what stopped selling."""
    return power * np.log(recent + 0.5) - discount * np.log(events + 5.0)


def fitted(recent: np.ndarray, events: np.ndarray, discount: float = DISCOUNT) -> RecencyPrior:
    """The prior for a catalogue's counts."""
    sold = events > 0
    return RecencyPrior(discount, float(raw(recent, events, discount)[sold].mean()) if sold.any() else 0.0)


def by_sales(recent: np.ndarray, events: np.ndarray) -> RecencyPrior:
    """The prior that ranks by sales, recent ones to tell equals apart; what sells 400 times less than the best ties.

    recent, events: (n,) sales of each item.
    """
    discount, power = -1.0, 0.05
    return RecencyPrior(discount, float(raw(recent, events, discount, power).max(initial=0.0)) - _LARGEST, power)


def recency_lift(recent: np.ndarray, events: np.ndarray) -> np.ndarray:
    """How much of its sales an item made lately, (n,) float64 above 0: (recent + 1/20) / (events + 1/20).

    A power of it is the length by which out-vectors carry what sells now.
    """
    return (recent + 0.05) / (events + 0.05)
