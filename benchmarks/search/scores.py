"""The best of dense scores, as baselines give them, against NumPy's partition of the same rows.

``python -m benchmarks.search.scores [--items 200000 --rows 50 --k 20]``: processor milliseconds a row, the least of
five turns, for scores that all differ, for those of item-kNN, of which few are not 0, and for five ones among zeros.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np


def least(work: Callable[[], object]) -> float:
    """Processor seconds of the fastest of five turns."""
    seconds = []
    for _ in range(5):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def main() -> None:
    """Draw the scores, take turns, print a line each."""
    from topkin.search.topk import top_k_of_scores

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"items": 200_000, "rows": 50, "k": 20}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    rng, shape = np.random.default_rng(0), (args.rows, args.items)
    values = rng.random(shape, dtype=np.float32)
    kinds = {
        "all different": values,
        "few above 0": np.where(rng.random(shape) < 600 / args.items, values, np.float32(0)),
        "five ones": (rng.random(shape) < 5 / args.items).astype(np.float32),
    }
    for name, scores in kinds.items():
        ours = least(lambda scores=scores: top_k_of_scores(scores, args.k))
        peer = least(lambda scores=scores: np.partition(scores, args.items - args.k, axis=1))
        each = [1e3 * seconds / args.rows for seconds in (ours, peer)]
        print(f"  {name:14s} {each[0]:6.2f} ms a row   partition {each[1]:6.2f} ms   {each[0] / each[1]:.2f} of it")


if __name__ == "__main__":
    main()
