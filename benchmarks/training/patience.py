"""Where patience ends simulated trainings: the metric of 900 users over epochs, each user with noise that shrinks.

Curves rise by .009 in a line or to a limit, fall as much, or are flat, in 8 epochs; a user's noise has a deviation of
.05 in the first, a seventh less in each after it. ``by noise`` counts two epochs from the last one that was better by
more than the noise; ``and trend`` goes on beyond while the curve rises since that one.
"""

import argparse
from collections.abc import Callable

import numpy as np

from topkin.models.training.validation import is_better, rises

EPOCHS, USERS, RISE, PATIENCE = 8, 900, 0.009, 2
SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rising": lambda x: x,
    "saturating": lambda x: (1 - np.exp(-5 * x)) / (1 - np.exp(-5)),
    "flat": lambda x: 0 * x,
    "falling": lambda x: -x,
}


def ended(values: np.ndarray, *, trend: bool) -> tuple[int, int]:
    """How many epochs are run, and which one is kept, both from 1; values: (n_epochs, n_users) float64."""
    best, means = 0, values.mean(axis=1)
    for epoch in range(1, len(values)):
        best = epoch if is_better(values[epoch], values[best]) else best
        if epoch - best >= PATIENCE and not (trend and rises(means[best : epoch + 1].tolist())):
            return epoch + 1, best + 1
    return len(values), best + 1


def shares(shape: str, *, trend: bool, curves: int) -> tuple[float, float, float]:
    """Mean epochs run, the share of curves run for over half, and that of those that lose over a third of the rise."""
    rng, truth = np.random.default_rng(0), RISE * SHAPES[shape](np.linspace(0, 1, EPOCHS))
    scale = 0.05 * 0.85 ** np.arange(EPOCHS)
    ends = []
    for _ in range(curves):
        noise = rng.normal(0, 1, (EPOCHS, USERS)) * scale[:, None]
        ends.append(ended(rng.beta(0.6, 3, USERS) + truth[:, None] + noise, trend=trend))
    run, kept = np.array(ends).T
    return float(run.mean()), float((run > EPOCHS / 2).mean()), float((truth.max() - truth[kept - 1] > RISE / 3).mean())


def main() -> None:
    """Print a row for each shape and rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", type=int, default=1000)
    asked = parser.parse_args()
    for shape in SHAPES:
        for name, trend in (("by noise", False), ("and trend", True)):
            run, long, lost = shares(shape, trend=trend, curves=asked.curves)
            print(f"{shape:10} {name:9} {run:.2f} epochs, {long:.1%} over {EPOCHS // 2}; a third lost by {lost:.1%}")


if __name__ == "__main__":
    main()
