"""A generated shop with planted truth: the embedded default, the tests' oracle, the benchmarks' load.

::

    shop = Shop(users=2_000, items=1_000, purchases=60_000, seed=42)
    shop.write("shop")                    # purchases/part-*.parquet, items.parquet, users.parquet, truth/
    shop.purchase_shard(7, of=100)        # one of a hundred parts, without making the others

Everything follows from the seed. Customers come in blocks with random numbers of their own, so that any number
of shards holds the same lines, and a shard needs no more memory than its own lines.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from importlib import resources
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import vector_column
from topkin.synthetic.customers import (
    BLOCK,
    COUNTRIES,
    Customers,
    GeneratedPurchases,
    categories_of,
    draw_customers,
    draw_purchases,
)
from topkin.synthetic.items import CATEGORIES, STYLES, GeneratedItems, brand_names, draw_items
from topkin.synthetic.noise import (
    KINDS,
    NON_PRODUCTS,
    NOTES,
    Lines,
    NoiseRates,
    inject_noise,
    inject_title_noise,
)
from topkin.synthetic.oracle import best_items
from topkin.synthetic.views import draw_views
from topkin.telemetry.progress import advance

FIRST_USER = 100_001
MILLISECOND = pa.timestamp("ms")
PURCHASES = pa.schema(
    {
        "invoice_id": pa.string(),
        "user_id": pa.int64(),
        "item_id": pa.string(),
        "quantity": pa.int64(),
        "price": pa.float64(),
        "timestamp": MILLISECOND,
        "country": pa.string(),
    }
)
VIEWS = pa.schema({"user_id": pa.int64(), "item_id": pa.string(), "timestamp": MILLISECOND})
BEST = schemas.schema(
    user_id=pa.int64(), rank=pa.int32(), item_id=pa.string(), utility=pa.float32(), taste=pa.float32()
)
REJECTIONS = {
    "no user": "user_id is null",  # prepare's own
    "write-off": "user_id is null",
    "cancelled": "cancelled",
    "return": "returned",
    "zero price": "no price",
    "negative price": "no price",
    "not a product": "not a product",
}
"""Why prepare rejects a kind of noisy line: the first rule of :meth:`Shop.config_toml` that it breaks."""


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A shop of ``users`` customers and ``items`` items, where about ``purchases`` good purchases are made.

    They spread over ``days`` days from ``start``; the last ``heldout_days`` come after :attr:`as_of`. How many
    good purchases there are exactly is drawn too (within a few per cent for thousands of customers; fewer
    where the customers run out of items). ``noise`` is what else the log holds. ``once``: the share of customers who
    buy one time and never again. ``views``: how many items are viewed for each one that is bought; 0 writes no views.
    ``surveyed``: the share who told which categories they like, in ``users_table``.
    """

    users: int = 2_000
    items: int = 1_000
    purchases: int = 60_000
    seed: int = 42
    noise: NoiseRates = field(default_factory=NoiseRates)
    start: datetime = datetime(2024, 1, 1)
    days: int = 366
    heldout_days: int = 31
    once: float = 0.0
    views: float = 0.0
    surveyed: float = 0.0

    def __post_init__(self) -> None:
        for name, least in {"users": 1, "items": 1, "purchases": 0, "seed": 0, "heldout_days": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.views >= 0:
            raise ValueError(f"views must be at least 0, got {self.views}")
        for name in ("once", "surveyed"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a share within 0 and 1, got {getattr(self, name)}")
        if self.days <= self.heldout_days:
            raise ValueError(f"days must be more than heldout_days, got {self.days} and {self.heldout_days}")

    @property
    def as_of(self) -> datetime:
        """The cut: purchases before it are known, the others held out."""
        return self.start + timedelta(days=self._cut)

    @property
    def blocks(self) -> int:
        """Blocks of customers; more shards than that are partly empty."""
        return -(-self.users // BLOCK)

    @cached_property
    def generated_items(self) -> GeneratedItems:
        """The planted items."""
        return draw_items(
            self.items,
            n_days=self.days,
            cut=self._cut,
            first_day_of_year=self.start.timetuple().tm_yday - 1,
            rng=self._rng(0),
        )

    @cached_property
    def catalogued(self) -> np.ndarray:
        """Whether the catalogue has an item, (n_items,) bool; the others are sold all the same."""
        return self._rng(1).random(self.items) >= self.noise.missing

    def customers(self, block: int) -> Customers:
        """The planted customers of a block."""
        first = block * BLOCK
        return self._people(self._rng(2, block), first, min(BLOCK, self.users - first), self._explored)

    def bought(self, block: int) -> tuple[Customers, GeneratedPurchases]:
        """The customers of a block and their good purchases, before any noise."""
        people = self.customers(block)
        bought = draw_purchases(people, self.generated_items, n_days=self.days, rng=self._rng(3, block))
        if self.once:
            leaves = self._rng(8, block).random(len(people)) < self.once
            first = np.diff(bought.row, prepend=-1) > 0  # of each customer, in the order of time
            bought = bought.take(first | ~leaves[bought.row])
        return people, bought

    def lines(self, block: int) -> Lines:
        """The invoice lines of a block: good ones, then noisy ones."""
        people, bought = self.bought(block)
        rng = self._rng(4, block)
        n = len(bought)
        second = np.floor(bought.day * 86_400).astype(np.int64)
        visit = np.ones(n, np.int64)
        visit[1:] = (second[1:] != second[:-1]) | (bought.row[1:] != bought.row[:-1])
        visit = np.cumsum(visit)
        if n:
            firsts = np.searchsorted(bought.row, np.arange(len(people)))
            visit -= visit[np.minimum(firsts, n - 1)][bought.row]
        number = people.number[bought.row]
        good = Lines(
            user=number,
            item=bought.item.astype(np.int64),
            written=np.zeros(n, np.int8),
            quantity=1 + rng.geometric(0.6, n) // 2,
            price=self.generated_items.price[bought.item],
            time=second,
            country=people.country[bought.row],
            invoice=(FIRST_USER + number) * 100_000 + visit,
            kind=np.zeros(n, np.int8),
        )
        return inject_noise(good, self.noise, self.days * 86_400 - 1, rng)

    def shard_lines(self, shard: int, of: int) -> Lines:
        """The lines of shard ``shard`` (from 0) of ``of``, sorted by time."""
        lines = Lines.concat([self.lines(b) for b in self._blocks_of(shard, of)] or [_NO_LINES])
        return lines.take(np.lexsort((lines.kind, lines.item, lines.invoice, lines.time)))

    def purchase_shard(self, shard: int, of: int) -> pa.Table:
        """The lines of one shard as the shop's log has them: a table of :data:`PURCHASES`, sorted by time.

        Every customer is in one shard, whatever the others are; all shards hold the same lines for any ``of``.
        """
        return self._purchases(self.shard_lines(shard, of))

    def viewed(self, block: int) -> tuple[Customers, GeneratedPurchases]:
        """The customers of a block and their views, see :mod:`topkin.synthetic.views`."""
        people, bought = self.bought(block)
        rng, items = self._rng(9, block), self.generated_items
        return people, draw_views(people, bought, items, per_purchase=self.views, n_days=self.days, rng=rng)

    def view_shard(self, shard: int, of: int) -> pa.Table:
        """The views of one shard's customers: a table of :data:`VIEWS`, sorted by time."""
        tables = []
        for block in self._blocks_of(shard, of):
            people, views = self.viewed(block)
            milliseconds = np.datetime64(self.start, "ms") + (views.day * 86_400_000).astype("timedelta64[ms]")
            users = pa.array(FIRST_USER + people.number[views.row], pa.int64())
            tables.append(pa.table([users, self._codes[0].take(pa.array(views.item)), milliseconds], schema=VIEWS))
        return pa.concat_tables([*tables, VIEWS.empty_table()]).sort_by("timestamp")

    def items_table(self) -> pa.Table:
        """The catalogue with its noise: item_id, title, category, brand, style, price, available."""
        items, rng = self.generated_items, self._rng(5)
        keep = np.flatnonzero(self.catalogued)
        titles = inject_title_noise(items.titles(), self.noise, rng)
        codes = self._codes[0].take(pa.array(keep)).to_pylist()
        lower = rng.random(len(keep)) < self.noise.lower_case
        brands = brand_names(len(items.brand_vectors))
        extra = list(NON_PRODUCTS.items()) if self.noise.non_products else []
        gap = [None] * len(extra)
        return pa.table(
            {
                "item_id": pa.array(
                    [c.lower() if low else c for c, low in zip(codes, lower, strict=True)] + [c for c, _ in extra],
                    pa.string(),
                ),
                "title": pa.array([titles[i] for i in keep] + [t for _, t in extra], pa.string()),
                "category": pa.array([CATEGORIES[c][0] for c in items.category[keep]] + gap, pa.string()),
                "brand": pa.array([brands[b] for b in items.brand[keep]] + gap, pa.string()),
                "style": pa.array([STYLES[s] for s in items.style[keep]] + gap, pa.string()),
                "price": pa.array(items.price[keep].tolist() + gap, pa.float64()),
                "available": pa.array((items.gone[keep] > self._cut).tolist() + [True] * len(extra), pa.bool_()),
            }
        )

    def users_table(self) -> pa.Table:
        """Every customer, those who never bought and those who join after the cut too: user_id, country.

        Where customers are ``surveyed`` also ``likes``, their favourite categories, null for those who were not asked.
        """
        people = Customers.concat([self.customers(b) for b in range(self.blocks)])
        users = pa.array(np.arange(FIRST_USER, FIRST_USER + self.users), pa.int64())
        table = pa.table({"user_id": users, "country": pa.array(COUNTRIES).take(pa.array(people.country))})
        if not self.surveyed:
            return table
        asked = self._rng(9).random(self.users) < self.surveyed
        likes = [liked if answers else None for liked, answers in zip(categories_of(people), asked, strict=True)]
        return table.append_column("likes", pa.array(likes, pa.list_(pa.string())))

    def best_shard(self, shard: int, of: int, *, k: int = 50) -> pa.Table:
        """The truth of a shard's customers: the items not bought before the cut that they will like best.

        A table of :data:`BEST`, sorted by user_id, rank (from 1). ``utility`` is the log of an item's share in
        what the customer buys after the cut, up to a constant of the customer; ``taste`` is the part of it that
        popularity and season do not make. Left out: what is not on sale after the cut, and what neither the
        catalogue nor a purchase before the cut could tell of.
        """
        tables = [self._best(b, k) for b in self._blocks_of(shard, of)]
        return pa.concat_tables([*tables, BEST.empty_table()])

    def write(self, folder: str, *, shards: int | None = None, truth: bool = True) -> None:
        """Write the shop: ``purchases/part-*.parquet``, ``items.parquet``, ``users.parquet`` and ``truth/``.

        Where it has views, ``views/part-*.parquet`` too.

        ``truth/`` holds ``best.parquet`` (:meth:`best_shard`), ``items.parquet`` and ``users.parquet`` (what was
        planted) and ``counts.json`` (:meth:`counts`). ``shards`` is 4 or what keeps a file near a million
        lines; ``truth=False`` writes the counts alone of it.
        """
        shards = shards or min(self.blocks, max(4, math.ceil(self.purchases / 1_000_000)))
        kinds = np.zeros(len(KINDS), np.int64)
        for shard in range(shards):
            lines = self.shard_lines(shard, shards)
            kinds += np.bincount(lines.kind, minlength=len(KINDS))
            path = storage.join(folder, "purchases", storage.part_name(shard, shards))
            storage.write_parquet(self._purchases(lines), path)
            advance("generate", len(lines))
            if self.views:
                path = storage.join(folder, "views", storage.part_name(shard, shards))
                storage.write_parquet(self.view_shard(shard, shards), path)
        storage.write_parquet(self.items_table(), storage.join(folder, "items.parquet"))
        storage.write_parquet(self.users_table(), storage.join(folder, "users.parquet"))
        storage.write_json(_count_lines(kinds), storage.join(folder, "truth", "counts.json"))
        if truth:
            best = [self.best_shard(s, shards) for s in range(shards)]
            storage.write_parquet(pa.concat_tables(best), storage.join(folder, "truth", "best.parquet"))
            storage.write_parquet(self.planted_items(), storage.join(folder, "truth", "items.parquet"))
            storage.write_parquet(self.planted_users(), storage.join(folder, "truth", "users.parquet"))

    def counts(self) -> dict[str, Any]:
        """What prepare must count: lines by kind, accepted ones, duplicates, rejected ones by reason."""
        kinds = [np.bincount(self.lines(b).kind, minlength=len(KINDS)) for b in range(self.blocks)]
        return _count_lines(np.sum(kinds, axis=0))

    def planted_items(self) -> pa.Table:
        """What is true of each item: category, brand, style, popularity, life, cycle, vector, catalogued."""
        items = self.generated_items
        brands = brand_names(len(items.brand_vectors))
        gone = [None if math.isinf(day) else self._time(day) for day in items.gone.tolist()]
        return pa.table(
            {
                "item_id": self._codes[0].slice(0, self.items),
                "title": pa.array(items.titles()),
                "category": pa.array([CATEGORIES[c][0] for c in items.category]),
                "brand": pa.array([brands[b] for b in items.brand]),
                "style": pa.array([STYLES[s] for s in items.style]),
                "popularity": pa.array(items.popularity, pa.float32()),
                "launch": pa.array([self._time(day) for day in items.launch.tolist()], MILLISECOND),
                "gone": pa.array(gone, MILLISECOND),
                "cycle_days": pa.array(items.cycle, pa.float32()),
                "catalogued": pa.array(self.catalogued),
                "vector": vector_column(items.cells[items.cell]),
            }
        )

    def planted_users(self) -> pa.Table:
        """What is true of each customer: favourite categories, when they join, taste."""
        people = Customers.concat([self.customers(block) for block in range(self.blocks)])
        return pa.table(
            {
                "user_id": pa.array(FIRST_USER + people.number, pa.int64()),
                "categories": pa.array(categories_of(people), pa.list_(pa.string())),
                "joined": pa.array([self._time(d) for d in people.joined.tolist()], MILLISECOND),
                "taste": vector_column(people.taste),
            }
        )

    def config_toml(self, folder: str, *, output: str = "topkin-out", more: str = "") -> str:
        """The topkin configuration of a shop written to ``folder``, a path relative to the configuration file.

        The rules accept the good lines exactly. ``more`` is appended, such as a ``[train]`` section.
        """
        template = resources.files("topkin.synthetic").joinpath("shop.toml.j2").read_text(encoding="utf-8")
        notes = ", ".join(f"'{note}'" for note in NOTES)
        text = jinja2.Template(template, keep_trailing_newline=True).render(
            folder=folder, output=output, seed=self.seed, notes=notes
        )
        return text + more

    @property
    def _cut(self) -> int:
        return self.days - self.heldout_days

    @cached_property
    def _explored(self) -> float:
        """Explored purchases per customer that make the good ones asked for: refills add, repeats take away."""
        wanted = self.purchases / self.users
        rate, n = wanted, int(np.clip(20_000 / max(wanted, 1), 16, 4 * BLOCK))
        for _ in range(3 if wanted else 0):
            people = self._people(self._rng(6), 0, n, rate)
            expected = (people.activity * (self.days - people.joined)).sum() * wanted / rate
            drawn = len(draw_purchases(people, self.generated_items, n_days=self.days, rng=self._rng(7)))
            rate = min(rate * float(np.clip(expected / max(drawn, 1), 0.25, 4)), 10 * wanted)
        return rate

    @cached_property
    def _codes(self) -> list[pa.Array]:
        """How each item, then each non-product from the last on, is written: plain, lower case, padded."""
        plain = self.generated_items.codes() + list(reversed(NON_PRODUCTS))
        return [pa.array(plain), pa.array([c.lower() for c in plain]), pa.array([f" {c} " for c in plain])]

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, *stream])))

    def _people(self, rng: np.random.Generator, first: int, n: int, rate: float) -> Customers:
        return draw_customers(
            first, n, self.generated_items, per_customer=rate, n_days=self.days, cut=self._cut, rng=rng
        )

    def _time(self, day: float) -> datetime:
        return self.start + timedelta(seconds=math.floor(day * 86_400))

    def _blocks_of(self, shard: int, of: int) -> Iterator[int]:
        if not 0 <= shard < of:
            raise ValueError(f"shard must be from 0 to {of - 1} for {of} shards, got {shard}")
        return iter(range(shard * self.blocks // of, (shard + 1) * self.blocks // of))

    def _purchases(self, lines: Lines) -> pa.Table:
        place = np.where(lines.item < 0, len(self._codes[0]) + lines.item, lines.item)
        forms = pa.chunked_array(self._codes).combine_chunks()
        number = pa.array(lines.invoice).cast(pa.string())
        cancelled = pa.array(np.where(lines.kind == KINDS.index("cancelled"), 1, 0))
        prefix = pa.array(["", "C"]).take(cancelled)
        milliseconds = np.datetime64(self.start, "ms") + (lines.time * 1000).astype("timedelta64[ms]")
        columns = [
            pc.binary_join_element_wise(prefix, number, ""),
            pa.array(FIRST_USER + lines.user, pa.int64(), mask=lines.user < 0),
            forms.take(pa.array(place + lines.written.astype(np.int64) * len(self._codes[0]))),
            pa.array(lines.quantity, pa.int64()),
            pa.array(lines.price, pa.float64()),
            pa.array(milliseconds, MILLISECOND),
            pa.array(COUNTRIES).take(pa.array(lines.country)),
        ]
        return pa.table(columns, schema=PURCHASES)

    def _best(self, block: int, k: int) -> pa.Table:
        items = self.generated_items
        people, bought = self.bought(block)
        offered = self.catalogued | (items.launch < self._cut)
        appeal = np.where(offered, items.expected(self._cut, self.days), 0.0)
        before = bought.take(bought.day < self._cut)
        row, rank, item, utility, taste = best_items(people.taste, items, appeal, before.row, before.item, k)
        columns = [
            pa.array(FIRST_USER + people.number[row], pa.int64()),
            pa.array(rank, pa.int32()),
            self._codes[0].take(pa.array(item)),
            pa.array(utility, pa.float32()),
            pa.array(taste, pa.float32()),
        ]
        return pa.table(columns, schema=BEST)


def _count_lines(kinds: np.ndarray) -> dict[str, Any]:
    by_kind = dict(zip(KINDS, kinds.tolist(), strict=True))
    rejected = dict.fromkeys(REJECTIONS.values(), 0)
    for kind, reason in REJECTIONS.items():
        rejected[reason] += by_kind[kind]
    return {
        "lines": int(kinds.sum()),
        "kinds": by_kind,
        "accepted": by_kind["clean"] + by_kind["repeated in invoice"],
        "duplicates": by_kind["duplicate"],
        "rejected": rejected,
    }


_NO_LINES = Lines(*(np.zeros(0, t) for t in ("i8", "i8", "i1", "i8", "f8", "i8", "i8", "i8", "i1")))
