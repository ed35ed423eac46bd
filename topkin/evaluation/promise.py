"""What validation promised and what the held-out purchases gave: a miss beyond the noise of both is an alarm."""

import math
from collections.abc import Mapping
from typing import Any

METRIC = "ndcg@20"
"""What training validates on: of new items, those sold before."""
PROTOCOL = "novel"


def promise_of(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The promise beside what was found; None where either was not measured.

    It is missed where what was found lies below it by more than both 95 % intervals together, the root of the sum of
    their squared halves.

    Args:
        metrics: ``metrics.json`` with ``validation``, whose ``interval`` is [low, high].

    Returns:
        Both with their intervals, whether it was ``missed``, and then the sentence that says so, ``alarm``.
    """
    promised, interval = (
        (metrics.get("validation") or {}).get(METRIC),
        (metrics.get("validation") or {}).get("interval"),
    )
    measured = metrics["intervals"].get(PROTOCOL, {}).get("model", {}).get(METRIC)
    if promised is None or interval is None or measured is None:
        return None
    low, mean, high = measured
    missed = bool(promised - mean > math.hypot(promised - interval[0], high - mean))
    alarm = (
        f"alarm: validation promised {METRIC} {promised:.4f} on new items ({interval[0]:.4f} to {interval[1]:.4f}), "
        f"what was held out gives {mean:.4f} ({low:.4f} to {high:.4f}): what came is not like what validated"
    )
    return {
        "metric": METRIC,
        "promised": promised,
        "interval": list(interval),
        "found": [low, mean, high],
        "missed": missed,
        "alarm": alarm if missed else None,
    }


def alarms(metrics: Mapping[str, Any]) -> list[str]:
    """What a person must know of a promise that was missed."""
    promise = metrics.get("promise")
    return [promise["alarm"]] if promise and promise["missed"] else []
