"""Times that databases write where there is none: the first and the last that they know, the beginning of an epoch."""

import numpy as np

_DAY = 86_400_000_000
_DAYS = ("0001-01-01", "1601-01-01", "1753-01-01", "1899-12-30", "1899-12-31", "1900-01-01", "1970-01-01", "9999-12-31")
STAND_INS = {day: int(np.datetime64(day, "D").astype(np.int64)) for day in _DAYS}
"""Days by name, as days since 1970."""


def stand_ins(micros: np.ndarray) -> dict[str, np.ndarray]:
    """Which times, (n,) microseconds since 1970, lie on a day that stands for none, by that day; (n,) bool each.

    A zone moves the first moment of 1970 by some hours, so its eve counts as it does.
    """
    days = micros // _DAY
    suspicious = (days < 1) | (days >= STAND_INS["9999-12-31"])
    if not suspicious.any():
        return {}
    where = {name: days == day for name, day in STAND_INS.items()}
    where["1970-01-01"] |= days == -1
    return {name: mask for name, mask in where.items() if mask.any()}


def is_stand_in(micros: np.ndarray) -> np.ndarray:
    """Which times stand for none, (n,) bool."""
    masks = stand_ins(micros).values()
    return np.any(list(masks), axis=0) if masks else np.zeros(len(micros), bool)


def main_stand_in(micros: np.ndarray) -> str | None:
    """The most frequent of the days that stand for none, where more than half of the times lie on such days."""
    counts = {day: int(mask.sum()) for day, mask in stand_ins(micros).items()}
    return max(counts, key=counts.__getitem__) if 2 * sum(counts.values()) > len(micros) else None
