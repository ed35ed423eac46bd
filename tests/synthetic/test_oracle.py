"""The generated shop's truth: what is planted is what is bought, and it can be found again."""

import numpy as np
import pytest

from topkin.synthetic.customers import SHARPNESS, explore
from topkin.synthetic.noise import NoiseRates
from topkin.synthetic.oracle import best_items
from topkin.synthetic.shop import FIRST_USER, Shop

SHOP = Shop(noise=NoiseRates.none())
CUT = SHOP.days - SHOP.heldout_days


class Log:
    """The good purchases of the whole shop as arrays, and what is novel in the held-out part."""

    def __init__(self, shop: Shop) -> None:
        blocks = [shop.bought(b) for b in range(shop.blocks)]
        self.user = np.concatenate([people.number[bought.row] for people, bought in blocks])
        self.item = np.concatenate([bought.item for _, bought in blocks])
        self.day = np.concatenate([bought.day for _, bought in blocks])
        self.tastes = np.concatenate([people.taste for people, _ in blocks])
        known = self.day < CUT
        self.seen = np.zeros((shop.users, shop.items), bool)
        self.seen[self.user[known], self.item[known]] = True
        self.novel = np.zeros_like(self.seen)
        self.novel[self.user[~known], self.item[~known]] = True
        self.novel &= ~self.seen
        self.asked = self.novel.any(1) & self.seen.any(1)

    def recall(self, scores: np.ndarray, k: int = 10) -> float:
        """Mean recall@k on novel items over users with a history."""
        scores = np.where(self.seen, -np.inf, scores)[self.asked]
        top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        novel = self.novel[self.asked]
        return float((np.take_along_axis(novel, top, 1).sum(1) / novel.sum(1)).mean())


@pytest.fixture(scope="module")
def log() -> Log:
    return Log(SHOP)


def item_knn(seen: np.ndarray, neighbours: int = 100) -> np.ndarray:
    matrix = seen.astype(np.float32)
    unit = matrix / np.sqrt(np.maximum(matrix.sum(0), 1))
    similar = unit.T @ unit
    np.fill_diagonal(similar, 0)
    least = np.partition(similar, -neighbours, axis=1)[:, -neighbours][:, None]
    return matrix @ np.where(similar >= least, similar, 0)


def test_planted_tastes_are_what_new_purchases_follow(log: Log) -> None:
    best = SHOP.best_shard(0, 1, k=10).to_pydict()
    number = {c: i for i, c in enumerate(SHOP.planted_items()["item_id"].to_pylist())}
    oracle = np.zeros(log.seen.shape, np.float32)
    for user, rank, item in zip(best["user_id"], best["rank"], best["item_id"], strict=True):
        oracle[user - FIRST_USER, number[item]] = 11 - rank
    popular = log.recall(np.tile(log.seen.sum(0), (SHOP.users, 1)))
    assert log.recall(oracle) > 8 * popular
    assert 0.35 < log.recall(oracle) < 0.6  # far above chance, and not trivial


def test_item_knn_finds_most_of_the_planted_taste(log: Log) -> None:
    popular = log.recall(np.tile(log.seen.sum(0), (SHOP.users, 1)))
    assert log.recall(item_knn(log.seen)) > 4.5 * popular


def test_best_items_are_those_of_a_plain_loop() -> None:
    shop = Shop(users=40, items=30, purchases=300, seed=3)
    people, bought = shop.bought(0)
    items, k = shop.generated_items, 6
    cut = shop.days - shop.heldout_days
    known = bought.day < cut
    table = shop.best_shard(0, 1, k=k).to_pydict()
    offered = shop.catalogued | (items.launch < cut)
    codes = items.codes()
    expected = items.expected(cut, shop.days)
    for row in range(len(people)):
        mine = set(bought.item[known & (bought.row == row)].tolist())
        scored = [
            (
                float(people.taste[row].astype(float) @ items.cells[items.cell[i]].astype(float)) + np.log(expected[i]),
                -i,
            )
            for i in range(30)
            if expected[i] > 0 and offered[i] and i not in mine
        ]
        want = sorted(scored, reverse=True)[:k]
        got = [j for j, u in enumerate(table["user_id"]) if u == FIRST_USER + row]
        assert [table["rank"][j] for j in got] == list(range(1, len(want) + 1))
        assert [table["item_id"][j] for j in got] == [codes[-i] for _, i in want]
        np.testing.assert_allclose([table["utility"][j] for j in got], [v for v, _ in want], rtol=1e-4, atol=1e-4)


def test_best_items_leave_out_what_does_not_appeal_and_break_ties_by_number() -> None:
    items = Shop(users=1, items=12, purchases=0).generated_items
    appeal = np.ones(12)
    appeal[[0, 5]] = 0
    row, rank, item, utility, taste = best_items(
        np.zeros((2, items.cells.shape[1]), np.float32), items, appeal, np.array([1]), np.array([1]), 3
    )
    assert row.tolist() == [0, 0, 0, 1, 1, 1]
    assert rank.tolist() == [1, 2, 3] * 2
    assert item.tolist() == [1, 2, 3, 2, 3, 4]
    assert (utility == 0).all()
    assert (taste == 0).all()


def test_explored_items_have_the_planted_probability() -> None:
    shop = Shop(users=1, items=25, purchases=1, seed=11)
    items, n_days = shop.generated_items, shop.days
    people = shop.customers(0)
    keen = type(people)(
        people.number, people.country, np.zeros(1), np.full(1, 100_000 / n_days), people.favourites, people.taste / 4
    )
    explored = explore(keen, items, n_days, np.random.default_rng(0))
    chance = np.zeros(25)
    for day in range(n_days):
        now = np.exp(keen.taste[0] @ items.cells[items.cell].T) * items.popularity
        now = now * items.sell(np.arange(25), np.full(25, day + 0.56))
        chance += now / now.sum() / n_days
    share = np.bincount(explored.item, minlength=25) / len(explored)
    assert np.abs(share - chance).sum() < 0.03
    assert len(explored) == pytest.approx(100_000, rel=0.02)


def test_consumables_are_bought_again_at_their_cycle(log: Log) -> None:
    order = np.lexsort((log.day, log.item, log.user))
    user, item, day = log.user[order], log.item[order], log.day[order]
    again = (user[1:] == user[:-1]) & (item[1:] == item[:-1])
    gap, what = np.diff(day)[again], item[1:][again]
    cycle = SHOP.generated_items.cycle[what]
    refills = cycle > 0
    on_time = np.abs(np.log(gap[refills] / cycle[refills])) < 0.25
    assert on_time.mean() > 0.5
    assert refills.sum() > 5_000
    assert refills.mean() > 0.8  # what is no consumable is seldom bought twice


def test_a_category_sells_best_in_its_season(log: Log) -> None:
    category = SHOP.generated_items.category[log.item]
    christmas = log.day[category == 21]
    swimwear = log.day[category == 15]
    assert np.mean((swimwear > 150) & (swimwear < 230)) > 1.25 * np.mean((christmas > 150) & (christmas < 230))
    assert np.mean(christmas > 320) > 1.25 * np.mean(swimwear > 320)


def test_nothing_sells_before_its_launch_or_after_it_is_gone(log: Log) -> None:
    items = SHOP.generated_items
    assert (log.day >= items.launch[log.item]).all()
    assert (log.day < items.gone[log.item]).all()
    assert (log.day >= 0).all()
    assert (log.day < SHOP.days).all()


def test_cold_items_tell_their_category_by_their_title(log: Log) -> None:
    sales = np.bincount(log.item[log.day < CUT], minlength=SHOP.items)
    cold = np.flatnonzero(sales < 3)
    assert len(cold) > 40
    assert (sales[SHOP.generated_items.launch >= CUT] == 0).all()
    nouns = [t.split()[2] for t in SHOP.generated_items.titles()]
    known: dict[str, set[int]] = {}
    for i in np.flatnonzero(sales >= 3):
        known.setdefault(nouns[i], set()).add(int(SHOP.generated_items.category[i]))
    right = [known.get(nouns[i], set()) == {int(SHOP.generated_items.category[i])} for i in cold]
    assert np.mean(right) > 0.85  # a few nouns name things of two categories


def test_customers_of_a_country_share_a_liking() -> None:
    shop = Shop(users=6_000, items=400, purchases=0)
    people = [shop.customers(b) for b in range(shop.blocks)]
    country = np.concatenate([p.country for p in people])
    favourite = np.concatenate([p.favourites[:, 0] for p in people])
    shares = np.stack([np.bincount(favourite[country == c], minlength=24) / (country == c).sum() for c in range(5)])
    assert shares.max() > 3 / 24


def test_tastes_are_as_strong_as_planted(log: Log) -> None:
    lengths = np.linalg.norm(log.tastes, axis=1)
    assert SHARPNESS < lengths.mean() < 2.5 * SHARPNESS


def test_tastes_times_cells_is_exact_in_any_order() -> None:
    people, items = SHOP.customers(0), SHOP.generated_items
    turned = np.random.default_rng(0).permutation(items.cells.shape[1])
    straight = items.liking(people.taste)
    other = people.taste[:, turned].astype(np.float64) @ items.cells[:, turned].astype(np.float64).T
    assert (straight == other).all()
    by_hand = np.einsum("ud,cd->uc", people.taste.astype(np.longdouble), items.cells.astype(np.longdouble))
    assert (straight == by_hand).all()
