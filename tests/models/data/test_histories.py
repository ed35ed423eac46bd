from dataclasses import replace

import numpy as np
import pytest

from topkin.interactions import Interactions, concatenate
from topkin.models.data.histories import after_cut, before_cut, count


@pytest.fixture
def history() -> Interactions:
    """Twelve users with 0 to 11 purchases of 20 items, repeats among them."""
    rng = np.random.default_rng(2)
    lengths = np.arange(12)
    items = rng.integers(0, 20, lengths.sum()).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ages = np.concatenate([np.sort(rng.uniform(0, 90, n))[::-1] for n in lengths]).astype(np.float32)
    return Interactions(indptr, items, ages, np.ones(len(items), np.float32), 20)


def test_a_cut_splits_the_history_and_moves_the_clock(history):
    before, after = before_cut(history, 30), after_cut(history, 30)
    assert len(before.items) + len(after.items) == len(history.items)
    assert before.ages.min() >= 0
    assert after.ages.max() < 30
    whole = concatenate([before, after])
    assert whole.n_users == 24
    assert len(whole.items) == len(history.items)


def test_counts_are_those_of_the_catalogue(purchases, catalogue):
    counts = count(purchases, 7)
    assert counts.events.tolist() == catalogue["events"].to_pylist()
    assert counts.buyers.tolist() == catalogue["users"].to_pylist()
    assert counts.recent.tolist() == catalogue["recent"].to_pylist()
    assert counts.examples == counts.events.sum()


def test_small_buffers_stream_the_same_purchases(purchases):
    whole = next(iter(purchases.groups(np.random.default_rng(0))))
    streamed = list(replace(purchases, buffer=1).groups(np.random.default_rng(0)))
    assert len(streamed) == 3
    assert sorted(whole.items.tolist()) == sorted(i for g in streamed for i in g.items.tolist())
