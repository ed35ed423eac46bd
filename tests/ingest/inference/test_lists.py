"""Baskets as lists are purchases, where nothing else is the item."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.config.load import load_settings
from topkin.errors import ConfigError
from topkin.ingest.inference.look import ShopLook, look
from topkin.ingest.inference.nested import list_of_items
from topkin.ingest.inference.written import configuration
from topkin.pipelines.cli.check import check

CLOCK = datetime(2024, 11, 2)
N = 400
RNG = np.random.default_rng(0)
GOODS = [[f"p{i}" for i in RNG.integers(0, 40, 1 + n % 3)] for n in range(N)]
LINES = [[{"sku": g, "qty": 2, "unit_price": 1.5} for g in basket] for basket in GOODS]
NESTED = [[{"product": {"id": g}, "qty": 2} for g in basket] for basket in GOODS]


def baskets(path: Path, *options: str, **columns: Any) -> ShopLook:
    table = {
        "order_no": np.arange(N),
        "user": [f"u{n}" for n in RNG.integers(0, 50, N)],
        "ordered_at": [datetime(2024, 3, 1) + timedelta(hours=12 * n) for n in range(N)],
        **columns,
    }
    pq.write_table(pa.table(table), path)
    return look(str(path), None, None, options, CLOCK)


@pytest.mark.parametrize(
    ("columns", "result"),
    [
        ({"items": GOODS}, {"item_id": "items[]"}),
        ({"basket": GOODS, "tags": [["a"]] * N}, {"item_id": "basket[]"}),
        (
            {"lineItems": LINES},
            {"item_id": "lineItems[].sku", "quantity": "lineItems[].qty", "price": "lineItems[].unit_price"},
        ),
        ({"lines": NESTED}, {"item_id": "lines[].product.id", "quantity": "lines[].qty"}),
        ({"sku": [b[0] for b in GOODS], "items": GOODS}, {"item_id": "sku"}),
    ],
)
def test_the_configuration_reads_the_elements(columns: dict[str, Any], result: dict[str, str], tmp_path: Path) -> None:
    shop = baskets(tmp_path / "orders.parquet", **columns)
    assert shop.findings == []
    named = {c.key: c.column for c in shop.tables[0].columns}
    assert named == {"user_id": "user", "timestamp": "ordered_at", **result}
    passed = {p.column for p in shop.tables[0].passed}
    assert (next(iter(columns)) in passed) == (result["item_id"] == "sku" and "sku" not in columns)
    config = tmp_path / "topkin.toml"
    config.write_text(configuration(shop, config, CLOCK))
    assert check(load_settings(config, env={}), CLOCK)[2] == []


def test_a_list_that_the_user_names_is_read(tmp_path: Path) -> None:
    shop = baskets(tmp_path / "a.parquet", "item_id=choice[]", choice=GOODS, sku=[b[0] for b in GOODS])
    assert shop.tables[0].column("item_id") == "choice[]"
    with pytest.raises(ConfigError, match=r"--column item_id=chioce\[\]: there is no list 'chioce', the columns are"):
        baskets(tmp_path / "b.parquet", "item_id=chioce[]", choice=GOODS)


def test_tags_vectors_and_two_baskets_are_not_guessed_at() -> None:
    def column(*names: str, kind: pa.DataType) -> str | None:
        return list_of_items(pa.schema([(name, pa.list_(kind)) for name in names]).empty_table())

    assert column("tags", kind=pa.string()) is None
    assert column("items", kind=pa.float32()) is None
    assert column("items", "products", kind=pa.string()) is None
    assert column("tags", "items", kind=pa.string()) == "items"
