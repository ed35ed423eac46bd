"""The generated shop's dirt: every kind is there, counted, and undone exactly by the shop's own rules."""

import html
import tomllib
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from topkin.config.sections import Settings
from topkin.synthetic.noise import KINDS, NON_PRODUCTS, NOTES, NoiseRates
from topkin.synthetic.shop import Shop

SHOP = Shop(users=1_200, items=600, purchases=30_000, seed=5)


@pytest.fixture(scope="module")
def lines() -> pa.Table:
    return SHOP.purchase_shard(0, 1)


@pytest.fixture(scope="module")
def kinds() -> dict[str, int]:
    return SHOP.counts()["kinds"]


def count(mask: pa.ChunkedArray) -> int:
    return pc.sum(mask).as_py() or 0


def test_every_kind_of_line_is_there(kinds: dict[str, int]) -> None:
    assert list(kinds) == list(KINDS)
    assert all(n > 0 for n in kinds.values())


def test_lines_lack_a_user(lines: pa.Table, kinds: dict[str, int]) -> None:
    assert lines["user_id"].null_count == kinds["no user"] + kinds["write-off"]


def test_quantities_are_negative(lines: pa.Table, kinds: dict[str, int]) -> None:
    cancelled = pc.starts_with(lines["invoice_id"], "C")
    assert count(cancelled) == kinds["cancelled"]
    assert count(pc.less(lines["quantity"], 0)) == kinds["return"] + kinds["cancelled"] + kinds["write-off"]
    assert count(pc.and_(cancelled, pc.greater(lines["quantity"], 0))) == 0


def test_prices_are_zero_or_negative(lines: pa.Table, kinds: dict[str, int]) -> None:
    assert count(pc.equal(lines["price"], 0)) == kinds["zero price"] + kinds["write-off"]
    assert count(pc.less(lines["price"], 0)) == kinds["negative price"]


def test_codes_are_of_no_product(lines: pa.Table, kinds: dict[str, int]) -> None:
    coded = lines.filter(pc.is_in(lines["item_id"], pa.array(list(NON_PRODUCTS))))
    assert len(coded) == kinds["not a product"]
    assert set(coded["item_id"].to_pylist()) == set(NON_PRODUCTS)


def test_codes_differ_in_case_and_padding_only(lines: pa.Table) -> None:
    codes = lines["item_id"]
    products = codes.filter(pc.invert(pc.is_in(codes, pa.array(list(NON_PRODUCTS)))))
    assert count(pc.match_substring_regex(products, "^[0-9]{5}[a-z]$")) > 200
    assert count(pc.match_substring_regex(products, "^ [0-9]{5}[A-Z] $")) > 200
    assert set(pc.utf8_upper(pc.utf8_trim(products, " ")).unique().to_pylist()) <= set(
        SHOP.planted_items()["item_id"].to_pylist()
    )


def test_lines_repeat_exactly_and_items_within_an_invoice(lines: pa.Table, kinds: dict[str, int]) -> None:
    assert len(lines) - len(lines.group_by(lines.column_names).aggregate([])) == kinds["duplicate"]
    good = SHOP.purchase_shard(0, 1).filter((pc.field("quantity") > 0) & (pc.field("price") > 0))
    good = good.filter(pc.field("user_id").is_valid()).group_by(good.column_names).aggregate([])
    code = pc.utf8_upper(pc.utf8_trim(good["item_id"], " "))
    good = good.set_column(2, "item_id", code)
    good = good.filter(pc.invert(pc.is_in(code, pa.array([c.upper() for c in NON_PRODUCTS]))))
    twice = len(good) - len(good.group_by(["invoice_id", "item_id"]).aggregate([]))
    assert twice == kinds["repeated in invoice"]


def test_the_catalogue_is_dirty_too() -> None:
    items = SHOP.items_table()
    titles = items["title"].to_pylist()
    assert None in titles
    assert set(titles) & set(NOTES)
    assert sum(t is not None and t != t.strip() for t in titles) > 40
    assert sum("&amp;" in (t or "") for t in titles) > 10
    assert any(c != c.upper() for c in items["item_id"].to_pylist() if c not in NON_PRODUCTS)
    assert set(NON_PRODUCTS) <= set(items["item_id"].to_pylist())
    assert 0 < sum(not a for a in items["available"].to_pylist()) < 40
    missing = SHOP.planted_items().filter(pc.invert(SHOP.planted_items()["catalogued"]))
    assert 3 < len(missing) < 40
    assert not set(missing["item_id"].to_pylist()) & {c.upper() for c in items["item_id"].to_pylist()}


def test_sold_items_are_missing_from_the_catalogue(lines: pa.Table) -> None:
    catalogue = {c.upper() for c in SHOP.items_table()["item_id"].to_pylist()}
    assert {c.strip().upper() for c in lines["item_id"].to_pylist()} - catalogue


def rows(path: str, section: dict[str, Any]) -> str:
    """SQL that gives the rows of a Parquet with the section's columns normalised and why they are rejected."""
    replaced = ", ".join(f"{sql} AS {column}" for column, sql in section["normalise"].items())
    rules = " ".join(f"WHEN ({sql}) IS NOT TRUE THEN '{reason}'" for reason, sql in section["rules"].items())
    rules = f"WHEN {section['user_id']} IS NULL THEN 'user_id is null' {rules}" if "user_id" in section else rules
    return f"SELECT *, CASE {rules} ELSE 'good' END AS reason FROM (SELECT * REPLACE ({replaced}) FROM '{path}')"


def test_the_shops_own_rules_accept_exactly_what_was_planted(tmp_path: Path) -> None:
    SHOP.write(str(tmp_path), truth=False)
    config = tomllib.loads(SHOP.config_toml("shop", output="out"))
    Settings(**config)
    counts = SHOP.counts()
    sql = rows(f"{tmp_path}/purchases/*.parquet", config["purchases"])
    row = dict(duckdb.sql(f"SELECT reason, count(*) FROM ({sql}) GROUP BY 1").fetchall())
    assert row.pop("good") == counts["accepted"] + counts["duplicates"]
    assert row == counts["rejected"]
    read = "user_id, item_id, timestamp, quantity, price, country"
    (accepted,) = duckdb.sql(
        f"SELECT count(*) FROM (SELECT DISTINCT {read} FROM ({sql}) WHERE reason = 'good')"
    ).fetchone()  # type: ignore[misc]
    assert accepted == counts["accepted"]

    items = duckdb.sql(rows(f"{tmp_path}/items.parquet", config["items"]) + " WHERE reason = 'good'").arrow()
    items = items.read_all() if isinstance(items, pa.RecordBatchReader) else items
    planted = dict(zip(*SHOP.planted_items().select(["item_id", "title"]).to_pydict().values(), strict=True))
    for code, title in zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True):
        assert title is None or html.unescape(title).replace(" & ", " ") == planted[code]
    assert len(items) == SHOP.catalogued.sum()


def test_the_good_lines_do_not_depend_on_the_dirt() -> None:
    clean = Shop(users=300, items=100, purchases=4_000, noise=NoiseRates.none())
    dirty = Shop(users=300, items=100, purchases=4_000)
    assert set(clean.purchase_shard(0, 1)["invoice_id"].to_pylist()) <= set(
        dirty.purchase_shard(0, 1)["invoice_id"].to_pylist()
    )
    assert clean.counts()["lines"] == clean.counts()["accepted"] == dirty.counts()["kinds"]["clean"]


def test_a_shop_without_dirt_has_none() -> None:
    shop = Shop(users=300, items=100, purchases=4_000, noise=NoiseRates.none())
    table, items = shop.purchase_shard(0, 1), shop.items_table()
    assert table["user_id"].null_count == 0
    assert np.asarray(table["quantity"]).min() > 0
    assert np.asarray(table["price"]).min() > 0
    assert items["item_id"].equals(shop.planted_items()["item_id"])
    assert items["title"].equals(shop.planted_items()["title"])


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"noise\.returns must be from 0 to 1, got 1\.5"):
        NoiseRates(returns=1.5)
