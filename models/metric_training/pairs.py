"""Pairs of items that are alike: read from a table of pairs, or made of purchases."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from topkin.artifacts import ids as id_columns
from topkin.config.items_train import PairsSettings
from topkin.errors import InputError, nearest_name
from topkin.ingest import sql
from topkin.ingest.files import ArrowFiles, find

MOST_PER_GROUP = 100
"""Purchases of a basket or of a user that are paired with each other, the latest of them: their pairs grow with the
square."""


def read_pairs(settings: PairsSettings, items: pa.Array) -> tuple[np.ndarray, list[str]]:
    """Distinct pairs of rows, (p, 2) int64, and what a person must know of those left out.

    Args:
        settings: Section ``[train.pairs]``.
        items: (n,) the item of each row.

    Raises:
        InputError: The table or a column is not there, or ids are of another type.
    """
    if settings.made_by is None:
        table = _read(settings, [settings.first, settings.second])
        first, second = table[settings.first], table[settings.second]
    else:
        columns = [settings.item_id, settings.basket if settings.made_by == "basket" else settings.user_id]
        if settings.made_by != "basket":
            columns.append(settings.timestamp)
        pairs = made_pairs(_read(settings, columns), settings)
        first, second = pairs["first"], pairs["second"]
    return _numbered(first, second, items, settings)


def _read(settings: PairsSettings, columns: list[str]) -> pa.Table:
    try:
        files = find("train.pairs.path", settings.path, ArrowFiles()).files
        dataset = pq.ParquetDataset([f.path for f in files])
        names = dataset.schema.names
    except (FileNotFoundError, OSError, pa.ArrowInvalid) as e:
        raise InputError(f"train.pairs.path must name Parquet, {settings.path} cannot be read: {e}") from e
    for column in columns:
        if column not in names:
            near = nearest_name(column, names)
            raise InputError(
                f"{settings.path} must have a column {column!r} for [train.pairs], got {', '.join(names)}"
                f"{f'; did you mean {near!r}?' if near else ''}: name it there, or say by made_by what makes the pairs"
            )
    return dataset.read(columns)


def made_pairs(purchases: pa.Table, settings: PairsSettings) -> pa.Table:
    """Pairs of purchases, ``first``, ``second`` and how often they come, ``n``; each pair once, the smaller id first.

    Of a basket or user with more than a hundred different items the latest hundred are paired.
    """
    group = settings.basket if settings.made_by == "basket" else settings.user_id
    moment = "epoch(TRY_CAST(ts AS TIMESTAMP))" if settings.made_by != "basket" else "0"
    columns = {"item": purchases[settings.item_id], "grp": purchases[group]}
    if settings.made_by != "basket":
        columns["ts"] = purchases[settings.timestamp]
    near = {
        "basket": "a.item < b.item",
        "user": f"a.item < b.item AND abs(a.moment - b.moment) <= {settings.days} * 86400",
        "after": f"a.item <> b.item AND b.moment > a.moment AND b.moment - a.moment <= {settings.days} * 86400",
    }[str(settings.made_by)]
    return sql.query(
        f"""
        WITH bought AS (
            FROM (
                SELECT DISTINCT grp, item, {moment} AS moment FROM rows WHERE grp IS NOT NULL AND item IS NOT NULL
            )
            QUALIFY row_number() OVER (PARTITION BY grp ORDER BY moment DESC, item) <= {MOST_PER_GROUP}
        )
        SELECT least(a.item, b.item) AS first, greatest(a.item, b.item) AS second, count(DISTINCT a.grp) AS n
        FROM bought a JOIN bought b ON a.grp = b.grp AND {near}
        GROUP BY ALL HAVING count(DISTINCT a.grp) >= {settings.min_count} ORDER BY ALL
        """,
        pa.table(columns),
    )


def _numbered(
    first: pa.ChunkedArray, second: pa.ChunkedArray, items: pa.Array, settings: PairsSettings
) -> tuple[np.ndarray, list[str]]:
    """Rows in place of ids."""
    sides = []
    for side in (first, second):
        values = id_columns.decoded(side)
        if id_columns.value_kind(values.type) != id_columns.value_kind(items.type):
            raise InputError(
                f"the items of {settings.path} are {values.type}, the prepared ones {items.type}: cast one of them"
            )
        sides.append(np.asarray(pc.fill_null(pc.index_in(values.cast(items.type), items), -1)).astype(np.int64))
    pairs = np.column_stack(sides)
    unknown, own = (pairs < 0).any(axis=1), pairs[:, 0] == pairs[:, 1]
    good = np.unique(np.sort(pairs[~unknown & ~own], axis=1), axis=0)
    notes = []
    if unknown.any():
        notes.append(f"{int(unknown.sum()):,} of {len(pairs):,} pairs name an item that is not prepared: left out")
    if (own & ~unknown).any():
        notes.append(f"{int((own & ~unknown).sum()):,} pairs are of an item with itself: left out")
    return good, notes
