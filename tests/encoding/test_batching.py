"""Batches that shrink until they fit, and items made ahead of those who use them."""

import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import count

import numpy as np
import pytest

from topkin.encoding.batching import in_batches, prefetched, shrinking


def test_what_does_not_fit_is_tried_again_with_half_the_size():
    tried = []

    def call(size):
        tried.append(size)
        if size > 200:
            raise MemoryError
        return "done"

    assert shrinking(call, 1000) == ("done", 125)
    assert tried == [1000, 500, 250, 125]


def test_what_does_not_fit_at_all_raises():
    def call(size):
        raise MemoryError(f"size {size}")

    with pytest.raises(MemoryError, match="size 1"):
        shrinking(call, 5)


def test_other_errors_are_not_tried_again():
    def call(size):
        raise KeyError(size)

    with pytest.raises(KeyError, match="8"):
        shrinking(call, 8, (MemoryError,))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        shrinking(call, 0)


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9])
def test_rows_in_batches_are_the_rows_of_one_call(rows):
    x = np.random.default_rng(0).random((9, 3)).astype(np.float32)
    sizes = []

    def call(batch):
        sizes.append(len(batch))
        return x[batch]

    assert np.array_equal(in_batches(call, rows, 4, 3), x[:rows])
    assert all(size <= 4 for size in sizes)


def test_prefetched_items_come_in_order_and_all() -> None:
    assert list(prefetched(range(50), depth=1)) == list(range(50))
    assert list(prefetched([])) == []


def test_an_error_while_items_are_made_comes_after_those_before() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("two")

    seen = []
    with pytest.raises(KeyError, match="two"):
        seen.extend(prefetched(broken()))
    items = prefetched(broken())
    assert next(items) == 1


def test_a_reader_that_stops_early_stops_the_thread() -> None:
    collected = []

    def endless() -> Iterator[int]:
        for n in count():
            collected.append(n)
            yield n

    with closing(prefetched(endless(), depth=1)) as items:
        assert next(items) == 0
    so_far = len(collected)
    assert so_far <= 4
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
