"""Building an index: whether items are split by length is tried, and the recall is measured."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage
from topkin.search.hnsw.engines import DEFAULT, SPACE, GraphEngine, engine_of, version_of
from topkin.search.hnsw.files import (
    FORMAT,
    Places,
    fingerprints,
    load_index,
    save_graph,
    sealed,
    write_places,
)
from topkin.search.hnsw.index import SPARE, AnnIndex, Folding, checked, placed, points_of
from topkin.search.norm_bands import directions, norm_ranges, norms
from topkin.search.topk import TopK, top_k
from topkin.telemetry.progress import advance

RECALL_AT = (10, 50)
TRIAL_ITEMS = 10_000
"""Items on which it is tried whether to split by length, with at most a tenth as many queries."""
WORTH = 0.005
"""A split by length must raise the recall at some cut-off by this much: it has more graphs to ask."""
FEWEST = 100
"""Items that make a band of lengths of their own."""


class HnswSettings(Protocol):
    """How graphs are built and asked: what ``config.sections.IndexSettings`` holds."""

    @property
    def m(self) -> int:
        """Neighbours kept per node."""

    @property
    def ef_construction(self) -> int:
        """Candidates while building."""

    @property
    def ef_search(self) -> int:
        """Candidates while searching."""

    @property
    def shard_items(self) -> int:
        """Most items in one graph."""

    @property
    def engine(self) -> str:
        """The library: a name in ``engines.ENGINES``."""

    @property
    def sample(self) -> int:
        """Queries whose exact neighbours measure the recall."""


def build_index(
    vectors: np.ndarray,
    folder: str,
    settings: HnswSettings,
    seed: int,
    *,
    ids: pa.Array | pa.ChunkedArray,
    encoder: str,
    queries: np.ndarray | None = None,
    threads: int = 0,
) -> dict[str, Any]:
    """Build the shards, measure their recall, write all into ``folder`` and return index.json's content.

    vectors: (n_items, dim) float32, unit rows; a zero row is left out and counted, equal rows are one point of the
    graph, whose items all are found. ids: (n_items,) item ids.
    queries: (n, dim) float32 user vectors, of which ``settings.sample`` drawn by ``seed`` measure the recall;
    zero rows are not asked; without any, items are the queries. Where the queries' last coordinate is 0 and items
    split by length (:mod:`topkin.search.norm_bands`) are found better than in one graph, they are split: both are
    tried on items drawn by ``seed``. threads: shards built at a time, 0 for one a processor; each graph is made by one
    thread, so that it gives the same answers each time. Raises TypeError or ValueError for vectors that are
    not finite unit rows.
    """
    engine, vectors = engine_of(settings.engine), unit_or_zero(vectors, len(ids))
    rows = np.flatnonzero((vectors != 0).any(axis=1)).astype(np.int32)
    asked = vectors[rows] if queries is None else checked(queries, vectors.shape[1], "queries")
    asked = asked[(asked != 0).any(axis=1)]
    asked = drawn(asked, settings, seed)
    lengths = norms(vectors[rows])
    trial = None if queries is None else tried(lambda n: vectors[rows[n]], lengths, asked, settings, seed, threads)
    by_length = trial is not None and trial.pop("split")
    shards = shard_rows(lengths, settings, by_length)
    rows = np.concatenate([rows[:0], *(rows[shard] for shard in shards)])
    sizes = [len(shard) for shard in shards]
    points = points_of(vectors[rows], sizes)
    storage.make_folder(folder)
    item_ids = (ids if isinstance(ids, pa.Array) else ids.combine_chunks()).take(pa.array(rows))
    n_items, vectors, point_sizes = len(ids), vectors[rows], point_counts(points, sizes)
    write_places(folder, Places({}, rows, item_ids, points, vectors), encoder)
    graphs_of(
        vectors[Folding.of(points).first],
        point_sizes,
        settings,
        by_length,
        threads,
        lambda number, graph: save_graph(engine, graph, folder, number),
    )
    info = {
        **described(settings, encoder, vectors.shape[1], n_items, len(rows)),
        "points": sum(point_sizes),
        "split_by_length": by_length,
        "trial": trial,
        "shards": [{"items": size, "points": one} for size, one in zip(sizes, point_sizes, strict=True)],
        "files": fingerprints(folder),
    }
    return with_recall(info, folder, asked, "items" if queries is None else "users")


def unit_or_zero(vectors: np.ndarray, n: int) -> np.ndarray:
    """Checked vectors of n items, (n, dim) float32. Raises as :func:`build_index`."""
    vectors = checked(vectors, None, "vectors")
    if len(vectors) != n:
        raise ValueError(f"ids must be as many as vectors ({len(vectors)}), got {n}")
    lengths = np.linalg.norm(vectors[(vectors != 0).any(axis=1)], axis=1)
    if (np.abs(lengths - 1) > 1e-3).any():
        worst = lengths[np.argmax(np.abs(lengths - 1))]
        raise ValueError(f"vectors must be unit rows or zero, got a row of length {worst:.4g}: see cosine.unit_rows")
    return vectors


def described(settings: HnswSettings, encoder: str, dim: int, items: int, indexed: int) -> dict[str, Any]:
    """What index.json says of an index whatever its shards are."""
    return {
        "format": FORMAT,
        "encoder": encoder,
        "method": "hnsw",
        "space": SPACE,
        "vectors": "unit rows",
        "dim": dim,
        "items": items,
        "indexed": indexed,
        "without_vector": items - indexed,
        "parameters": parameters(settings),
        **made_by(engine_of(settings.engine)),
    }


def made_by(engine: GraphEngine) -> dict[str, str]:
    """The library and its version, as index.json has them."""
    return {**({} if engine.name == DEFAULT else {"engine": engine.name}), engine.name: version_of(engine)}


def with_recall(description: Mapping[str, Any], folder: str, asked: np.ndarray, source: str) -> dict[str, Any]:
    """Load an index whose files are all there, measure it, and write index.json; returns its content.

    asked: (n, dim) float32, the queries; source: what they are.
    """
    storage.write_json(sealed(description), storage.join(folder, "index.json"))
    index = load_index(folder)
    in_order = np.argsort(index.rows)  # of equal scores the lower row is the better, for the index as for exact search
    recall = _recall(index, asked, [in_order[best] for best in _exact(asked, index.vectors[in_order])])
    info = sealed({**description, "recall": {"queries": len(asked), "source": source, **recall}})
    storage.write_json(info, storage.join(folder, "index.json"))
    return info


def drawn(asked: np.ndarray, settings: HnswSettings, seed: int) -> np.ndarray:
    """``settings.sample`` of the rows, drawn by the seed, in their order."""
    return asked[np.sort(np.random.default_rng(seed).permutation(len(asked))[: settings.sample])]


def parameters(settings: HnswSettings) -> dict[str, int]:
    """The settings by NMSLIB's names."""
    return {
        "M": settings.m,
        "efConstruction": settings.ef_construction,
        "efSearch": settings.ef_search,
        "indexThreadQty": 1,
    }


def tried(
    take: Callable[[np.ndarray], np.ndarray],
    lengths: np.ndarray,
    asked: np.ndarray,
    settings: HnswSettings,
    seed: int,
    threads: int,
) -> dict[str, Any] | None:
    """The recall of one graph and of a split by length over some items; None where a split is out of the question.

    take: gives the vectors of items by their ascending numbers. lengths: (n_items,), see ``norm_bands.norms``.
    """
    if not len(asked) or asked[:, -1].any() or len(norm_ranges(lengths, FEWEST)) == 1:
        return None
    some = take(np.sort(np.random.default_rng(seed).permutation(len(lengths))[:TRIAL_ITEMS]))
    asked = asked[: TRIAL_ITEMS // 10]
    recalls, exact = {}, _exact(asked, some)
    for name, by_length in (("one_graph", False), ("split_by_length", True)):
        shards = shard_rows(norms(some), settings, by_length)
        rows = np.concatenate(shards).astype(np.int32)
        sizes = [len(shard) for shard in shards]
        points = points_of(some[rows], sizes)
        folding, sizes = Folding.of(points), point_counts(points, sizes)
        one_each = some[rows[folding.first]]
        graphs = graphs_of(one_each, sizes, settings, by_length, threads, lambda number, graph: graph)
        info = {"dim": some.shape[1], "parameters": parameters(settings), "split_by_length": by_length}
        info["engine"] = settings.engine
        tried = AnnIndex(rows, some[rows], pa.array([]), info, placed(one_each, graphs, sizes, by_length), folding)
        recalls[name] = _recall(tried, asked, [rows.argsort()[e] for e in exact])
    one, other = recalls.values()
    return {"items": len(some), **recalls, "split": any(other[name] > one[name] + WORTH for name in one)}


def point_counts(points: np.ndarray, sizes: list[int]) -> list[int]:
    """How many points each shard has."""
    ends = np.cumsum(sizes)
    last = [int(points[:end].max(initial=-1)) + 1 for end in ends]
    return [b - a for a, b in zip([0, *last], last, strict=False)]


def shard_rows(lengths: np.ndarray, settings: HnswSettings, by_length: bool) -> list[np.ndarray]:
    """The rows of each shard, ascending: bands of lengths, or all, in runs of ``shard_items``."""
    kept = norm_ranges(lengths, FEWEST) if by_length else [np.arange(len(lengths))]
    size = settings.shard_items
    return [band[at : at + size] for band in kept for at in range(0, len(band), size)]


def graphs_of(
    vectors: np.ndarray,
    sizes: list[int],
    settings: HnswSettings,
    by_length: bool,
    threads: int,
    done: Callable[[int, Any], Any],
) -> list[Any]:
    """What ``done`` makes of each shard's number and graph. vectors: (n_points, dim), shard after shard."""
    starts, engine = np.cumsum([0, *sizes]), engine_of(settings.engine)

    def build(number: int) -> Any:
        inside = vectors[starts[number] : starts[number + 1]]
        unit = np.ascontiguousarray(directions(inside) if by_length else inside)
        graph = engine.build(unit, settings.m, settings.ef_construction)
        advance("index", len(inside))
        return done(number, graph)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return list(pool.map(build, range(len(sizes))))


def cut_offs(queries: int, items: int) -> list[int]:
    """Where the recall is measured, ascending: at RECALL_AT, or at all items where they are fewer."""
    return sorted({min(k, items) for k in RECALL_AT}) if queries and items else []


def _exact(asked: np.ndarray, vectors: np.ndarray) -> list[np.ndarray]:
    """The rows of the best items of each query, by exact search, for each k of RECALL_AT."""
    ks = cut_offs(len(asked), len(vectors))
    most = top_k(asked, vectors, ks[-1])[0] if ks else np.zeros((0, 0), np.int32)
    return [most[:, :k] for k in ks]


def _recall(index: "AnnIndex", asked: np.ndarray, exact: list[np.ndarray]) -> dict[str, float]:
    """The share of exact search's k best that the index finds, mean over the queries. exact: rows of its vectors."""
    recalls = {}
    for (got, _), best in zip(answers(index, asked, [best.shape[1] for best in exact]), exact, strict=True):
        recalls[f"recall@{best.shape[1]}"] = share_found(got, index.rows[best])
    return recalls


def share_found(got: np.ndarray, best: np.ndarray) -> float:
    """The share of the best that lists hold, of item numbers, (n, k) each."""
    hits = sum(int((got == one[:, None]).sum()) for one in best.T)  # an item is in a list once
    return round(hits / best.size, 6)


def answers(index: "AnnIndex", asked: np.ndarray, ks: Sequence[int]) -> list[TopK]:
    """The k best of each query for each k: by one search where the graphs are walked alike for all of them."""
    if ks and not index.info["split_by_length"] and index.info["parameters"]["efSearch"] >= max(ks) + SPARE:
        ids, scores = index.search(asked, max(ks))
        return [(ids[:, :k], scores[:, :k]) for k in ks]
    return [index.search(asked, k) for k in ks]
