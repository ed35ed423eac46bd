"""The planted items of the generated shop: what they are, whose taste they meet, when they sell.

An item is of a category, a brand and a style: its *cell*. Cells have vectors; a customer's taste is a vector
too, and their inner product is how much the customer likes all items of the cell. The words of the title
name the cell, so that content predicts what purchases would.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from topkin.linalg.cosine import unit_rows
from topkin.synthetic.columns import arrival_days

DIM = 64
SPREAD = 0.8  # of the logarithm of popularity
OFF_SEASON = 0.55  # what sells on the worst day of the year, of the best
BRAND, STYLE = 0.7, 0.5  # lengths of their vectors in a cell's, where the category's is 1

# name, days between refills (0: bought once), day of the year at which it sells best (None: all year), price, nouns
CATEGORIES: tuple[tuple[str, int, int | None, float, str], ...] = (
    ("coffee", 21, None, 9.0, "espresso beans roast filter capsules arabica"),
    ("tea", 28, 355, 6.5, "oolong darjeeling infusion teabags matcha rooibos"),
    ("pet food", 14, None, 14.0, "kibble treats biscuits salmon-dinner chews pate"),
    ("cleaning", 35, 90, 4.5, "detergent soap spray tablets polish softener"),
    ("skin care", 42, None, 18.0, "lotion serum cream balm cleanser mask"),
    ("snacks", 10, None, 3.0, "crackers nuts crisps popcorn pretzels granola"),
    ("stationery", 0, 245, 5.0, "notebook pen pencil planner folder eraser"),
    ("lighting", 0, 330, 38.0, "lamp lantern bulb chandelier candle sconce"),
    ("kitchen", 0, None, 24.0, "pan whisk kettle knife bowl colander"),
    ("garden", 0, 130, 22.0, "trowel planter hose seeds secateurs trellis"),
    ("toys", 0, 350, 16.0, "puzzle blocks robot doll train kite"),
    ("books", 0, 200, 12.0, "novel atlas cookbook biography poems almanac"),
    ("outdoor", 0, 180, 45.0, "tent stove rucksack lantern hammock compass"),
    ("cycling", 0, 140, 52.0, "saddle helmet pedals pump tyre bell"),
    ("knitwear", 0, 345, 40.0, "cardigan scarf beanie mittens jumper socks"),
    ("swimwear", 0, 190, 28.0, "goggles trunks bikini towel snorkel sandals"),
    ("audio", 0, None, 70.0, "headphones speaker turntable microphone amplifier radio"),
    ("crafts", 0, None, 8.0, "yarn felt beads glue scissors stencil"),
    ("bathroom", 0, None, 17.0, "mirror curtain bathmat dispenser basket robe"),
    ("bedding", 0, 20, 48.0, "duvet pillow blanket sheet quilt mattress"),
    ("party", 0, 300, 6.0, "balloons bunting confetti streamers garland napkins"),
    ("christmas", 0, 352, 9.0, "bauble wreath tinsel advent-calendar stocking nutcracker"),
    ("baby", 0, None, 20.0, "bib rattle pram-blanket bottle romper teether"),
    ("tools", 0, 100, 33.0, "drill spanner hammer pliers sander spirit-level"),
)
STYLES = ("vintage", "modern", "rustic", "floral", "minimal", "retro", "pastel", "nordic")
EXTRAS = ("small", "large", "set", "gift", "classic", "mini", "duo", "deluxe")
BRANDS_PER_CATEGORY = 5
_ONSETS = ("b", "br", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "st", "t", "v")
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("l", "n", "r", "m", "ndo", "rra", "lli")


def brand_names(n: int) -> list[str]:
    """``n`` different made-up names, always the same ones."""
    syllables = [o + v for o in _ONSETS for v in _VOWELS]
    names = [a + c + (v if c[-1] not in "aeiou" else "") for c in _CODAS for v in _VOWELS for a in syllables]
    unique = list(dict.fromkeys(names))
    step = 389  # coprime to the count: neighbours do not look alike
    return [unique[i * step % len(unique)].capitalize() for i in range(n)]


@dataclass(frozen=True)
class GeneratedItems:
    """The items as arrays, (n_items,) each; days count from the shop's first.

    ``launch`` to ``gone`` is when an item sells; ``cycle`` is its refill cycle in days, 0 where it is bought
    once; ``popularity`` is what it sells where taste and season are equal. ``cells`` (n_cells, DIM) are the
    vectors that tastes are multiplied with, ``cell`` the row of each item in it. ``season`` is
    (n_categories, n_days), at most 1.
    """

    category: np.ndarray
    brand: np.ndarray
    style: np.ndarray
    noun: np.ndarray
    extra: np.ndarray
    price: np.ndarray
    popularity: np.ndarray
    launch: np.ndarray
    gone: np.ndarray
    cycle: np.ndarray
    cell: np.ndarray
    cells: np.ndarray
    category_vectors: np.ndarray
    brand_vectors: np.ndarray
    style_vectors: np.ndarray
    season: np.ndarray

    def __len__(self) -> int:
        return len(self.category)

    @cached_property
    def by_cell(self) -> np.ndarray:
        """Item numbers sorted by cell."""
        return np.argsort(self.cell, kind="stable")

    @cached_property
    def reach(self) -> np.ndarray:
        """Summed popularity up to each place of ``by_cell``, from 0: (n_items + 1,) float64."""
        return np.concatenate([[0.0], np.cumsum(self.popularity[self.by_cell])])

    @cached_property
    def cell_ends(self) -> np.ndarray:
        """Where each cell begins in ``by_cell``, and where the last ends: (n_cells + 1,)."""
        return np.searchsorted(self.cell[self.by_cell], np.arange(len(self.cells) + 1))

    def liking(self, tastes: np.ndarray) -> np.ndarray:
        """The log of how much tastes, (n, DIM), prefer each cell: (n, n_cells) float64.

        Exact, as both sides are on a grid: the same with any number of threads.
        """
        return tastes.astype(np.float64) @ self.cells.astype(np.float64).T

    def sell(self, items: np.ndarray, days: np.ndarray) -> np.ndarray:
        """How well items sell on days, 0 (not on sale) to 1 (the best day of their season)."""
        on_sale = (self.launch[items] <= days) & (days < self.gone[items])
        day = np.clip(days.astype(np.int64), 0, self.season.shape[1] - 1)
        return np.where(on_sale, self.season[self.category[items], day], 0.0)

    def expected(self, first: int, last: int) -> np.ndarray:
        """Popularity times the mean of ``sell`` over the days from ``first`` up to ``last``, (n_items,)."""
        total = np.zeros(len(self))
        every = np.arange(len(self))
        for day in range(first, last):
            total += self.sell(every, np.full(len(self), day + 0.5))
        return self.popularity * total / max(last - first, 1)

    def codes(self) -> list[str]:
        """The shop's item ids: five digits or more and a letter."""
        letters = "ABCDEFGH"
        return [f"{10_000 + i}{letters[s]}" for i, s in enumerate(self.style.tolist())]

    def titles(self) -> list[str]:
        """Brand, style, noun of the category, and a word without meaning."""
        brands = brand_names(len(self.brand_vectors))
        nouns = [c[4].split() for c in CATEGORIES]
        rows = zip(self.brand, self.style, self.category, self.noun, self.extra, strict=True)
        return [f"{brands[b]} {STYLES[s]} {nouns[c][n]} {EXTRAS[e]}" for b, s, c, n, e in rows]


def on_grid(x: np.ndarray) -> np.ndarray:
    """Rounded to multiples of 2**-16, float32: a sum of DIM products of such numbers has no rounding error."""
    return (np.round(x * 65_536) / 65_536).astype(np.float32)


def _seasons(n_days: int, first_day_of_year: int) -> np.ndarray:
    day = (np.arange(n_days) + first_day_of_year) % 365
    rows = []
    for _, _, peak, _, _ in CATEGORIES:
        if peak is None:
            rows.append(np.full(n_days, 0.7))
        else:
            away = np.minimum(np.abs(day - peak), 365 - np.abs(day - peak))
            rows.append(OFF_SEASON + (1 - OFF_SEASON) * np.exp(-((away / 40.0) ** 2)))
    return np.stack(rows)


def draw_items(
    n_items: int, *, n_days: int, cut: int, first_day_of_year: int, rng: np.random.Generator
) -> GeneratedItems:
    """Draw the items of a shop.

    Seven in ten are there from the first day, the others come during the year, some in the three weeks before
    the cut and some after it; a few leave before the cut. The first item is always on sale.
    """
    n_categories = min(len(CATEGORIES), max(1, n_items // 8))
    n_brands = max(2, min(60, n_items // 40))
    categories = np.sort(rng.permutation(len(CATEGORIES))[:n_categories])
    carried = np.stack(
        [rng.permutation(n_brands)[np.arange(BRANDS_PER_CATEGORY) % n_brands] for _ in range(len(CATEGORIES))]
    )
    share = rng.dirichlet(np.full(n_categories, 8.0))
    category = categories[rng.choice(n_categories, n_items, p=share)]
    shelf = rng.integers(BRANDS_PER_CATEGORY, size=n_items)
    brand, style = carried[category, shelf], rng.integers(len(STYLES), size=n_items)

    category_vectors = unit_rows(rng.normal(size=(len(CATEGORIES), DIM)))
    brand_vectors = unit_rows(rng.normal(size=(n_brands, DIM)))
    style_vectors = unit_rows(rng.normal(size=(len(STYLES), DIM)))
    keys, cell = np.unique((category * n_brands + brand) * len(STYLES) + style, return_inverse=True)
    cells = (
        category_vectors[keys // len(STYLES) // n_brands]
        + BRAND * brand_vectors[keys // len(STYLES) % n_brands]
        + STYLE * style_vectors[keys % len(STYLES)]
    )

    base = np.array([c[3] for c in CATEGORIES])[category]
    tier = np.exp(rng.normal(0, 0.25, n_brands))[brand]
    price = np.maximum(np.round(base * tier * np.exp(rng.normal(0, 0.35, n_items)), 2), 0.1)
    days = np.array([c[1] for c in CATEGORIES])[category]
    cycle = np.where(days > 0, np.round(days * rng.uniform(0.8, 1.25, n_items)), 0.0)

    late = rng.random(n_items)
    launch = arrival_days((0.70, 0.92, 0.96), cut, max(n_days - 5, cut), late, rng)
    gone = np.full(n_items, np.inf)
    leaving = (late < 0.02) & (np.arange(n_items) > 0)
    gone[leaving] = rng.uniform(cut / 2, cut, leaving.sum())
    launch[0] = 0.0

    return GeneratedItems(
        category=category,
        brand=brand,
        style=style,
        noun=rng.integers(6, size=n_items),
        extra=rng.integers(len(EXTRAS), size=n_items),
        price=price,
        popularity=np.exp(rng.normal(0, SPREAD, n_items)),
        launch=launch,
        gone=gone,
        cycle=cycle,
        cell=cell.reshape(-1).astype(np.int32),
        cells=on_grid(cells),
        category_vectors=category_vectors.astype(np.float32),
        brand_vectors=brand_vectors.astype(np.float32),
        style_vectors=style_vectors.astype(np.float32),
        season=_seasons(n_days, first_day_of_year),
    )
