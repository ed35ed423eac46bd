import numpy as np
import pyarrow as pa

from topkin.artifacts import schemas
from topkin.models.data.histories import before_cut, fresh
from topkin.models.data.in_memory import SPAN_DAYS, bare_catalogue, without_times


def pairs(seed=0):
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(40), rng.integers(1, 30, 40))
    items = np.concatenate([np.sort(rng.choice(60, n, replace=False)) for n in np.bincount(users)])
    mixed = rng.permutation(len(users))
    return users[mixed], items[mixed], pa.array([f"i{n:02d}" for n in range(60)])


def test_every_pair_is_there_once_whatever_its_order():
    users, items, ids = pairs()
    held = without_times(users, items, ids, seed=1).parts[0]
    assert sorted(zip(held.users.tolist(), held.items.tolist(), strict=True)) == sorted(
        zip(users.tolist(), items.tolist(), strict=True)
    )
    assert ((held.ages >= 0) & (held.ages < SPAN_DAYS)).all()
    for user in range(held.n_users):
        ages = held.ages[held.indptr[user] : held.indptr[user + 1]]
        assert (np.diff(ages) <= 0).all()


def test_the_last_days_are_a_stretch_of_each_users_items_and_their_share_of_them():
    users, items, ids = pairs()
    part = without_times(users, items, ids, seed=1).parts[0]
    known, late = before_cut(part, 28.0), fresh(part, 28.0)
    assert 0.15 < len(late.items) / len(part.items) < 0.25
    for user in range(part.n_users):
        own = np.sort(part.items[part.indptr[user] : part.indptr[user + 1]])
        held = np.isin(own, late.items[late.indptr[user] : late.indptr[user + 1]])
        assert (held != np.roll(held, 1)).sum() <= 2  # one run around the circle
    assert len(known.items) + len(late.items) == len(part.items)


def test_seeds_hold_out_other_pairs():
    a, b = (without_times(*pairs(), seed=seed).parts[0] for seed in (1, 2))
    again = without_times(*pairs(), seed=1).parts[0]
    assert (a.ages == again.ages).all()
    assert not np.array_equal(fresh(a, 28.0).items, fresh(b, 28.0).items)


def test_the_catalogue_counts_the_pairs():
    users, items, ids = pairs()
    catalogue = bare_catalogue(without_times(users, items, ids, seed=1))
    assert catalogue.schema.equals(schemas.catalogue(pa.string()))
    assert catalogue["events"].to_pylist() == np.bincount(items, minlength=60).tolist()
    assert catalogue["item_id"].to_pylist() == ids.to_pylist()
