"""Ten small data sets, made up, each in the manner of a system that people export purchases from.

Names, types and quirks are those of the system; nothing else is. Each generator writes Parquet below a folder and
says where; ``truth`` holds the columns that a person would name.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

USERS, ITEMS, ROWS = 240, 60, 2400


@dataclass(frozen=True)
class Export:
    """Where a data set lies and what it means.

    truth: key -> columns that would be right, for purchases, None where none is; item_truth likewise. bought: the right
    value of ``recommend.bought``. rejected: share of the rows that are no purchases.
    """

    purchases: Path
    items: Path | None = None
    truth: Mapping[str, str | tuple[str, ...] | None] = field(default_factory=dict)
    item_truth: Mapping[str, str] = field(default_factory=dict)
    bought: str = "exclude"
    rejected: tuple[float, float] = (0.0, 0.05)


class Lines(NamedTuple):
    """Order lines: numbers of users and items, times in seconds since 1970, pieces, orders; (n,) each."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    n: np.ndarray
    order: np.ndarray


def lines(rng: np.random.Generator, *, again: float = 0.0, rows: int = ROWS) -> Lines:
    """Lines in order of time; ``again`` is the share that repeats an earlier item of the user."""
    start = int(datetime(2024, 3, 1, tzinfo=UTC).timestamp())
    times = np.sort(rng.integers(start, start + 240 * 86_400, rows))
    users = rng.integers(0, USERS, rows)
    taste = (users[:, None] * 7 + rng.geometric(0.12, (rows, 1)) - 1)[:, 0] % ITEMS
    seen: dict[int, list[int]] = {}
    for n in range(rows):
        own = seen.setdefault(int(users[n]), [])
        if own and rng.random() < again:
            taste[n] = own[int(rng.integers(len(own)))]
        elif again == 0:
            while int(taste[n]) in own and len(set(own)) < ITEMS:
                taste[n] = (taste[n] + 1) % ITEMS
        own.append(int(taste[n]))
    return Lines(users, taste, times, rng.choice([1, 1, 1, 2, 3, 6], rows), np.arange(rows) // 2)


def texts(times: np.ndarray, form: str, hours: int = 0) -> list[str]:
    """Times as texts of a zone."""
    zone = timezone(timedelta(hours=hours))
    return [datetime.fromtimestamp(int(t), zone).strftime(form) for t in times]


def md5(kind: str, numbers: np.ndarray) -> list[str]:
    """Surrogate keys as dbt makes them."""
    return [hashlib.md5(f"{kind}-{n}".encode()).hexdigest() for n in numbers]


PRICES = np.round(np.linspace(1.5, 61.0, ITEMS), 2)
WORDS = ["Lantern", "Mug", "Scarf", "Notebook", "Lamp", "Tea", "Candle", "Basket", "Vase", "Rug"]


def names(numbers: np.ndarray) -> list[str]:
    """A title for each item."""
    return [f"{WORDS[n % 10]} {n // 10 + 1}" for n in numbers]


def shopify(folder: Path, rng: np.random.Generator) -> Export:
    """An orders export: a row a line, what is of the order stands in its first line only, times as texts."""
    d = lines(rng)
    first = np.r_[True, d.order[1:] != d.order[:-1]]
    user = d.user[np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))]
    status = np.where(
        rng.random(len(first)) < 0.04, "refunded", np.where(rng.random(len(first)) < 0.02, "voided", "paid")
    )
    created = texts(
        d.time[np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))], "%Y-%m-%d %H:%M:%S %z", -4
    )

    def of_order(values: Any) -> list[Any]:
        return [v if f else None for v, f in zip(values, first, strict=True)]

    table = {
        "Name": [f"#{1001 + n}" for n in d.order],
        "Email": [f"customer{n}@example.com" for n in user],
        "Financial Status": of_order(status),
        "Paid at": of_order(created),
        "Fulfillment Status": of_order(["fulfilled"] * len(first)),
        "Fulfilled at": of_order(created),
        "Accepts Marketing": of_order(rng.choice(["yes", "no"], len(first))),
        "Currency": of_order(["EUR"] * len(first)),
        "Subtotal": of_order(np.round(PRICES[d.item] * d.n, 2)),
        "Shipping": of_order([4.9] * len(first)),
        "Taxes": of_order(np.round(PRICES[d.item] * 0.2, 2)),
        "Total": of_order(np.round(PRICES[d.item] * d.n * 1.2 + 4.9, 2)),
        "Discount Code": of_order([""] * len(first)),
        "Created at": created,
        "Lineitem quantity": d.n,
        "Lineitem name": names(d.item),
        "Lineitem price": PRICES[d.item],
        "Lineitem compare at price": [None if n % 3 else PRICES[n] * 1.3 for n in d.item],
        "Lineitem sku": [f"SKU-{n:04d}" for n in d.item],
        "Lineitem requires shipping": [True] * len(first),
        "Lineitem taxable": [True] * len(first),
        "Lineitem fulfillment status": ["fulfilled"] * len(first),
        "Billing Name": of_order([f"Person {n}" for n in user]),
        "Billing Country": of_order(rng.choice(["US", "CA"], len(first))),
        "Cancelled at": of_order([c if n % 50 == 0 else None for n, c in enumerate(created)]),
        "Payment Method": of_order(["Shopify Payments"] * len(first)),
        "Refunded Amount": of_order([0.0] * len(first)),
        "Vendor": [f"Vendor {n % 5}" for n in d.item],
        "Id": of_order(5_000_000_000_000 + d.order),
        "Tags": of_order([""] * len(first)),
        "Source": of_order(["web"] * len(first)),
    }
    pq.write_table(pa.table(table), folder / "orders_export_1.parquet")
    item = np.arange(ITEMS)
    products = {
        "Handle": [f"p-{n}" for n in item],
        "Title": names(item),
        "Vendor": [f"Vendor {n % 5}" for n in item],
        "Type": [["Home", "Kitchen", "Garden"][n % 3] for n in item],
        "Tags": [["new", "sale"] if n % 2 else [] for n in item],
        "Published": ["true" if n % 9 else "false" for n in item],
        "Variant SKU": [f"SKU-{n:04d}" for n in item],
        "Variant Inventory Qty": rng.integers(0, 30, ITEMS),
        "Variant Price": PRICES,
        "Status": ["active" if n % 9 else "archived" for n in item],
    }
    pq.write_table(pa.table(products), folder / "products_export_1.parquet")
    truth = {
        "user_id": "Email", "item_id": "Lineitem sku", "timestamp": "Created at", "quantity": "Lineitem quantity",
        "price": "Lineitem price", "segment": "Billing Country",
    }  # fmt: skip
    item_truth = {"item_id": "Variant SKU", "title": "Title", "category": "Type", "price": "Variant Price"}
    places = (folder / "orders_export_1.parquet", folder / "products_export_1.parquet")
    return Export(*places, truth, item_truth, rejected=(0.02, 0.12))


def magento(folder: Path, rng: np.random.Generator) -> Export:
    """sales_order_item beside its order: entity ids that number the rows, decimals of four places, guests."""
    d = lines(rng, rows=2000)
    n = len(d.user)
    qty = [Decimal(int(q)).quantize(Decimal("0.0001")) for q in d.n]
    price = [Decimal(str(PRICES[i])).quantize(Decimal("0.0001")) for i in d.item]
    money, count = pa.decimal128(20, 4), pa.decimal128(12, 4)
    zero = pa.array([Decimal("0.0000")] * n, count)
    created = pa.array(d.time * 1_000_000).cast(pa.timestamp("us"))
    table = {
        "item_id": np.arange(1, n + 1, dtype=np.uint32),
        "order_id": (d.order + 1).astype(np.uint32),
        "parent_item_id": pa.nulls(n, pa.uint32()),
        "quote_item_id": np.arange(5001, n + 5001, dtype=np.uint32),
        "store_id": np.ones(n, np.uint16),
        "created_at": created,
        "updated_at": pa.array((d.time + 90_000) * 1_000_000).cast(pa.timestamp("us")),
        "product_id": (d.item + 1).astype(np.uint32),
        "product_type": ["simple"] * n,
        "weight": zero,
        "sku": [f"24-MB{i:02d}" for i in d.item],
        "name": names(d.item),
        "qty_backordered": zero,
        "qty_canceled": zero,
        "qty_invoiced": pa.array(qty, count),
        "qty_ordered": pa.array(qty, count),
        "qty_refunded": zero,
        "qty_shipped": pa.array(qty, count),
        "price": pa.array(price, money),
        "base_price": pa.array(price, money),
        "original_price": pa.array(price, money),
        "tax_amount": pa.array([p * Decimal("0.2") for p in price], pa.decimal128(20, 6)).cast(money, safe=False),
        "discount_amount": pa.array([Decimal("0.0000")] * n, money),
        "row_total": pa.array([p * q for p, q in zip(price, qty, strict=True)], pa.decimal128(24, 8)),
        "customer_id": pa.array([None if u % 12 == 0 else int(u) + 1 for u in d.user], pa.uint32()),
        "customer_email": [f"u{u}@example.com" for u in d.user],
        "customer_group_id": (d.user % 3).astype(np.uint16),
        "customer_is_guest": (d.user % 12 == 0).astype(np.uint16),
        "status": rng.choice(["complete", "processing", "canceled", "closed"], n, p=[0.9, 0.05, 0.04, 0.01]),
    }
    pq.write_table(pa.table(table), folder / "sales_order_item.parquet")
    truth = {
        "user_id": ("customer_id", "customer_email"), "item_id": ("sku", "product_id"), "timestamp": "created_at",
        "quantity": "qty_ordered", "price": ("price", "base_price"),
    }  # fmt: skip
    return Export(folder / "sales_order_item.parquet", truth=truth, rejected=(0.03, 0.15))


def bigquery(folder: Path, rng: np.random.Generator) -> Export:
    """The events of an analytics property, flattened: most of them views, times as `… UTC`, days as 20240402."""
    d = lines(rng, rows=6000)
    n = len(d.user)
    event = rng.choice(["view_item", "add_to_cart", "purchase", "session_start"], n, p=[0.6, 0.12, 0.25, 0.03])
    table = {
        "event_date": texts(d.time, "%Y%m%d"),
        "event_time": texts(d.time, "%Y-%m-%d %H:%M:%S UTC"),
        "event_name": event,
        "event_previous_timestamp": pa.array((d.time - 4000) * 1_000_000),
        "event_params_ga_session_id": d.order + 1_700_000_000,
        "event_params_page_location": [f"https://shop.example.com/p/{i}" for i in d.item],
        "event_params_engagement_time_msec": rng.integers(0, 90_000, n),
        "event_value_in_usd": [
            float(PRICES[i]) if e == "purchase" else None for i, e in zip(d.item, event, strict=True)
        ],
        "user_id": pa.array([f"m{u}" if u % 9 == 0 else None for u in d.user]),
        "user_pseudo_id": [f"{1_234_567 + 31 * u}.{1_690_000_000 + u}" for u in d.user],
        "user_first_touch_timestamp": pa.array(1_700_000_000_000_000 + d.user * 1_000_000),
        "device_category": rng.choice(["mobile", "desktop"], n),
        "geo_country": rng.choice(["Germany", "France", "(not set)"], n),
        "traffic_source_medium": rng.choice(["organic", "cpc"], n),
        "platform": ["WEB"] * n,
        "items_item_id": [f"GGOE{i:04d}" for i in d.item],
        "items_item_name": names(d.item),
        "items_item_brand": ["(not set)"] * n,
        "items_item_category": [f"c{i % 6}" for i in d.item],
        "items_price": PRICES[d.item],
        "items_quantity": pa.array([int(q) if e == "purchase" else None for q, e in zip(d.n, event, strict=True)]),
    }
    half = pa.table(table)
    (folder / "events").mkdir()
    for part in range(4):
        pq.write_table(half.slice(part * n // 4, n // 4), folder / "events" / f"events-{part:012d}.parquet")
    truth = {
        "user_id": "user_pseudo_id", "item_id": "items_item_id", "timestamp": "event_time",
        "quantity": "items_quantity", "price": "items_price", "segment": "geo_country",
    }  # fmt: skip
    return Export(folder / "events", truth=truth, rejected=(0.65, 0.85))


def spark(folder: Path, rng: np.random.Generator) -> Export:
    """A table that Spark wrote: folders dt=…, _SUCCESS, files of checksums, INT96 times."""
    d = lines(rng, again=0.3)
    root = folder / "fact_sales"
    days = np.array(texts(d.time, "%Y-%m-01"))
    root.mkdir()
    (root / "_SUCCESS").touch()
    for day in np.unique(days):
        at = np.flatnonzero(days == day)
        table = {
            "cust_id": d.user[at].astype(np.int64) + 10_000,
            "prod_id": [f"P{i:03d}" for i in d.item[at]],
            "event_ts": pa.array(d.time[at] * 1_000_000_000).cast(pa.timestamp("ns")),
            "units": d.n[at].astype(np.int32),
            "amt": pa.array([Decimal(str(PRICES[i])) for i in d.item[at]], pa.decimal128(10, 2)),
            "chnl_cd": rng.choice(["WEB", "STORE"], len(at)),
        }
        (root / f"dt={day}").mkdir()
        name = f"part-00000-{hashlib.md5(day.encode()).hexdigest()}.c000.snappy.parquet"
        pq.write_table(pa.table(table), root / f"dt={day}" / name, use_deprecated_int96_timestamps=True)
        (root / f"dt={day}" / f".{name}.crc").write_bytes(b"crc")
    truth = {"user_id": "cust_id", "item_id": "prod_id", "timestamp": "event_ts", "quantity": "units", "price": "amt"}
    return Export(root, truth=truth, bought="keep")


def pandas(folder: Path, rng: np.random.Generator) -> Export:
    """A data frame: its index as a column, ids as floats for some are null, categories, nanoseconds."""
    d = lines(rng)
    n = len(d.user)
    users = np.where(rng.random(n) < 0.05, np.nan, d.user + 12_346.0)
    countries = pa.array(rng.choice(["United Kingdom", "France", "Germany"], n)).dictionary_encode()
    table = {
        "InvoiceNo": [f"{'C' if q % 6 == 0 else ''}{536365 + o}" for o, q in zip(d.order, d.n, strict=True)],
        "StockCode": pa.array([f"{85_000 + i}{'AB'[i % 2]}" for i in d.item]).dictionary_encode(),
        "Description": names(d.item),
        "Quantity": np.where(d.n % 6 == 0, -1, d.n),
        "InvoiceDate": pa.array(d.time * 1_000_000_000).cast(pa.timestamp("ns")),
        "UnitPrice": PRICES[d.item],
        "CustomerID": pa.array(users, from_pandas=True),
        "Country": countries,
        "__index_level_0__": rng.permutation(n),
    }
    pq.write_table(pa.table(table), folder / "df.parquet")
    truth = {
        "user_id": "CustomerID", "item_id": "StockCode", "timestamp": "InvoiceDate", "quantity": "Quantity",
        "price": "UnitPrice", "segment": "Country",
    }  # fmt: skip
    return Export(folder / "df.parquet", truth=truth, rejected=(0.15, 0.3))


def dbt(folder: Path, rng: np.random.Generator) -> Export:
    """A fact and a dimension of a warehouse: surrogate keys, an amount of the line, times of loading."""
    d = lines(rng, again=0.25)
    n = len(d.user)
    table = {
        "order_item_key": md5("line", np.arange(n)),
        "order_key": md5("order", d.order),
        "customer_key": md5("customer", d.user),
        "product_key": md5("product", d.item),
        "ordered_at": pa.array(d.time * 1_000_000).cast(pa.timestamp("us", "UTC")),
        "quantity": d.n.astype(np.int64),
        "net_item_sales_amount": np.round(PRICES[d.item] * d.n * rng.uniform(0.97, 1.0, n), 2),
        "is_returned": rng.random(n) < 0.05,
        "_loaded_at": pa.array([datetime(2024, 11, 1, tzinfo=UTC)] * n, pa.timestamp("us", "UTC")),
        "_dbt_source_relation": ["raw.shop.orders"] * n,
    }
    pq.write_table(pa.table(table), folder / "fct_orders.parquet")
    item = np.arange(ITEMS)
    dim = {
        "product_key": md5("product", item),
        "product_name": names(item),
        "brand": [f"b{i % 11}" for i in item],
        "department": [["home", "garden", "kitchen"][i % 3] for i in item],
        "current_price": PRICES,
        "is_active": (item % 10 > 0).astype(np.int8),
        "dbt_valid_from": pa.array([datetime(2023, 1, 1)] * ITEMS, pa.timestamp("us")),
    }
    pq.write_table(pa.table(dim), folder / "dim_products.parquet")
    truth = {
        "user_id": "customer_key", "item_id": "product_key", "timestamp": "ordered_at", "quantity": "quantity",
        "price": "net_item_sales_amount",
    }  # fmt: skip
    item_truth = {
        "item_id": "product_key", "title": "product_name", "category": "department", "price": "current_price",
        "available": "is_active",
    }  # fmt: skip
    places = (folder / "fct_orders.parquet", folder / "dim_products.parquet")
    return Export(*places, truth, item_truth, bought="keep", rejected=(0.02, 0.09))


def till(folder: Path, rng: np.random.Generator) -> Export:
    """A grocer's tills: a loyalty card or none, PLU numbers, days as 20240402, the total of a line and its price."""
    d = lines(rng, again=0.65, rows=4000)
    n = len(d.user)
    price = np.round(PRICES / 10, 2)
    table = {
        "store": rng.integers(1, 6, n).astype(np.int16),
        "till": rng.integers(1, 9, n).astype(np.int16),
        "receipt_no": d.order.astype(np.int64) + 900_000,
        "line_no": (np.arange(n) % 2 + 1).astype(np.int16),
        "trans_date": pa.array([int(t) for t in texts(d.time, "%Y%m%d")], pa.int32()),
        "trans_time": pa.array([int(t) for t in texts(d.time, "%H%M")], pa.int16()),
        "card_no": pa.array(
            [None if c < 0.3 else 29_000_000 + int(u) for u, c in zip(d.user, rng.random(n), strict=True)]
        ),
        "plu": d.item.astype(np.int32) + 4_011,
        "plu_text": names(d.item),
        "qty": d.n.astype(np.float32),
        "line_total": np.round(price[d.item] * d.n, 2),
        "unit_price": price[d.item],
        "void": rng.choice(["N", "Y"], n, p=[0.98, 0.02]),
    }
    pq.write_table(pa.table(table), folder / "till_lines.parquet")
    item = np.arange(ITEMS)
    plu = {
        "plu": item.astype(np.int32) + 4_011,
        "descr": names(item),
        "dept": [f"{i % 8:02d}" for i in item],
        "brand": [f"Brand {i % 20}" for i in item],
        "stock": rng.integers(-2, 60, ITEMS),
    }
    pq.write_table(pa.table(plu), folder / "plu.parquet")
    truth = {
        "user_id": "card_no", "item_id": "plu", "timestamp": "trans_date", "quantity": "qty", "price": "unit_price",
    }  # fmt: skip
    item_truth = {"item_id": "plu", "title": "descr", "category": "dept", "available": "stock"}
    places = (folder / "till_lines.parquet", folder / "plu.parquet")
    return Export(*places, truth, item_truth, bought="keep", rejected=(0.25, 0.4))


def marketplace(folder: Path, rng: np.random.Generator) -> Export:
    """Order items of a marketplace: hashes as ids, five times of which one counts, orders cancelled and returned."""
    d = lines(rng)
    n = len(d.user)
    stamp = "%Y-%m-%d %H:%M:%S"
    status = rng.choice(
        ["delivered", "shipped", "canceled", "returned", "unavailable"], n, p=[0.86, 0.05, 0.05, 0.03, 0.01]
    )
    table = {
        "order_id": md5("order", d.order),
        "order_item_id": (np.arange(n) % 2 + 1).astype(np.int64),
        "order_status": status,
        "buyer_id": md5("buyer", d.user),
        "listing_id": md5("listing", d.item),
        "seller_id": md5("seller", d.item % 9),
        "order_approved_at": texts(d.time + 3600, stamp),
        "order_purchase_timestamp": texts(d.time, stamp),
        "order_delivered_carrier_date": texts(d.time + 90_000, stamp),
        "order_estimated_delivery_date": texts(d.time + 900_000, stamp),
        "shipping_limit_date": texts(d.time + 300_000, stamp),
        "price": PRICES[d.item],
        "freight_value": np.round(rng.uniform(3, 9, n), 2),
        "buyer_state": rng.choice(["SP", "RJ", "MG"], n),
    }
    pq.write_table(pa.table(table), folder / "order_items.parquet")
    item = np.arange(ITEMS)
    listing = {
        "listing_id": md5("listing", item),
        "listing_title": names(item),
        "category_id": item % 6 + 100,
        "category_name": [f"category {i % 6}" for i in item],
        "condition": ["new" if i % 4 else "used" for i in item],
        "listing_state": ["ACTIVE" if i % 8 else "SOLD_OUT" for i in item],
    }
    pq.write_table(pa.table(listing), folder / "listings.parquet")
    truth = {
        "user_id": "buyer_id", "item_id": "listing_id", "timestamp": "order_purchase_timestamp", "price": "price",
        "segment": "buyer_state",
    }  # fmt: skip
    item_truth = {"item_id": "listing_id", "title": "listing_title", "category": "category_name"}
    places = (folder / "order_items.parquet", folder / "listings.parquet")
    return Export(*places, truth, item_truth, rejected=(0.05, 0.13))


def bookshop(folder: Path, rng: np.random.Generator) -> Export:
    """A bookshop: ISBN-10 as texts that begin with 0, authors as lists, `Y` and `N`."""
    d = lines(rng)
    n = len(d.user)
    isbn = [f"0{140_000_000 + 7919 * i:08d}"[:9] + "0123456789X"[i % 11] for i in range(ITEMS)]
    table = {
        "sale_date": pa.array((d.time // 86_400).astype(np.int32)).cast(pa.date32()),
        "reader_no": [f"{u:06d}" for u in d.user],
        "isbn": [isbn[i] for i in d.item],
        "title": names(d.item),
        "copies": np.minimum(d.n, 2),
        "paid": np.round(PRICES[d.item], 2),
        "branch": rng.choice(["Main St", "Harbour"], n),
    }
    pq.write_table(pa.table(table), folder / "sales.parquet")
    item = np.arange(ITEMS)
    books = {
        "isbn": isbn,
        "title": names(item),
        "authors": [[f"Author {i % 13}", f"Author {i % 7}"] for i in item],
        "subjects": [["fiction"] if i % 2 else ["travel", "maps"] for i in item],
        "section": [["Fiction", "Travel", "Children"][i % 3] for i in item],
        "publisher": pa.array([{"name": f"House {i % 4}", "city": "Leeds"} for i in item]),
        "list_price": PRICES,
        "in_print": ["Y" if i % 12 else "N" for i in item],
    }
    pq.write_table(pa.table(books), folder / "catalogue.parquet")
    truth = {"user_id": "reader_no", "item_id": "isbn", "timestamp": "sale_date", "quantity": "copies", "price": "paid"}
    item_truth = {
        "item_id": "isbn", "title": "title", "category": "section", "price": "list_price", "available": "in_print",
    }  # fmt: skip
    return Export(folder / "sales.parquet", folder / "catalogue.parquet", truth, item_truth)


def streaming(folder: Path, rng: np.random.Generator) -> Export:
    """A log of a streaming service: milliseconds since 1970, views beside plays, the track in a struct, no quantity."""
    d = lines(rng, again=0.5, rows=6000)
    n = len(d.user)
    track = pa.StructArray.from_arrays(
        [
            pa.array([f"trk_{i:05d}" for i in d.item]),
            pa.array(names(d.item)),
            pa.array([f"art_{i % 17}" for i in d.item]),
        ],
        ["id", "name", "artist"],
    )
    table = {
        "ts": d.time.astype(np.int64) * 1000,
        "profile_id": pa.array([f"prf-{u:08x}" for u in d.user]).dictionary_encode(),
        "event_type": rng.choice(["play", "view", "skip"], n, p=[0.7, 0.2, 0.1]),
        "track": track,
        "ms_played": rng.integers(0, 240_000, n),
        "platform": rng.choice(["ios", "android"], n),
        "context": pa.array([[("playlist", "p1")] for _ in range(n)], pa.map_(pa.string(), pa.string())),
    }
    whole = pa.table(table)
    (folder / "plays").mkdir()
    for part in range(3):
        pq.write_table(whole.slice(part * n // 3, n // 3), folder / "plays" / f"{part}.parquet")
    truth = {"user_id": "profile_id", "item_id": "track_id", "timestamp": "ts"}
    return Export(folder / "plays", truth=truth, bought="keep", rejected=(0.25, 0.35))


SHOPS: Mapping[str, Callable[[Path, np.random.Generator], Export]] = {
    shop.__name__: shop
    for shop in (shopify, magento, bigquery, spark, pandas, dbt, till, marketplace, bookshop, streaming)
}
