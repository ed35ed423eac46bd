"""A tiny shop of three categories whose customers keep to one, prepared as the job leaves it."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import schemas, storage

AS_OF = datetime(2024, 6, 1)
KINDS = ("garden", "kitchen", "toys")
PER_KIND = 12  # the last item of each category was never sold


def write_shop(folder: str, *, users: int = 90, parts: int = 3) -> None:
    """``catalogue.parquet`` and ``histories/``: items numbered by category, every user buys eight of one."""
    rng = np.random.default_rng(5)
    rows: dict[int, list[tuple[int, datetime]]] = {}
    for user in range(users):
        kind = user % len(KINDS)
        items = kind * PER_KIND + rng.choice(PER_KIND - 1, 8, replace=False)
        days = np.sort(rng.uniform(1, 100, 8))[::-1]
        rows[user] = [(int(i), AS_OF - timedelta(days=float(d))) for i, d in zip(items, days, strict=True)]
    bought = [purchase for history in rows.values() for purchase in history]
    catalogue = []
    for item in range(len(KINDS) * PER_KIND):
        times = [t for i, t in bought if i == item]
        kind = KINDS[item // PER_KIND]
        catalogue.append(
            {
                "item_id": f"i{item:02d}",
                "title": f"{kind} thing no {item}",
                "category": kind,
                "price": 1.0 + item,
                "available": True,
                "events": len(times),
                "users": len(times),
                "recent": sum(AS_OF - t <= timedelta(days=7) for t in times),
                "first_sale": min(times, default=None),
                "last_sale": max(times, default=None),
            }
        )
    string = pa.string()
    storage.write_parquet(
        pa.Table.from_pylist(catalogue, schemas.catalogue(string)), storage.join(folder, "catalogue.parquet")
    )
    for part in range(parts):
        table = [
            {
                "user_id": f"u{user:03d}",
                "items": [f"i{i:02d}" for i, _ in history],
                "times": [t for _, t in history],
                "weights": [1.0] * len(history),
                "segment": None,
            }
            for user, history in rows.items()
            if user % parts == part
        ]
        storage.write_parquet(
            pa.Table.from_pylist(table, schemas.histories(string, string)),
            storage.join(folder, "histories", storage.part_name(part, parts)),
        )


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of the prepared shop."""
    folder = str(tmp_path_factory.mktemp("shop"))
    write_shop(folder)
    return folder


@pytest.fixture(scope="session")
def context() -> Any:
    """The context of a training of a second."""
    from topkin.config.sections import TrainSettings
    from topkin.models.training.context import TrainingContext

    train = TrainSettings(dim=8, svd_dim=6, epochs=3, batch_size=64)
    small = train.changed(history_length=6, word_buckets=64, title_words=4)
    return TrainingContext(train=small, seed=3, recent_days=7)


@pytest.fixture(scope="session")
def purchases(shop: str) -> Any:
    """The shop's histories."""
    from topkin.models.data.histories import PreparedHistories

    ids = storage.read_parquet(storage.join(shop, "catalogue.parquet"))["item_id"]
    return PreparedHistories(storage.join(shop, "histories"), ids, AS_OF)


@pytest.fixture(scope="session")
def catalogue(shop: str) -> pa.Table:
    """The shop's catalogue."""
    return storage.read_parquet(storage.join(shop, "catalogue.parquet"))


@pytest.fixture(scope="session")
def trained(context: Any, purchases: Any, catalogue: pa.Table) -> Any:
    """A training of the shop, for some epochs more."""
    from topkin.models.ops import device
    from topkin.models.training import fit

    with device.repeatable():
        return fit.fit(context.changed(epochs=8, patience=8), purchases, catalogue)
