"""Histories in batches of a few fixed lengths, so that a model does not work through their padding."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

import numpy as np

from topkin.encoding.signature import EncoderInput

Feeds = Mapping[str, np.ndarray]


def history_lengths(inputs: Sequence[EncoderInput], feeds: Feeds) -> np.ndarray:
    """How long each row's histories are, (n,) int64: that of the longest, without its padding.

    Args:
        inputs: Of a model; those with buckets count.
        feeds: Their padded arrays, (n, length) each.
    """
    longest = np.zeros(len(next(iter(feeds.values()))), np.int64)
    for spec in inputs:
        if spec.buckets:
            given = feeds[spec.name] != (b"" if feeds[spec.name].dtype == object else 0)
            ends = given if spec.pad == "before" else given[:, ::-1]
            lengths = np.where(given.any(axis=1), given.shape[1] - ends.argmax(axis=1), 0)
            np.maximum(longest, lengths, out=longest)
    return longest


def in_buckets(lengths: np.ndarray, size: int, widths: Sequence[int]) -> Iterator[tuple[np.ndarray, int]]:
    """Batches of at most ``size`` rows, (rows,) row numbers, each with the width that its histories are padded to.

    Every row is in one batch that is wide enough. The rows that a width has over after its whole batches go into the
    last batch of the next width that has any, where they fit in; the model works no longer for them.

    Args:
        lengths: (n,), none above the last width.
        size: Rows of a batch, at least 1.
        widths: Ascending.
    """
    bucket = np.searchsorted(widths, lengths)
    used, waiting = np.unique(bucket), np.zeros(0, np.int64)
    for number, following in zip_longest(used, used[1:]):
        waiting = np.concatenate([waiting, np.flatnonzero(bucket == number)])
        left = len(waiting) % size
        free = 0 if following is None else -int((bucket == following).sum()) % size
        whole = len(waiting) - (left if left <= free else 0)
        for start in range(0, whole, size):
            yield waiting[start : min(start + size, whole)], widths[number]
        waiting = waiting[whole:]


def of_width(spec: EncoderInput, array: np.ndarray, width: int) -> np.ndarray:
    """The columns of a padded history, (n, length), that hold those no longer than ``width``; others as they are."""
    if not spec.buckets:
        return array
    return array[:, -width:] if spec.pad == "before" else array[:, :width]
