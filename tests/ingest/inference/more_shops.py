"""Eight more data sets, made up, in the manner of systems that the ten do not have; see :mod:`.ten_shops`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.ingest.inference.ten_shops import ITEMS, PRICES, Export, lines, names, texts

ITEM = np.arange(ITEMS)


def written(path: Path, table: Mapping[str, Any]) -> Path:
    """A file of a table."""
    pq.write_table(pa.table(dict(table)), path)
    return path


def euros(prices: np.ndarray) -> list[str]:
    """Amounts as they are written in German: 1.234,50."""
    return [f"{p:,.2f}".translate(str.maketrans(",.", ".,")) for p in prices]


def woocommerce(folder: Path, rng: np.random.Generator) -> Export:
    """Order items beside their order: states such as `wc-cancelled`, guests as customer 0, only totals of lines."""
    d = lines(rng)
    n = len(d.user)
    states = ["wc-completed", "wc-processing", "wc-cancelled", "wc-refunded", "wc-failed"]
    orders = {
        "order_id": d.order + 10_000,
        "order_item_id": np.arange(n) + 1,
        "date_created": texts(d.time, "%Y-%m-%d %H:%M:%S"),
        "date_paid": texts(d.time + 60, "%Y-%m-%d %H:%M:%S"),
        "status": rng.choice(states, n, p=[0.8, 0.1, 0.04, 0.03, 0.03]),
        "customer_id": np.where(d.user % 5 == 0, 0, d.user + 1),
        "billing_country": rng.choice(["DE", "AT"], n),
        "product_id": d.item + 300,
        "product_name": names(d.item),
        "qty": d.n,
        "line_total": np.round(PRICES[d.item] * d.n * 0.95, 2),
        "line_tax": np.round(PRICES[d.item] * d.n * 0.19, 2),
    }
    products = {
        "ID": ITEM + 300,
        "Type": ["simple"] * ITEMS,
        "Name": names(ITEM),
        "In stock?": np.where(ITEM % 7 == 0, 0, 1),
        "Categories": [["Home", "Home > Kitchen", "Garden"][i % 3] for i in ITEM],
        "Regular price": PRICES,
        "Brands": [f"b{i % 9}" for i in ITEM],
    }
    truth = {
        "user_id": "customer_id", "item_id": "product_id", "timestamp": "date_created", "quantity": "qty",
        "price": "line_total", "segment": "billing_country",
    }  # fmt: skip
    item_truth = {
        "item_id": "ID", "title": "Name", "category": "Categories", "price": "Regular price", "available": "In stock?",
    }  # fmt: skip
    places = written(folder / "orders.parquet", orders), written(folder / "products.parquet", products)
    return Export(*places, truth, item_truth, rejected=(0.2, 0.35))


def square(folder: Path, rng: np.random.Generator) -> Export:
    """Line items of a till: quantities as texts, money in cents, an object of a catalogue, customers or none."""
    d = lines(rng, again=0.4)
    n = len(d.user)
    table = {
        "order_id": [f"ord{o:022d}" for o in d.order],
        "location_id": rng.choice(["L1", "L2"], n),
        "created_at": texts(d.time, "%Y-%m-%dT%H:%M:%S.000Z"),
        "closed_at": texts(d.time + 9, "%Y-%m-%dT%H:%M:%S.000Z"),
        "state": rng.choice(["COMPLETED", "CANCELED", "OPEN"], n, p=[0.94, 0.04, 0.02]),
        "customer_id": [None if u % 4 == 0 else f"CUST{u:05d}" for u in d.user],
        "catalog_object_id": [f"OBJ{i:04d}" for i in d.item],
        "name": names(d.item),
        "quantity": [str(q) for q in d.n],
        "base_price_money_amount": (PRICES[d.item] * 100).astype(np.int64),
        "base_price_money_currency": ["USD"] * n,
        "total_tax_money_amount": (PRICES[d.item] * 8 * d.n).astype(np.int64),
    }
    truth = {
        "user_id": "customer_id", "item_id": "catalog_object_id", "timestamp": "created_at", "quantity": "quantity",
        "price": "base_price_money_amount", "segment": None,
    }  # fmt: skip
    place = written(folder / "line_items.parquet", table)
    return Export(place, truth=truth, bought="keep", rejected=(0.2, 0.4))


def seller(folder: Path, rng: np.random.Generator) -> Export:
    """A seller's report: hyphens, times with offsets, `Shipped - Returned to Seller`, prices of lines."""
    d = lines(rng)
    n = len(d.user)
    states = ["Shipped", "Cancelled", "Unshipped", "Shipped - Delivered to Buyer", "Shipped - Returned to Seller"]
    table = {
        "amazon-order-id": [f"304-{o:07d}-{o * 7:07d}" for o in d.order],
        "purchase-date": texts(d.time, "%Y-%m-%dT%H:%M:%S+00:00"),
        "last-updated-date": texts(d.time + 90_000, "%Y-%m-%dT%H:%M:%S+00:00"),
        "order-status": rng.choice(states, n, p=[0.7, 0.06, 0.04, 0.17, 0.03]),
        "fulfillment-channel": rng.choice(["Amazon", "Merchant"], n),
        "buyer-email": [f"x{u}abc@marketplace.example.com" for u in d.user],
        "product-name": names(d.item),
        "sku": [f"AZ-{i}" for i in d.item],
        "item-status": ["Shipped"] * n,
        "quantity": d.n,
        "item-price": np.round(PRICES[d.item] * d.n, 2),
        "item-tax": np.round(PRICES[d.item] * 0.19, 2),
        "shipping-price": np.zeros(n),
        "ship-country": ["DE"] * n,
    }
    truth = {
        "user_id": "buyer-email", "item_id": "sku", "timestamp": "purchase-date", "quantity": "quantity",
        "price": "item-price", "segment": None,
    }  # fmt: skip
    return Export(written(folder / "orders.parquet", table), truth=truth, rejected=(0.07, 0.12))


def loyalty(folder: Path, rng: np.random.Generator) -> Export:
    """A grocer's households: days as 20240402, what was spent on a line, departments beside brands."""
    d = lines(rng, again=0.6, rows=5000)
    n = len(d.user)
    trips = {
        "BASKET_ID": d.order + 4_000_000_000,
        "SHOP_DATE": pa.array([int(t) for t in texts(d.time, "%Y%m%d")], pa.int32()),
        "SHOP_HOUR": rng.integers(8, 21, n).astype(np.int8),
        "HSHD_NUM": (d.user + 1).astype(np.int32),
        "UPC": d.item + 4_900_000_000_000,
        "SPEND": np.round(PRICES[d.item] / 10 * d.n, 2),
        "UNITS": d.n.astype(np.int16),
        "STORE_R": rng.choice(["EAST", "WEST"], n),
    }
    products = {
        "UPC": ITEM + 4_900_000_000_000,
        "DESCRIPTION": names(ITEM),
        "DEPT": [["GROCERY", "PRODUCE", "DAIRY"][i % 3] for i in ITEM],
        "BRAND_TY": [["NATIONAL", "PRIVATE"][i % 2] for i in ITEM],
    }
    truth = {
        "user_id": "HSHD_NUM", "item_id": "UPC", "timestamp": "SHOP_DATE", "quantity": "UNITS", "price": "SPEND",
    }  # fmt: skip
    item_truth = {"item_id": "UPC", "title": "DESCRIPTION", "category": "DEPT"}
    places = written(folder / "trips.parquet", trips), written(folder / "upc.parquet", products)
    return Export(*places, truth, item_truth, bought="keep")


def boxes(folder: Path, rng: np.random.Generator) -> Export:
    """A subscription: a box in a row, its items a list, the day of shipping the only time."""
    d = lines(rng, again=0.5, rows=4000)
    first = np.arange(0, len(d.user), 2)
    table = {
        "shipment_id": d.order[first],
        "subscriber_id": [f"sub_{u:05d}" for u in d.user[first]],
        "shipped_on": pa.array((d.time[first] // 86_400).astype(np.int32)).cast(pa.date32()),
        "plan": rng.choice(["S", "M"], len(first)),
        "items": [[f"BX{i:03d}" for i in d.item[n : n + 2]] for n in first],
    }
    truth = {"user_id": "subscriber_id", "item_id": "items[]", "timestamp": "shipped_on"}
    return Export(written(folder / "boxes.parquet", table), truth=truth, bought="keep")


def documents(folder: Path, rng: np.random.Generator) -> Export:
    """Orders of a document store: the customer a struct, the lines a list of structs."""
    d = lines(rng, again=0.3, rows=4000)
    first = np.arange(0, len(d.user), 2)
    every = [
        {"sku": f"S{i:03d}", "name": name, "qty": int(q), "unit_price": float(PRICES[i])}
        for i, name, q in zip(d.item, names(d.item), d.n, strict=True)
    ]
    table = {
        "_id": [f"64f{n:021d}" for n in first],
        "customer": pa.array([{"id": int(u) + 7, "country": "NL"} for u in d.user[first]]),
        "createdAt": pa.array(d.time[first] * 1000, pa.timestamp("ms")),
        "status": rng.choice(["paid", "cancelled"], len(first), p=[0.95, 0.05]),
        "lineItems": [every[n : n + 2] for n in first],
    }
    truth = {
        "user_id": "customer_id", "item_id": "lineItems[].sku", "timestamp": "createdAt", "quantity": "lineItems[].qty",
        "price": "lineItems[].unit_price",
    }  # fmt: skip
    return Export(written(folder / "orders.parquet", table), truth=truth, bought="keep", rejected=(0.02, 0.1))


def fashion(folder: Path, rng: np.random.Generator) -> Export:
    """Variants of styles, returns as negative pieces and amounts, a time with a zone."""
    d = lines(rng)
    n = len(d.user)
    sign = np.where(rng.random(n) < 0.22, -1, 1)
    sales = {
        "order_no": d.order + 77,
        "order_ts": pa.array(d.time * 1_000_000).cast(pa.timestamp("us", "Europe/Berlin")),
        "cust_no": d.user + 500,
        "variant_sku": [f"ST{i:03d}-{s}" for i, s in zip(d.item, rng.choice(["S", "M"], n), strict=True)],
        "size": rng.choice(["S", "M"], n),
        "qty": sign * d.n,
        "net_amount": np.round(sign * PRICES[d.item] * d.n, 2),
        "return_reason": [None if s > 0 else "too small" for s in sign],
        "country_code": rng.choice(["DE", "FR"], n),
    }
    both = np.repeat(ITEM, 2)
    variants = {
        "variant_sku": [f"ST{i:03d}-{'SM'[n % 2]}" for n, i in enumerate(both)],
        "style_no": [f"ST{i:03d}" for i in both],
        "style_name": names(both),
        "product_group": [["Shirts", "Jeans"][i % 2] for i in both],
        "brand": ["own"] * len(both),
        "rrp": PRICES[both],
        "stock_level": rng.integers(0, 9, len(both)),
    }
    truth = {
        "user_id": "cust_no", "item_id": "variant_sku", "timestamp": "order_ts", "quantity": "qty",
        "price": "net_amount", "segment": "country_code",
    }  # fmt: skip
    item_truth = {
        "item_id": "variant_sku", "title": "style_name", "category": "product_group", "price": "rrp",
        "available": "stock_level",
    }  # fmt: skip
    places = written(folder / "sales.parquet", sales), written(folder / "variants.parquet", variants)
    return Export(*places, truth, item_truth, rejected=(0.15, 0.3))


def german(folder: Path, rng: np.random.Generator) -> Export:
    """A German wholesaler: German names, days as 31.12.2024, prices as texts with a decimal comma."""
    d = lines(rng, again=0.35)
    n = len(d.user)
    sales = {
        "Belegnr": [f"RE{o:07d}" for o in d.order],
        "Pos": (np.arange(n) % 2 + 1) * 10,
        "Kunde": d.user + 10_000,
        "Kundenname": [f"Firma {u} GmbH" for u in d.user],
        "Artikelnr": [f"{i:08d}" for i in d.item],
        "Datum": texts(d.time, "%d.%m.%Y"),
        "Menge": d.n,
        "Preis": euros(PRICES[d.item] * 30),
        "Währung": ["EUR"] * n,
        "Lieferdatum": texts(d.time + 200_000, "%d.%m.%Y"),
        "Land": rng.choice(["DE", "AT", "CH"], n),
    }
    products = {
        "Artikelnr": [f"{i:08d}" for i in ITEM],
        "Bezeichnung": names(ITEM),
        "Warengruppe": [["Schrauben", "Dübel", "Öle"][i % 3] for i in ITEM],
        "Listenpreis": euros(PRICES * 30),
        "Lagerbestand": rng.integers(0, 90, ITEMS),
        "Hersteller": [f"H{i % 5}" for i in ITEM],
    }
    truth = {
        "user_id": "Kunde", "item_id": "Artikelnr", "timestamp": "Datum", "quantity": "Menge", "price": "Preis",
        "segment": "Land",
    }  # fmt: skip
    item_truth = {
        "item_id": "Artikelnr", "title": "Bezeichnung", "category": "Warengruppe", "price": "Listenpreis",
        "available": "Lagerbestand",
    }  # fmt: skip
    places = written(folder / "Verkäufe.parquet", sales), written(folder / "Artikel.parquet", products)
    return Export(*places, truth, item_truth, bought="keep")


MORE_SHOPS: Mapping[str, Callable[[Path, np.random.Generator], Export]] = {
    shop.__name__: shop for shop in (woocommerce, square, seller, loyalty, boxes, documents, fashion, german)
}
