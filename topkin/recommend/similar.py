"""Neighbours: items like an item, users like a user, and what the users like a user bought.

All by exact cosine, over everything; who has no vector has no neighbours and is nobody's neighbour.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from topkin.artifacts import schemas
from topkin.config.shop.similar import SimilarSettings
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.search.kernels import EngineOf, blas
from topkin.search.topk import TopK, merge_top_k, top_k

_CHUNK = 4096
_MOST = np.iinfo(np.int32).max


def similar_items(vectors: np.ndarray, rows: np.ndarray, allowed: np.ndarray, k: int, engine: EngineOf = blas) -> TopK:
    """The k items nearest to some items: ids (n, k) int32 padded -1, scores (n, k) float32 padded -inf.

    vectors: (n_items, dim) float32 unit rows, zero for none. rows: (n,) item numbers. allowed: (n_items,) bool,
    who may be a neighbour. The item itself is not among them. Ties by item number.
    """
    known = (vectors != 0).any(axis=1)
    return nearest(vectors[rows], vectors, rows, allowed & known, k, engine)


def similar_users(
    vectors: np.ndarray, first: int, blocks: Iterable[tuple[int, np.ndarray]], k: int, engine: EngineOf = blas
) -> TopK:
    """The k users nearest to those of one part, over all parts: ids int32 padded -1, scores float32, (n, k).

    vectors: (n, dim) float32, the part's users, numbered from ``first``. blocks: (number of its first user,
    vectors) of every part, the part itself too, one in memory at a time. Users without a vector have no
    neighbours. Ties by user number. Raises ValueError where user numbers do not fit int32.
    """
    return nearest_users(vectors, np.arange(first, first + len(vectors)), blocks, k, engine)


def nearest_users(
    vectors: np.ndarray, own: np.ndarray, blocks: Iterable[tuple[int, np.ndarray]], k: int, engine: EngineOf = blas
) -> TopK:
    """:func:`similar_users` of any users. own: (n,) their numbers."""
    best: TopK = (np.full((len(vectors), 0), -1, np.int32), np.full((len(vectors), 0), -np.inf, np.float32))
    for start, theirs in blocks:
        if start + len(theirs) > _MOST:
            raise ValueError(f"users must be fewer than {_MOST}, got number {start + len(theirs)}")
        known = (theirs != 0).any(axis=1)
        ids, scores = nearest(vectors, theirs, own - start, known, k, engine)
        best = merge_top_k([best, (np.where(ids < 0, -1, ids + np.int32(start)), scores)], k)
    return best


def nearest(
    queries: np.ndarray, vectors: np.ndarray, own: np.ndarray, allowed: np.ndarray, k: int, engine: EngineOf = blas
) -> TopK:
    """Top-k without the row ``own[r]`` for query r; rows outside exclude nothing."""
    known = np.flatnonzero((queries != 0).any(axis=1))  # of a zero query all scores would tie
    exclude = Csr.single(np.where(own[known] < len(vectors), own[known], -1))
    ids, scores = np.full((len(queries), k), -1, np.int32), np.full((len(queries), k), -np.inf, np.float32)
    ids[known], scores[known] = top_k(
        queries[known], vectors, k, exclude=exclude, allowed=allowed, engine=engine(vectors.size)
    )
    return ids, scores


def bought_by_neighbours(
    neighbours: np.ndarray,
    cosines: np.ndarray,
    theirs: Interactions,
    own: Interactions,
    allowed: np.ndarray,
    k: int,
    least: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the nearest users bought and the user did not: ids int32, scores float32, support int32, each (n, k).

    neighbours: (n, m) user rows of ``theirs`` padded -1. cosines: (n, m) float32; a neighbour whose cosine is not
    above zero is not like the user and does not count. own: the users' purchases. allowed: (n_items,) bool.
    least: how many neighbours must have bought an item.
    score: the sum of the cosines of the neighbours that bought the item; support: how many they are. Ordered by
    score, highest first, then item number; padded with id -1, score -inf, support 0.
    """
    n, n_items = len(neighbours), theirs.n_items
    ids = np.full((n, k), -1, np.int32)
    scores = np.full((n, k), -np.inf, np.float32)
    support = np.zeros((n, k), np.int32)
    bought = theirs.counts().astype(np.float64)
    bought.data[:] = 1
    for start in range(0, n, _CHUNK):
        stop = min(start + _CHUNK, n)
        near = (neighbours[start:stop] >= 0) & (cosines[start:stop] > 0)
        row, column = np.nonzero(near)
        values, users = cosines[start:stop][row, column].astype(np.float64), neighbours[start:stop][row, column]
        shape = (stop - start, theirs.n_users)
        summed = _sorted(_csr(values, row, users, shape) @ bought)
        counted = _sorted(_csr(np.ones(len(row)), row, users, shape) @ bought)  # the same pairs: no value is zero
        r, c = np.repeat(np.arange(stop - start), np.diff(summed.indptr)), summed.indices
        mine = own.take(np.arange(start, stop))
        bought_before = np.isin(r.astype(np.int64) * n_items + c, mine.users.astype(np.int64) * n_items + mine.items)
        keep = np.flatnonzero(allowed[c] & ~bought_before & (counted.data >= least))
        score = summed.data.astype(np.float32)
        keep = keep[np.lexsort((c[keep], -score[keep], r[keep]))]
        rank = np.arange(len(keep)) - np.searchsorted(r[keep], r[keep])
        keep, rank = keep[rank < k], rank[rank < k]
        target = r[keep] + start, rank
        ids[target], scores[target], support[target] = c[keep], score[keep], counted.data[keep].astype(np.int32)
    return ids, scores, support


def _csr(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sp.csr_matrix:
    return _sorted(sp.csr_matrix((values, (rows, columns)), shape))


def _sorted(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """With column numbers ascending in each row, so that sums run in the order of the users' numbers."""
    matrix.sort_indices()
    return matrix


def users_of(numbers: np.ndarray, tables: Iterable[tuple[int, pa.Table]]) -> pa.Table:
    """The rows of some users, (m,) ascending numbers, out of tables of (number of the first row, rows) in order."""
    pieces = []
    for start, table in tables:
        inside = numbers[(numbers >= start) & (numbers < start + len(table))] - start
        pieces.append(table.take(pa.array(inside)))
    return pa.concat_tables(pieces)


def similar_part(
    histories: pa.Table,
    vectors: np.ndarray,
    first: int,
    *,
    blocks: Iterable[tuple[int, np.ndarray]],
    tables: Iterable[tuple[int, pa.Table]],
    item_ids: pa.Array,
    allowed: np.ndarray,
    as_of: datetime,
    settings: SimilarSettings,
    encoder: str,
    neighbours: TopK | None = None,
    engine: EngineOf = blas,
) -> tuple[pa.Table, pa.Table]:
    """``schemas.similar_users`` and ``schemas.neighbours_bought`` of one part's users.

    histories, vectors: theirs, (n, dim) float32, numbered from ``first``. blocks, tables: (number of its first
    user, vectors) and (the same, histories) of every part in order, one in memory at a time. found: their neighbours,
    where these were found before.
    """
    neighbours = similar_users(vectors, first, blocks, settings.users, engine) if neighbours is None else neighbours
    near = np.unique(neighbours[0][neighbours[0] >= 0])
    rows = users_of(near, tables)
    local = np.where(neighbours[0] < 0, -1, np.searchsorted(near, neighbours[0])).astype(np.int32)
    names = rows["user_id"].combine_chunks()
    owners = histories["user_id"]
    users = users_table(owners, names, (local, neighbours[1]), encoder)
    ids, scores, support = bought_by_neighbours(
        local,
        neighbours[1],
        Interactions.from_histories(rows, item_ids, as_of),
        Interactions.from_histories(histories, item_ids, as_of),
        allowed,
        max(settings.bought, 1),
        settings.min_support,
    )
    listed = bought_table(owners, item_ids, (ids, support, scores), encoder)
    return users, listed if settings.bought else listed.slice(0, 0)


def items_table(ids: pa.Array, rows: np.ndarray, neighbours: TopK, encoder: str) -> pa.Table:
    """``schemas.similar_items`` of some items. ids: of all items. rows: (n,) their numbers."""
    schema = schemas.similar_items(ids.type)
    return _listed(ids.take(pa.array(rows)), ids, neighbours, schema, encoder)


def users_table(owners: pa.Array | pa.ChunkedArray, names: pa.Array, neighbours: TopK, encoder: str) -> pa.Table:
    """``schemas.similar_users`` of some users. names: ids of the neighbours; found[0]: rows of ``names``."""
    return _listed(owners, names, neighbours, schemas.similar_users(owners.type), encoder)


def bought_table(
    owners: pa.Array | pa.ChunkedArray, item_ids: pa.Array, neighbours: Sequence[np.ndarray], encoder: str
) -> pa.Table:
    """``schemas.neighbours_bought`` of some users. found: item numbers, support, scores, (n, k) each."""
    return _listed(owners, item_ids, neighbours, schemas.neighbours_bought(owners.type, item_ids.type), encoder)


def _listed(
    owners: pa.Array | pa.ChunkedArray,
    names: pa.Array,
    neighbours: Sequence[np.ndarray],
    schema: pa.Schema,
    encoder: str,
) -> pa.Table:
    """A row for each place of lists: owner, rank, id out of ``names``, values. found: (n, k) numbers, then values."""
    row, column = np.nonzero(neighbours[0] >= 0)
    ids = names.take(pa.array(neighbours[0][row, column]))
    values = [pa.array(value[row, column]) for value in neighbours[1:]]
    columns = [owners.take(pa.array(row)), pa.array((column + 1).astype(np.int32)), ids, *values]
    return pa.Table.from_arrays(columns, schema=schemas.with_encoder(schema, encoder))
