"""Small versions on disk: what gates read of finished stages, and no more."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import vector_column
from topkin.artifacts.partition import split_by_partition

AS_OF = datetime(2024, 5, 1)
PARTS = 2


@dataclass
class Version:
    """A shop on one morning: rows (user, item, days before the as-of date), lists, vectors, what files say of them."""

    rows: list[tuple[int, str, float]]
    as_of: datetime = AS_OF
    lists: dict[int, list[str]] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    lists_summary: dict[str, Any] = field(default_factory=dict)
    embedded: dict[str, Any] = field(default_factory=dict)
    recall: dict[str, Any] = field(default_factory=dict)
    categories: dict[str, str] = field(default_factory=dict)
    price: float = 10.0
    available: int | None = None
    vectors: np.ndarray | None = None

    def write(self, folder: Path) -> dict[str, str]:
        """The folders by stage."""
        folders = {stage: str(folder / stage) for stage in ("prepare", "embed", "index", "recommend")}
        items = sorted({item for _, item, _ in self.rows})
        users = sorted({user for user, _, _ in self.rows})
        times = [self.as_of - timedelta(days=d) for _, _, d in self.rows]
        source = {"rows": len(self.rows), "rejected": {}, "accepted": len(self.rows)}
        statistics = {
            "as_of": self.as_of.isoformat(),
            "times": "dates",
            "first_sale": min(times).isoformat(),
            "last_sale": max(times).isoformat(),
            "events": len(self.rows),
            "users": len(users),
            "items": len(items),
            "sources": {"purchases": source},
        }
        storage.write_json(statistics | self.statistics, f"{folders['prepare']}/statistics.json")
        self._write_prepared(folders["prepare"], users, items, times)
        lists = self.lists or dict.fromkeys(users, items[:3])
        ranked = [(u, r, i) for u, row in sorted(lists.items()) for r, i in enumerate(row, 1)]
        columns = dict(zip(("user_id", "rank", "item_id"), zip(*ranked, strict=True), strict=True))
        _write_parts(pa.table(columns), f"{folders['recommend']}/recommendations/date={self.as_of:%Y-%m-%d}")
        summary = {"model": "encoder", "bought": "exclude", "k": 3, "users": len(users), "users_with_list": len(users)}
        summary |= {"short": 0, "fallback": {"no purchases": 0}}
        storage.write_json(summary | self.lists_summary, f"{folders['recommend']}/lists.json")
        storage.write_json(summary, f"{folders['recommend']}/lists/mail/lists.json")
        rng = np.random.default_rng(1)
        vectors = rng.normal(size=(120, 8)) if self.vectors is None else self.vectors
        for side in ("items", "users"):
            table = pa.table({"vector": vector_column(vectors)})
            storage.write_parquet(table, f"{folders['embed']}/{side}/{storage.part_name(0, 1)}")
        statistics = {"dim": 8, "blocks": [{"name": "svd"}], "items": len(vectors), "users": len(vectors)}
        storage.write_json(statistics | self.embedded, f"{folders['embed']}/vectors.json")
        recall = {"queries": 500, "source": "users", "recall@10": 0.99, "recall@50": 0.9}
        storage.write_json({"recall": recall | self.recall}, f"{folders['index']}/index.json")
        return folders

    def _write_prepared(self, folder: str, users: list[int], items: list[str], times: list[datetime]) -> None:
        events = [sum(item == own for _, own, _ in self.rows) for item in items]
        available = len(items) if self.available is None else self.available
        catalogue = {
            "item_id": items,
            "title": pa.array([None, *items[1:]], pa.string()),
            "category": pa.array([self.categories.get(item, "tea") for item in items]),
            "price": pa.array([self.price] * len(items), pa.float32()),
            "available": [n < available for n in range(len(items))],
            "events": events,
        }
        storage.write_parquet(pa.table(catalogue), f"{folder}/catalogue.parquet")
        ids, goods, _ = zip(*self.rows, strict=True)
        rows = pa.table({"user_id": pa.array(ids), "item_id": goods, "timestamp": pa.array(times, schemas.TIME)})
        _write_parts(rows, f"{folder}/events")
        own = [[(i, t) for (u, i, _), t in zip(self.rows, times, strict=True) if u == user] for user in users]
        histories = pa.table(
            {
                "user_id": pa.array(users),
                "items": pa.array([[i for i, _ in row] for row in own]),
                "times": pa.array([[t for _, t in row] for row in own], pa.list_(schemas.TIME)),
            }
        )
        _write_parts(histories, f"{folder}/histories")


def _write_parts(table: pa.Table, folder: str) -> None:
    rows = split_by_partition(table, "user_id", PARTS)
    for part in range(PARTS):
        storage.write_parquet(rows.get(part, table.slice(0, 0)), f"{folder}/{storage.part_name(part, PARTS)}")


def some_rows(users: int = 60, items: int = 20, each: int = 5, seed: int = 0) -> list[tuple[int, str, float]]:
    """Purchases of the last hundred days, the latest a quarter of a day ago."""
    rng = np.random.default_rng(seed)
    rows = [
        (u, f"i{rng.integers(items):02}", 0.25 + 100 * float(rng.random())) for u in range(users) for _ in range(each)
    ]
    return [*rows, (0, "i00", 0.25), (0, "i01", 100.5)]


@pytest.fixture
def folders(tmp_path: Path) -> Callable[[Version], dict[str, str]]:
    """Writes versions, each into a folder of its own."""
    count = iter(range(100))
    return lambda version: version.write(tmp_path / f"version{next(count)}")
