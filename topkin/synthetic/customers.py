"""The planted customers of the generated shop, and what they buy.

Customers come in blocks of :data:`BLOCK`, each with random numbers of its own: a block is the same whatever
else is generated. What a customer explores is drawn exactly from P(item | customer, time), proportional to
``exp(taste) * popularity * sell(item, time)``; consumables that please are bought again at their cycle.
"""

from dataclasses import dataclass

import numpy as np

from topkin.synthetic.columns import Columns, arrival_days, is_repeated
from topkin.synthetic.items import CATEGORIES, DIM, GeneratedItems, on_grid

BLOCK = 256
COUNTRIES = ("United Kingdom", "Germany", "France", "Spain", "Norway")
_COUNTRY_SHARES = (0.6, 0.15, 0.12, 0.08, 0.05)
SHARPNESS = 5.5
ADOPT, STAY = 0.35, 0.88  # chances that a consumable is bought again at all, and once more
REBUY = 0.15  # chance that something else, met again, is bought again
_SPREAD = 0.8  # of the logarithm of a customer's activity
_ROUNDS = 64


@dataclass(frozen=True)
class Customers(Columns):
    """A block of customers as arrays, (n,) each; ``number`` counts from 0 over the whole shop.

    ``taste``: (n, DIM) float32; its inner product with ``GeneratedItems.cells`` is the log of how much the customer
    prefers a cell. ``favourites``: (n, 2) category numbers. ``joined``: day of the first possible purchase.
    ``activity``: expected explored purchases a day.
    """

    number: np.ndarray
    country: np.ndarray
    joined: np.ndarray
    activity: np.ndarray
    favourites: np.ndarray
    taste: np.ndarray


@dataclass(frozen=True)
class GeneratedPurchases(Columns):
    """Purchases as arrays, (n,) each: row in the block's customers, item number, time in days."""

    row: np.ndarray
    item: np.ndarray
    day: np.ndarray


def draw_customers(
    first: int, n: int, items: GeneratedItems, *, per_customer: float, n_days: int, cut: int, rng: np.random.Generator
) -> Customers:
    """Draw ``n`` customers from number ``first`` on.

    Two thirds are there from the first day, the others join during the year, in its last three weeks before the cut, or
    after it. A taste is the sum of two categories, two brands and a style that the customer likes, and noise;
    countries differ in the categories they like. ``per_customer`` purchases are expected over the whole time.
    """
    sold = np.unique(items.category)
    country = rng.choice(len(COUNTRIES), n, p=_COUNTRY_SHARES)
    local = sold[(country[:, None] * 3 + rng.integers(3, size=(n, 1))) % len(sold)]
    favourites = sold[rng.integers(len(sold), size=(n, 2))]
    favourites[:, :1] = np.where(rng.random((n, 1)) < 0.4, local, favourites[:, :1])
    brands = rng.integers(len(items.brand_vectors), size=(n, 2))
    style = rng.integers(len(items.style_vectors), size=n)
    taste = (
        1.0 * items.category_vectors[favourites[:, 0]]
        + 0.75 * items.category_vectors[favourites[:, 1]]
        + 0.6 * items.brand_vectors[brands[:, 0]]
        + 0.4 * items.brand_vectors[brands[:, 1]]
        + 0.6 * items.style_vectors[style]
        + 0.2 * rng.normal(size=(n, DIM)) / np.sqrt(DIM)
    )
    joined = arrival_days((0.66, 0.90, 0.95), cut, n_days, rng.random(n), rng)
    days = n_days - (0.24 * max(cut - 21, 0) / 2 + 0.05 * (cut - 10.5) + 0.05 * (cut + n_days) / 2)  # mean
    activity = np.exp(rng.normal(-(_SPREAD**2) / 2, _SPREAD, n)) * per_customer / days
    return Customers(np.arange(first, first + n), country, joined, activity, favourites, on_grid(SHARPNESS * taste))


def explore(people: Customers, items: GeneratedItems, n_days: int, rng: np.random.Generator) -> GeneratedPurchases:
    """Visits and what is found on them, by thinning: exact for any season and launch."""
    lines = rng.poisson(people.activity * (n_days - people.joined))
    basket = 1 + rng.poisson(3, len(people))
    visits = -(-lines // basket)
    starts = np.concatenate([[0], np.cumsum(visits)])
    visitor = np.repeat(np.arange(len(people)), visits)
    visit_day = people.joined[visitor] + rng.random(len(visitor)) * (n_days - people.joined[visitor])
    visit_day = np.floor(visit_day) + np.clip(rng.normal(0.56, 0.11, len(visitor)), 0.34, 0.87)  # shop hours
    visit_day = np.maximum(visit_day, people.joined[visitor])

    row = np.repeat(np.arange(len(people)), lines)
    day = visit_day[starts[row] + (rng.random(len(row)) * visits[row]).astype(np.int64)] if len(row) else np.zeros(0)
    mass = np.diff(items.reach[items.cell_ends])
    chance = np.cumsum(np.exp(items.liking(people.taste)) * mass, axis=1)
    chance /= chance[:, -1:]
    chance[:, -1] = 1.0
    flat = (chance + np.arange(len(people))[:, None]).ravel()

    item = np.full(len(row), -1)
    todo = np.arange(len(row))
    for _ in range(_ROUNDS):
        cell = np.searchsorted(flat, rng.random(len(todo)) + row[todo], side="right") - row[todo] * len(mass)
        cell = np.minimum(cell, len(mass) - 1)
        start = items.reach[items.cell_ends[cell]]
        place = np.searchsorted(items.reach, start + rng.random(len(todo)) * mass[cell], side="right") - 1
        place = np.clip(place, items.cell_ends[cell], items.cell_ends[cell + 1] - 1)
        candidates = items.by_cell[place]
        accepted = rng.random(len(todo)) < items.sell(candidates, day[todo])
        item[todo[accepted]] = candidates[accepted]
        todo = todo[~accepted]
        if not len(todo):
            break
    return GeneratedPurchases(row, item, day).take(item >= 0)


def _first_of_item(bought: GeneratedPurchases) -> np.ndarray:
    """Whether a purchase is its customer's first of the item, (n,) bool."""
    order = np.lexsort((bought.day, bought.item, bought.row))
    first = np.empty(len(order), bool)
    first[order] = ~is_repeated(bought.row[order], bought.item[order])
    return first


def _refills(
    first: GeneratedPurchases, items: GeneratedItems, n_days: int, rng: np.random.Generator
) -> GeneratedPurchases:
    """The chains of purchases that follow the first one of a consumable."""
    chain = first.take((items.cycle[first.item] > 0) & (rng.random(len(first)) < ADOPT))
    refills = [chain.take(np.zeros(0, np.int64))]
    while len(chain):
        day = chain.day + items.cycle[chain.item] * np.exp(rng.normal(0, 0.1, len(chain)))
        goes_on = (day < n_days) & (day < items.gone[chain.item]) & (rng.random(len(chain)) < STAY)
        chain = GeneratedPurchases(chain.row, chain.item, day).take(goes_on)
        refills.append(chain)
    return GeneratedPurchases.concat(refills)


def draw_purchases(
    people: Customers, items: GeneratedItems, *, n_days: int, rng: np.random.Generator
) -> GeneratedPurchases:
    """All good purchases of a block: at most one line for a customer, item and second."""
    explored = explore(people, items, n_days, rng)
    first = _first_of_item(explored)
    again = (items.cycle[explored.item] == 0) & ~first & (rng.random(len(first)) >= REBUY)
    refills = _refills(explored.take(first), items, n_days, rng)
    bought = GeneratedPurchases.concat([explored.take(~again), refills])
    second = np.floor(bought.day * 86_400)
    order = np.lexsort((bought.item, second, bought.row))
    return bought.take(order[~is_repeated(bought.row[order], second[order], bought.item[order])])


def categories_of(people: Customers) -> list[list[str]]:
    """The names of each customer's favourite categories, the dearest first."""
    return [[CATEGORIES[c][0] for c in pair] for pair in people.favourites.tolist()]
