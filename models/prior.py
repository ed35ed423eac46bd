"""What sells now, as a coordinate of the vectors: a score rises with an item's recent sales.

The wanted score of user u for item j is ``<u, o_j> + strength * b_j`` with b_j from the catalogue's counts.
One more coordinate holds it: items get ``strength * b_j``, purchases a constant. A second one makes every
item's vector as long as the longest could be, so that a cosine ranks as the inner product does (Bachrach et
al., Speeding up the Xbox recommender system, RecSys 2014). Both are linear in the purchases: vectors stay
unit vectors, scores cosines, and a purchase's share of a score exact.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

PRIOR_DIMS = 2
DISCOUNT = 0.8
_LARGEST = 3.0


@dataclass(frozen=True)
class Prior:
    """How much what sells now counts.

    strength: weight beside the cosine of the towers; 0 for none. discount: share of an item's long-term
    sales that is taken off its recent ones, so that 1 asks what sells more than it used to. centre: mean of
    the raw prior over the items sold. push: the constant coordinate of a purchase's in-vector.
    """

    strength: float = 0.0
    discount: float = DISCOUNT
    centre: float = 0.0
    push: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    def of(self, catalogue: pa.Table) -> np.ndarray:
        """b of each row of a catalogue, (n,) float32 within -3 and 3."""
        recent, events = (np.asarray(catalogue[name]).astype(np.float64) for name in ("recent", "events"))
        return self.scaled(recent, events)

    def scaled(self, recent: np.ndarray, events: np.ndarray) -> np.ndarray:
        """b from counts: log recent sales less ``discount`` times log sales, centred and clipped."""
        return np.clip(raw(recent, events, self.discount) - self.centre, -_LARGEST, _LARGEST).astype(np.float32)

    def published(self, out: np.ndarray, pooled: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Out-vectors (unit rows) and in-vectors with the prior's two coordinates, each (n, dim + 2) float32.

        out: (n, dim) unit rows; zero rows, of which nothing is known, stay zero.
        """
        known = (out != 0).any(axis=1)
        side = np.where(known, self.strength * b.astype(np.float64), 0.0)
        longest = 1.0 + (self.strength * _LARGEST) ** 2
        rest = np.sqrt(np.maximum(longest - known - side**2, 0.0)) * known
        vectors = np.column_stack([out.astype(np.float64), side, rest]) / np.sqrt(longest)
        push = np.where((pooled != 0).any(axis=1), self.push if self.strength else 0.0, 0.0)
        return vectors.astype(np.float32), np.column_stack([pooled, push, np.zeros(len(b))]).astype(np.float32)


def raw(recent: np.ndarray, events: np.ndarray, discount: float) -> np.ndarray:
    """log(recent + 1/2) - discount * log(events + 5), (n,) float64: never infinite, low for what stopped selling."""
    return np.log(recent + 0.5) - discount * np.log(events + 5.0)


def fitted(
    recent: np.ndarray, events: np.ndarray, coherence: float, *, strength: float, discount: float = DISCOUNT
) -> Prior:
    """The prior for a catalogue.

    coherence: the median over users of ``|sum w in| / sum w``, the length at which a purchase's constant
    coordinate weighs like the towers' part. Users whose purchases agree less lean on the prior more.
    """
    sold = events > 0
    centre = float(raw(recent, events, discount)[sold].mean()) if sold.any() else 0.0
    return Prior(strength=strength, discount=discount, centre=centre, push=coherence)
