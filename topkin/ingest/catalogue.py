"""What sold how often, and the catalogue and vocabularies made from it."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas
from topkin.artifacts.embeddings import vector_column, vectors_of
from topkin.artifacts.ids import Values


def sales_schema(item: pa.DataType) -> pa.Schema:
    """Sales of each item, sorted by item_id; ``last_price`` is that of the last sale, the highest of several.

    Where the last sale names no price it is null. Items that were viewed and never sold have no times.
    """
    counts = {"events": pa.int64(), "users": pa.int64(), "recent": pa.int64()}
    times = {"first_sale": schemas.TIME, "last_sale": schemas.TIME}
    return schemas.schema("first_sale last_sale last_price", item_id=item, **counts, **times, last_price=pa.float32())


def sales(events: pa.Table, as_of: datetime, recent_days: float) -> pa.Table:
    """``sales_schema`` of purchases before ``as_of``, all those of their users.

    ``recent`` counts those of the last ``recent_days`` before ``as_of``.
    """
    items, users = (_codes(events[c]) for c in ("item_id", "user_id"))
    n, which = len(items.dictionary), np.asarray(items.indices).astype(np.int64)
    bought = np.sort(np.asarray(users.indices) * np.int64(n) + which)  # (user, item) pairs, to be counted once each
    first_times = np.append(True, bought[1:] != bought[:-1])[: len(bought)]
    times = np.asarray(events["timestamp"].cast(pa.int64()))
    first, last = np.full(n, np.iinfo(np.int64).max), np.full(n, np.iinfo(np.int64).min)
    np.minimum.at(first, which, times)
    np.maximum.at(last, which, times)
    latest = np.flatnonzero(times == last[which])
    prices = np.asarray(pc.fill_null(events["price"].combine_chunks().take(pa.array(latest)), np.nan))
    price = np.full(n, -np.inf, np.float32)
    np.fmax.at(price, which[latest], prices)
    start = np.datetime64(as_of - timedelta(days=recent_days), "us").astype(np.int64)
    columns = [
        items.dictionary,
        np.bincount(which, minlength=n),
        np.bincount(bought[first_times] % max(n, 1), minlength=n),
        np.bincount(which[times >= start], minlength=n),
        pa.array(first).view(schemas.TIME),
        pa.array(last).view(schemas.TIME),
        pa.array(price, mask=np.isneginf(price)),
    ]
    schema = sales_schema(items.dictionary.type)
    table = pa.table([pa.array(c) if isinstance(c, np.ndarray) else c for c in columns], names=schema.names)
    return table.cast(schema).take(pc.sort_indices(items.dictionary)).combine_chunks()


def with_unsold(sold: pa.Table, items: pa.ChunkedArray) -> pa.Table:
    """``sales_schema`` with more items, which need not be others, sold never."""
    new = items.unique()
    new = new.filter(pc.invert(pc.is_in(new, value_set=sold["item_id"].combine_chunks())))
    zeros = pa.array(np.zeros(len(new), np.int64))
    columns = dict.fromkeys(("events", "users", "recent"), zeros) | {"item_id": new}
    more = [columns.get(f.name, pa.nulls(len(new), f.type)) for f in sold.schema]
    rows = pa.concat_tables([sold, pa.table(more, sold.schema)])
    return rows.take(pc.sort_indices(rows["item_id"])).combine_chunks()


def _codes(values: pa.ChunkedArray) -> pa.DictionaryArray:
    codes = values.combine_chunks().dictionary_encode()
    return codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes


def merge_sales(tables: Iterable[pa.Table]) -> pa.Table:
    """The sales of several groups of users, none in two groups, as one table; associative and commutative.

    Raises ValueError for no table.
    """
    groups = list(tables)
    if not groups:
        raise ValueError("merge_sales needs at least one table, got none")
    rows = pa.concat_tables(groups)
    how = {"events": "sum", "users": "sum", "recent": "sum", "first_sale": "min", "last_sale": "max"}
    grouped = rows.group_by("item_id", use_threads=False).aggregate(list(how.items()))
    grouped = grouped.rename_columns({f"{column}_{function}": column for column, function in how.items()})
    grouped = grouped.take(pc.sort_indices(grouped["item_id"]))
    at = pc.index_in(rows["item_id"], value_set=grouped["item_id"].combine_chunks())
    latest = pc.equal(rows["last_sale"], grouped["last_sale"].combine_chunks().take(at.combine_chunks()))
    last = rows.select(["item_id", "last_price"]).filter(latest)
    last = last.group_by("item_id", use_threads=False).aggregate([("last_price", "max")])
    at = pc.index_in(grouped["item_id"], value_set=last["item_id"].combine_chunks())
    price = last["last_price_max"].combine_chunks().take(at.combine_chunks())
    return grouped.append_column("last_price", price).select(rows.schema.names).cast(rows.schema).combine_chunks()


def catalogue(sold: pa.Table, items: pa.Table | None = None, *, missing_available: bool = True) -> pa.Table:
    """``schemas.catalogue`` of all sales and of an items' table (item_id sorted and distinct).

    Sold items that the items' table lacks are added, available or not by ``missing_available``; without a table all are
    available. A price that it lacks is that of the last sale.
    Vectors, where the table has them, stay as they are; sold items that it lacks get zeros, and no features.
    """
    if items is None:
        missing_available = True
        items = schemas.catalogue(sold.schema.field("item_id").type).empty_table()
    with_vectors = "vector" in items.column_names
    vector_dim = items.schema.field("vector").type.list_size if with_vectors else None
    features = items.schema.field("features").type if "features" in items.column_names else None
    schema = schemas.catalogue(sold.schema.field("item_id").type, vector_dim, features)
    item_ids = pa.concat_arrays([items["item_id"].combine_chunks(), sold["item_id"].combine_chunks()]).unique()
    item_ids = item_ids.take(pc.sort_indices(item_ids))
    sale = sold.take(pc.index_in(item_ids, value_set=sold["item_id"].combine_chunks()))
    row = pc.index_in(item_ids, value_set=items["item_id"].combine_chunks())
    listed = items.select(["title", "category", "price", "available"]).take(row)
    columns: dict[str, pa.ChunkedArray] = {"item_id": item_ids}
    columns |= {name: listed[name] for name in ("title", "category")}
    columns["price"] = pc.coalesce(listed["price"], sale["last_price"])
    columns["available"] = pc.fill_null(listed["available"], missing_available)
    columns |= {name: pc.fill_null(sale[name], 0) for name in ("events", "users", "recent")}
    columns |= {name: sale[name] for name in ("first_sale", "last_sale")}
    if features is not None:
        columns["features"] = items["features"].take(row)
    if with_vectors:
        row = pc.fill_null(row, len(items))
        columns["vector"] = vector_column(np.pad(vectors_of(items), ((0, 1), (0, 0)))[np.asarray(row)])
    return pa.table({f.name: columns[f.name] for f in schema}).cast(schema).combine_chunks()


def with_sales(catalogue: pa.Table, sold: pa.Table) -> pa.Table:
    """A catalogue as it was when only ``sold`` (``sales_schema``, of its items) had been sold.

    What it says of the items beside their sales stays: titles, prices and features are those of now.
    """
    sale = sold.take(pc.index_in(catalogue["item_id"], value_set=sold["item_id"].combine_chunks()))
    for name in ("events", "users", "recent", "first_sale", "last_sale"):
        at, field = catalogue.schema.get_field_index(name), catalogue.schema.field(name)
        values = sale[name] if field.nullable else pc.fill_null(sale[name], 0)
        catalogue = catalogue.set_column(at, field, values.cast(field.type))
    return catalogue.combine_chunks()


def title_words(titles: Values) -> pa.ListArray:
    """The words of each title in order, in lower case: runs of letters and digits; a null title has none."""
    if isinstance(titles, pa.ChunkedArray):
        titles = titles.combine_chunks()
    spaced = pc.utf8_trim(pc.replace_substring_regex(pc.utf8_lower(pc.fill_null(titles, "")), r"[^\pL\pN]+", " "), " ")
    words = pc.split_pattern(spaced, " ")
    some = np.asarray(pc.not_equal(pc.list_flatten(words), ""))  # splitting "" gives one empty word
    ends = np.concatenate([[0], np.cumsum(some)])[np.asarray(words.offsets)]
    kept = pc.list_flatten(words).filter(pa.array(some))
    return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), kept)


def vocabulary(values: Values, counts: Values | None = None) -> pa.Table:
    """The distinct strings with how often each comes (or the sum of ``counts``), by count descending, then value.

    Nulls do not count.
    """
    rows = pa.table({"value": values, "count": pa.array(np.ones(len(values), np.int64)) if counts is None else counts})
    rows = rows.filter(pc.is_valid(rows["value"]))
    summed = rows.group_by("value", use_threads=False).aggregate([("count", "sum")])
    summed = summed.rename_columns({"count_sum": "count"}).select(VOCABULARY.names)
    return summed.sort_by([("count", "descending"), ("value", "ascending")]).cast(VOCABULARY).combine_chunks()


VOCABULARY = schemas.schema(value=pa.string(), count=pa.int64())


def words_vocabulary(titles: Values) -> pa.Table:
    """The words of titles, with the number of titles that have each."""
    words = title_words(titles)
    pairs = pa.table({"title": pc.list_parent_indices(words), "word": pc.list_flatten(words)})
    return vocabulary(pairs.group_by(["title", "word"], use_threads=False).aggregate([])["word"])
