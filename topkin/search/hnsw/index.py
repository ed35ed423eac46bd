"""A loaded index: its graphs give candidates, which are scored again from the vectors."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from topkin.linalg.cosine import unit_rows
from topkin.linalg.csr import Csr
from topkin.search.hnsw.engines import DEFAULT, ENGINES, GraphEngine
from topkin.search.norm_bands import norms
from topkin.search.pair_scores import error_bounds, pair_scores
from topkin.search.topk import TopK, top_k

SPARE = 8  # candidates beside the wanted ones: the graph's float32 scores differ in the last digits from ours
_LONGEST = np.full((1, 1), 1.002, np.float32)  # of unit rows
_MOST_ASKED = 4096


def checked(x: np.ndarray, dim: int | None, what: str) -> np.ndarray:
    """The vectors as a C-ordered float32 matrix that may be given to NMSLIB, but for zero rows."""
    x = np.asarray(x)
    if x.dtype.kind != "f":
        raise TypeError(f"{what} must be floating point, got {x.dtype}")
    if x.ndim != 2 or (dim is not None and x.shape[1] != dim) or x.shape[1] == 0:
        raise ValueError(f"{what} must have shape (n, {dim or 'dim'}), got {x.shape}")
    with np.errstate(over="ignore"):  # what overflows float32 is an infinity, and refused as one
        x = np.ascontiguousarray(x, np.float32)
    bad = int((~np.isfinite(x)).any(axis=1).sum())
    if bad:
        raise ValueError(f"{what} must be finite float32, got {bad} rows with a NaN or an infinity: set them aside")
    return x


class Folding(NamedTuple):
    """Which indexed items have equal vectors: a graph holds one point for all of them.

    Many equal vectors are each other's neighbours in an HNSW graph, and nobody else's: what stands behind them is not
    found any more. members: (n_indexed,) int32, the items point after point, those of one point ascending. starts:
    (n_points + 1,) int64, where the members of each point begin. A point has none where its items are gone.
    """

    members: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, n_points: int = 0) -> "Folding":
        """points: (n_indexed,) int32, the point of each item, numbered from 0; n_points: at least so many there are."""
        counts = np.bincount(points, minlength=n_points)
        return cls(np.argsort(points, kind="stable").astype(np.int32), np.cumsum(np.append(0, counts)))

    @property
    def first(self) -> np.ndarray:
        """The first item of each point, (n_points,); every point must have one."""
        return self.members[self.starts[:-1]]

    @property
    def sizes(self) -> np.ndarray:
        """How many items each point has, (n_points,)."""
        return np.diff(self.starts)

    def unfolded(self, best: np.ndarray) -> np.ndarray:
        """The items of points (n, width), padded -1: as many as there are places, of the best points first."""
        sizes = np.where(best < 0, 0, self.sizes[best])
        before = np.cumsum(sizes, axis=1) - sizes
        taken = np.clip(best.shape[1] - before, 0, sizes).ravel()
        owner = np.repeat(np.arange(taken.size), taken)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(taken) - taken, taken)
        items = np.full(best.shape, -1, np.int32)
        place = owner // best.shape[1], before.ravel()[owner] + within
        items[place] = self.members[self.starts[best.ravel()[owner]] + within]
        return items


def points_of(vectors: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """The point of each item, (n,) int32 from 0 in order of coming; items of one shard with equal vectors share one.

    vectors: (n, dim) float32, shard after shard; sizes: items of each shard.
    """
    points, count = [np.zeros(0, np.int32)], 0
    for inside in np.split(vectors, np.cumsum(sizes)[:-1]) if len(sizes) else []:
        rows = np.ascontiguousarray(inside + np.float32(0))  # -0 becomes 0
        _, first, of = np.unique(
            rows.view(f"V{rows.itemsize * rows.shape[1]}")[:, 0], return_index=True, return_inverse=True
        )
        number = np.empty(len(first), np.int32)
        number[np.argsort(first)] = np.arange(count, count + len(first))
        points.append(number[of])
        count += len(first)
    return np.concatenate(points)


class Graph(NamedTuple):
    """A library's graph over a run of points, and the lengths that their cosines are to be multiplied with."""

    first: int
    norms: np.ndarray
    graph: Any


def placed(vectors: np.ndarray, graphs: Sequence[Any], sizes: list[int], by_length: bool) -> tuple[Graph, ...]:
    """The graphs with their places. vectors: (n_points, dim), one of each point; sizes: points of each graph."""
    long = norms(vectors).astype(np.float32) if by_length else np.ones(len(vectors), np.float32)
    starts = np.cumsum([0, *sizes])
    return tuple(
        Graph(int(first), long[first : first + size], graph)
        for first, size, graph in zip(starts, sizes, graphs, strict=False)
    )


@dataclass(frozen=True, repr=False)
class AnnIndex:
    """A loaded index.

    rows: (n_indexed,) int32, the catalogue rows of the indexed items, shard after shard; ascending where the items
    are not split by length and the index was not grown. vectors: (n_indexed, dim) float32, theirs. item_ids: theirs.
    info: index.json's content. folding: which of them are one point of the graphs; a point without any is a tombstone.
    """

    rows: np.ndarray
    vectors: np.ndarray
    item_ids: pa.Array
    info: Mapping[str, Any]
    graphs: tuple[Graph, ...]
    folding: Folding
    one_at_a_time: Any = field(default_factory=threading.Lock, repr=False, compare=False)
    """efSearch is a graph's own state: two threads of a worker with lists of two lengths would change each other's."""

    def __repr__(self) -> str:
        graphs = f"{len(self.graphs)} graph{'' if len(self.graphs) == 1 else 's'}"
        return f"AnnIndex({self.n_indexed:,} items, {self.dim} dimensions, {graphs}, encoder {self.encoder[:12]})"

    @property
    def dim(self) -> int:
        """Coordinates of a vector."""
        return int(self.info["dim"])

    @property
    def encoder(self) -> str:
        """The hash of the encoder that made the vectors."""
        return str(self.info["encoder"])

    @property
    def engine(self) -> GraphEngine:
        """What made the graphs, and walks them."""
        return ENGINES[self.info.get("engine", DEFAULT)]

    @property
    def n_indexed(self) -> int:
        """How many items the index holds; items with a zero vector are not among them."""
        return len(self.rows)

    @cached_property
    def _living(self) -> np.ndarray:
        """Which points are no tombstones, (n_points,) bool."""
        return self.folding.sizes > 0

    @cached_property
    def _one_each(self) -> bool:
        """Whether every point is one item, its place the point's number."""
        return bool((self.folding.sizes == 1).all())

    def search(self, queries: np.ndarray, k: int, *, threads: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """About the k items of highest cosine: ids (n, k) int32 padded -1, scores (n, k) float32 padded -inf.

        queries: (n, dim) float32, finite. ids are catalogue rows. Candidates come from the graphs; their
        scores are the inner products that exact search gives, ordered by score, then id. A zero query
        scores 0 with every item. threads: 0 for one a processor. Raises TypeError or ValueError for
        queries or a k that NMSLIB would take in silence, and for queries with another last coordinate than 0
        where the items are split by length.
        """
        queries = checked(queries, self.dim, "queries")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        by_length = self.info["split_by_length"]
        if by_length and (odd := int(np.count_nonzero(queries[:, -1]))):
            raise ValueError(
                f"queries must end in 0, as user vectors do, where items are split by length, got {odd} others: "
                "ask with user vectors, or search exactly"
            )
        known = (queries != 0).any(axis=1)
        points = np.full((len(queries), k + SPARE), -1, np.int32)
        if not known.all():
            first = np.argsort(self.rows, kind="stable")[:k]
            points[~known, : len(first)] = first
        unit = unit_rows(queries[known])
        points[known] = self._candidates(np.ascontiguousarray(unit[:, :-1]) if by_length else unit, k, threads)
        row, column = np.nonzero(points >= 0)
        scores = np.full(points.shape, -np.inf, np.float32)
        margins = error_bounds(queries, _LONGEST)
        scores[row, column] = pair_scores(queries, self.vectors, margins, row, points[row, column])
        ids = np.where(points < 0, np.int32(-1), self.rows[points] if len(self.rows) else np.int32(-1))
        order = np.lexsort((np.where(ids < 0, np.iinfo(np.int32).max, ids), -scores), axis=1)[:, :k]
        return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)

    def _candidates(self, unit: np.ndarray, k: int, threads: int) -> np.ndarray:
        """The indexed items of the k + SPARE best answers to unit rows, (n, k + SPARE) int32 padded -1."""
        width = k + SPARE
        split = self.info["split_by_length"]
        # HNSW finds at most efSearch items; twice the wanted where its order of cosines is not that of scores.
        ef = max(self.info["parameters"]["efSearch"], width * (1 + split))
        best, near = np.full((len(unit), width), -1, np.int32), np.full((len(unit), width), -np.inf, np.float32)
        for first, long, graph in self.graphs:
            open_ = np.flatnonzero(near[:, k - 1] <= long.max() + np.float32(1e-6))  # its longest item could be listed
            alive = self._living[first : first + len(long)]
            if not len(open_) or not alive.any():
                continue
            wanted = min(ef if split else width, len(long))
            with self.one_at_a_time:
                items, scores = _nearest(
                    self.engine, Graph(first, long, graph), unit[open_], alive, k, wanted, ef, threads
                )
            items = np.concatenate([best[open_], np.where(items < 0, -1, items + np.int32(first))], axis=1)
            scores = np.concatenate([near[open_], scores], axis=1)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :width]
            best[open_] = np.take_along_axis(items, order, axis=1)
            near[open_] = np.take_along_axis(scores, order, axis=1)
        return best if self._one_each else self.folding.unfolded(best)


def _nearest(
    engine: GraphEngine, part: Graph, unit: np.ndarray, alive: np.ndarray, k: int, wanted: int, ef: int, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """The points of a graph nearest to unit rows, (n, wanted) padded -1, and their scores; k living ones at least.

    alive: (n_points,) bool; the others are dropped, and a query that is left with too few is asked for more.
    """
    asked = wanted if alive.all() else min(2 * wanted, len(alive))
    items, cosines = engine.nearest(part.graph, unit, asked, max(ef, asked), threads)
    scores = np.where(items < 0, cosines, cosines * part.norms[items])
    if alive.all():
        return items, scores
    gone = (items < 0) | ~alive[items]
    order = np.argsort(gone, axis=1, kind="stable")[:, :wanted]
    left = ~np.take_along_axis(gone, order, axis=1)
    items = np.where(left, np.take_along_axis(items, order, axis=1), np.int32(-1))
    scores = np.where(left, np.take_along_axis(scores, order, axis=1), np.float32(-np.inf))
    few = np.flatnonzero(left.sum(axis=1) < min(k, np.count_nonzero(alive)))
    if len(few) and asked < len(alive):
        more = _nearest(engine, part, unit[few], alive, k, min(2 * asked, len(alive)), ef, threads)
        items[few], scores[few] = (side[:, :wanted] for side in more)
    return items, scores


def index_top_k(
    index: AnnIndex, vectors: np.ndarray, queries: np.ndarray, k: int, *, exclude: Csr, allowed: np.ndarray
) -> TopK:
    """The k best allowed items of each query by the index, as many as the rules leave.

    The index is asked for as many more items as the query's exclusions, then for twice as many and so on; what it does
    not find is searched exactly.

    Args:
        index: What is asked.
        vectors: (n_items, dim) float32, the table from which it was built.
        queries: (n, dim) float32.
        k: Items a query.
        exclude: Items that each query may not get.
        allowed: (n_items,) bool, of items with a vector.

    Returns:
        ids (n, k) int32 padded -1 and scores (n, k) float32 padded -inf; items that the graph misses may be replaced by
        the next best.

    Raises:
        ValueError: For k below 1 or a query that is not finite.
    """
    queries = np.asarray(queries, np.float32)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if not np.isfinite(queries).all():
        raise ValueError("vectors must be finite: set aside those with a NaN or an infinity first")
    n, n_items = len(queries), len(allowed)
    ids, scores = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)
    exclude = Csr.of_pairs(exclude.rows, exclude.indices, n, n_items)
    barred = exclude.rows * n_items + exclude.indices
    wanted = np.minimum(k, allowed.sum() - exclude.count_in(allowed))
    share = max(allowed.sum(), 1) / max(index.n_indexed, 1)  # the fewer are allowed, the more are asked for
    needed = (k + exclude.lengths) / share
    todo = wanted > 0
    most = min(_MOST_ASKED, index.n_indexed)
    for size in 2 ** np.arange(0, 1 + int(np.log2(2 * _MOST_ASKED))):
        rows = np.flatnonzero(todo & (needed <= size))
        if not len(rows) or size // 2 >= most:
            continue
        candidates, values = index.search(queries[rows], min(int(size), most))
        keep = (candidates >= 0) & allowed[np.maximum(candidates, 0)]
        keep &= ~np.isin(rows[:, None] * n_items + candidates, barred)
        rank = np.cumsum(keep, axis=1) - 1
        enough = rank[:, -1] + 1 >= wanted[rows]
        row, column = np.nonzero(keep & (rank < k) & enough[:, None])
        target = rows[row], rank[row, column]
        ids[target], scores[target] = candidates[row, column], values[row, column]
        todo[rows[enough]] = False
    rows = np.flatnonzero(todo)
    if len(rows):
        ids[rows], scores[rows] = top_k(queries[rows], vectors, k, exclude=exclude.take(rows), allowed=allowed)
    return ids, scores
