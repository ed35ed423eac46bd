"""What sold how often, and the catalogue and vocabularies made from it."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas
from topkin.artifacts.embeddings import vector_column, vectors_of


def sales_schema(item: pa.DataType) -> pa.Schema:
    """Sales of each item, sorted by item_id; ``last_price`` is that of the last sale, the highest of several.

    Where the last sale names no price it is null.
    """
    return pa.schema(
        [
            pa.field("item_id", item, False),
            pa.field("events", pa.int64(), False),
            pa.field("users", pa.int64(), False),
            pa.field("recent", pa.int64(), False),
            pa.field("first_sale", schemas.TIME, False),
            pa.field("last_sale", schemas.TIME, False),
            pa.field("last_price", pa.float32()),
        ]
    )


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
    found = pa.table([pa.array(c) if isinstance(c, np.ndarray) else c for c in columns], names=schema.names)
    return found.cast(schema).take(pc.sort_indices(items.dictionary)).combine_chunks()


def _codes(values: pa.ChunkedArray) -> pa.DictionaryArray:
    found = values.combine_chunks().dictionary_encode()
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def merge_sales(tables: Iterable[pa.Table]) -> pa.Table:
    """The sales of several groups of users, none in two groups, as one table; associative and commutative.

    Raises ValueError for no table.
    """
    found = list(tables)
    if not found:
        raise ValueError("merge_sales needs at least one table, got none")
    schema = found[0].schema
    merged = _summed(pa.concat_tables(found), ["events", "users", "recent"])
    return merged.select(schema.names).cast(schema).combine_chunks()


def _summed(rows: pa.Table, counts: Sequence[str]) -> pa.Table:
    """Rows with sales' columns, one row for each item, sorted by item_id."""
    grouped = rows.group_by("item_id", use_threads=False).aggregate(
        [*((c, "sum") for c in counts), ("first_sale", "min"), ("last_sale", "max")]
    )
    names = {f"{c}_sum": c for c in counts} | {"first_sale_min": "first_sale", "last_sale_max": "last_sale"}
    grouped = grouped.rename_columns([names.get(c, c) for c in grouped.column_names])
    grouped = grouped.take(pc.sort_indices(grouped["item_id"]))
    at = pc.index_in(rows["item_id"], value_set=grouped["item_id"].combine_chunks())
    latest = pc.equal(rows["last_sale"], grouped["last_sale"].combine_chunks().take(at.combine_chunks()))
    last = rows.select(["item_id", "last_price"]).filter(latest)
    last = last.group_by("item_id", use_threads=False).aggregate([("last_price", "max")])
    at = pc.index_in(grouped["item_id"], value_set=last["item_id"].combine_chunks())
    return grouped.append_column("last_price", last["last_price_max"].combine_chunks().take(at.combine_chunks()))


def catalogue(sold: pa.Table, items: pa.Table | None = None) -> pa.Table:
    """``schemas.catalogue`` of all sales and of an items' table (item_id sorted and distinct).

    Sold items that the items' table lacks are added, available. A price that it lacks is that of the last sale.
    Vectors, where the table has them, stay as they are; sold items that it lacks get zeros.
    """
    with_vectors = items is not None and "vector" in items.column_names
    vector_dim = items.schema.field("vector").type.list_size if items is not None and with_vectors else None
    schema = schemas.catalogue(sold.schema.field("item_id").type, vector_dim)
    who = sold["item_id"].combine_chunks()
    if items is not None:
        who = pa.concat_arrays([items["item_id"].combine_chunks(), who]).unique()
        who = who.take(pc.sort_indices(who))
    sale = sold.take(pc.index_in(who, value_set=sold["item_id"].combine_chunks()))
    columns: dict[str, pa.ChunkedArray] = {"item_id": who, "price": sale["last_price"]}
    for name in ("events", "users", "recent"):
        columns[name] = pc.fill_null(sale[name], 0)
    columns.update({name: sale[name] for name in ("first_sale", "last_sale")})
    if items is None:
        columns.update({name: pa.nulls(len(who), pa.string()) for name in ("title", "category")})
        columns["available"] = pa.array(np.ones(len(who), bool))
    else:
        listed = items.select(["item_id", "title", "category", "price", "available"]).take(
            pc.index_in(who, value_set=items["item_id"].combine_chunks())
        )
        columns.update({name: listed[name] for name in ("title", "category")})
        columns["available"] = pc.fill_null(listed["available"], True)
        columns["price"] = pc.coalesce(listed["price"], sale["last_price"])
        if with_vectors:
            at = pc.fill_null(pc.index_in(who, value_set=items["item_id"].combine_chunks()), len(items))
            columns["vector"] = vector_column(np.pad(vectors_of(items), ((0, 1), (0, 0)))[np.asarray(at)])
    return pa.table({f.name: columns[f.name] for f in schema}).cast(schema).combine_chunks()


def title_words(titles: pa.Array | pa.ChunkedArray) -> pa.ListArray:
    """The words of each title in order, in lower case: runs of letters and digits; a null title has none."""
    if isinstance(titles, pa.ChunkedArray):
        titles = titles.combine_chunks()
    spaced = pc.utf8_trim(pc.replace_substring_regex(pc.utf8_lower(pc.fill_null(titles, "")), r"[^\pL\pN]+", " "), " ")
    words = pc.split_pattern(spaced, " ")
    some = np.asarray(pc.not_equal(pc.list_flatten(words), ""))  # splitting "" gives one empty word
    ends = np.concatenate([[0], np.cumsum(some)])[np.asarray(words.offsets)]
    kept = pc.list_flatten(words).filter(pa.array(some))
    return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), kept)


def vocabulary(values: pa.Array | pa.ChunkedArray, counts: pa.Array | pa.ChunkedArray | None = None) -> pa.Table:
    """The distinct strings with how often each comes (or the sum of ``counts``), by count descending, then value.

    Nulls do not count.
    """
    rows = pa.table({"value": values, "count": pa.array(np.ones(len(values), np.int64)) if counts is None else counts})
    rows = rows.filter(pc.is_valid(rows["value"]))
    found = rows.group_by("value", use_threads=False).aggregate([("count", "sum")])
    found = found.rename_columns(["value", "count"] if found.column_names[0] == "value" else ["count", "value"])
    found = found.select(["value", "count"]).sort_by([("count", "descending"), ("value", "ascending")])
    return found.cast(VOCABULARY).combine_chunks()


VOCABULARY = pa.schema([pa.field("value", pa.string(), False), pa.field("count", pa.int64(), False)])


def words_vocabulary(titles: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The words of titles, with the number of titles that have each."""
    words = title_words(titles)
    pairs = pa.table({"title": pc.list_parent_indices(words), "word": pc.list_flatten(words)})
    return vocabulary(pairs.group_by(["title", "word"], use_threads=False).aggregate([])["word"])
