from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.interactions import Interactions, concatenate
from topkin.models.data.histories import after_cut, before_cut, count, sold_most


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


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 12))
def test_the_items_that_sold_most_keep_the_order_of_the_catalogue(sales, most):
    catalogue = pa.table({"item_id": pa.array(range(len(sales))), "events": pa.array(sales, pa.int64())})
    best = sorted(sorted(range(len(sales)), key=lambda i: -sales[i])[:most])
    assert sold_most(catalogue, most)["item_id"].to_pylist() == best


def test_purchases_of_items_that_are_not_learned_are_left_out(purchases):
    kept = purchases.item_ids.take(pa.array([7, 2, 5]))
    few = replace(purchases, item_ids=kept, some=True)
    for name in purchases.names():
        whole, some = purchases.part(name), few.part(name)
        assert some.n_users == whole.n_users
        assert some.n_items == 3
        number = {7: 0, 2: 1, 5: 2}
        for user in range(whole.n_users):
            before, after = (slice(*h.indptr[user : user + 2]) for h in (whole, some))
            pairs = zip(whole.items[before], whole.ages[before], strict=True)
            expected = [(number[i], age) for i, age in pairs if i in number]
            assert list(zip(some.items[after].tolist(), some.ages[after], strict=True)) == expected
    with pytest.raises(ValueError, match="every bought item must be in the catalogue"):
        replace(purchases, item_ids=kept).part(purchases.names()[0])


def test_an_epoch_reads_parts_until_it_has_its_purchases_and_another_reads_others(purchases):
    sizes = {name: len(purchases.part(name).items) for name in purchases.names()}
    assert len(sizes) == 3
    few, read = replace(purchases, epoch=1), set()
    for seed in range(20):
        ((names, group),) = few.named_groups(np.random.default_rng(seed))
        assert len(names) == 1
        assert len(group.items) == sizes[names[0]]
        read |= set(names)
    assert read == set(sizes)
    more = replace(purchases, epoch=min(sizes.values()) + max(sizes.values()))
    for seed in range(5):
        ((names, _),) = more.named_groups(np.random.default_rng(seed))
        assert sum(sizes[name] for name in names[:-1]) < more.epoch
        assert sum(sizes[name] for name in names) >= more.epoch or len(names) == 3
