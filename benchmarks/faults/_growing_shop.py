"""A shop that grows from night to night: what its files hold on a morning, with week-ends, a sale and closed days."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.config.load import load_settings
from topkin.config.sections import Settings
from topkin.synthetic.shop import Shop

SETS = (
    *("train.epochs=0", "train.svd_dim=24", "train.next_item_dim=0", "train.feature_dim=0"),
    *("train.advanced.validation_cuts=1", "run.parts=2", "recommend.k=10", "similar.users=5"),
    "evaluate.baselines=['popularity']",
)
"""What makes a night take seconds."""


@dataclass(frozen=True)
class Files:
    """What lies in the shop's folder: purchases, items and users, as the tables of :class:`Shop` are."""

    purchases: pa.Table
    items: pa.Table
    users: pa.Table


@dataclass(frozen=True)
class GrowingShop:
    """A generated shop whose customers and items come one after the other.

    On Saturdays and Sundays it sells a third. On the days of ``sale`` each purchase is made three times, by others too.
    From ``category_from`` on it sells ``solar`` as well. On ``closed`` days it sells nothing.
    """

    users: int = 300
    items: int = 200
    purchases: int = 9_000
    seed: int = 8
    sale: tuple[int, ...] = (316, 317, 318)
    category_from: int = 322
    closed: tuple[int, ...] = (325,)

    @cached_property
    def shop(self) -> Shop:
        """Where its customers and items come from."""
        return Shop(users=self.users, items=self.items, purchases=self.purchases, seed=self.seed)

    def day(self, number: int) -> datetime:
        """The morning of a day, at which all that was sold before it is known."""
        return self.shop.start + timedelta(days=number)

    def files(self, number: int) -> Files:
        """What its folder holds on the morning of a day."""
        now = self.day(number)
        sold = self._sold.filter(pc.less(self._sold["timestamp"], pa.scalar(now, pa.timestamp("ms"))))
        items = self._items.filter(pa.array(self._launch < number))
        users = self.shop.users_table()
        joined = pc.less(self.shop.planted_users()["joined"], pa.scalar(now, pa.timestamp("ms")))
        return Files(sold, items, users.filter(joined))

    def write(self, files: Files, folder: Path) -> None:
        """Put files and the configuration where a run finds them; what lies there is replaced."""
        storage.remove_folder(str(folder / "shop"))
        storage.write_parquet(files.purchases, str(folder / "shop/purchases/part-0.parquet"))
        storage.write_parquet(files.items, str(folder / "shop/items.parquet"))
        storage.write_parquet(files.users, str(folder / "shop/users.parquet"))
        (folder / "topkin.toml").write_text(self.shop.config_toml("shop"))

    def settings(self, folder: Path, *sets: str) -> Settings:
        """The configuration of a folder with the sizes of :data:`SETS`, and some keys changed."""
        return load_settings(folder / "topkin.toml", [*SETS, *sets], env={})

    @cached_property
    def _launch(self) -> np.ndarray:
        """The day from which each row of the catalogue is there."""
        planted = self.shop.planted_items()
        days = (np.asarray(planted["launch"]) - np.datetime64(self.shop.start, "ms")) / np.timedelta64(1, "D")
        of = dict(zip(planted["item_id"].to_pylist(), days.tolist(), strict=True))
        names = (str(name).strip().upper() for name in self._items["item_id"].to_pylist())
        late = np.array([of.get(name, 0.0) for name in names])
        late[pc.equal(self._items["category"], "solar").fill_null(False).to_numpy(zero_copy_only=False)] = (
            self.category_from
        )
        return late

    @cached_property
    def _items(self) -> pa.Table:
        items = self.shop.items_table()
        new = items.slice(0, 12)
        codes = pa.array([f"{90_000 + n}S" for n in range(len(new))])
        new = new.set_column(0, "item_id", codes)
        new = new.set_column(1, "title", pa.array([f"solar lamp {n}" for n in range(len(new))]))
        new = new.set_column(2, "category", pa.array(["solar"] * len(new)))
        return pa.concat_tables([items, new.cast(items.schema)])

    @cached_property
    def _sold(self) -> pa.Table:
        """All lines by time, thinned on week-ends, more in the sale, none on closed days, some of them solar."""
        rng = np.random.default_rng(self.seed)
        lines = self.shop.purchase_shard(0, 1)
        day = _days(lines, self.shop.start)
        weekday = (self.shop.start.weekday() + day) % 7
        kept = (weekday < 5) | (rng.random(len(day)) < 1 / 3)
        kept &= ~np.isin(day, self.closed)
        sale = np.flatnonzero(kept & np.isin(day, self.sale))
        more = lines.take(pa.array(np.repeat(sale, 2)))
        users = lines["user_id"].take(pa.array(rng.choice(np.flatnonzero(kept & (day < min(self.sale))), len(more))))
        more = more.set_column(1, "user_id", users)
        new = np.flatnonzero(kept & (day >= self.category_from))
        solar = lines.take(pa.array(new[rng.random(len(new)) < 0.2]))
        codes = pa.array([f"{90_000 + n}S" for n in rng.integers(12, size=len(solar))])
        solar = solar.set_column(2, "item_id", codes)
        return pa.concat_tables([lines.filter(pa.array(kept)), more, solar]).sort_by("timestamp").combine_chunks()


def _days(lines: pa.Table, start: datetime) -> np.ndarray:
    """The day of each line, from 0, (n,) int."""
    times = np.asarray(lines["timestamp"]).astype("datetime64[ms]")
    return ((times - np.datetime64(start, "ms")) // np.timedelta64(1, "D")).astype(np.int64)
