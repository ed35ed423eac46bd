"""Approximate search: NMSLIB's HNSW graph (Malkov and Yashunin 2018) over item vectors, checked on every side.

NMSLIB trusts what it is given: a flipped bit in an index file crashes the process or changes answers, a NaN
ruins the graph, a query of the wrong dimension is accepted. So nothing reaches it unchecked: vectors are
finite unit rows of the right dimension, ids are our own row numbers, and every file's SHA-256 is verified
before NMSLIB opens it. The index is a cache of the vectors' table; exact search is what it is measured by.

::

    index/  index.json      parameters, files with their SHA-256, recall measured against exact search
            ids.parquet     one row per indexed item, shard after shard: row (in the catalogue), item_id, vector
            shard-00000.nmslib, shard-00000.nmslib.dat, …   the graph, and the data beside it
"""

import hashlib
import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from topkin.artifacts import schemas, storage
from topkin.config.sections import IndexSettings
from topkin.errors import ArtifactError
from topkin.linalg.cosine import unit_rows
from topkin.search.norm_bands import directions, norm_ranges, norms
from topkin.search.pair_scores import error_bounds, pair_scores
from topkin.search.topk import top_k
from topkin.telemetry.progress import advance

FORMAT = 2
SPACE = "cosinesimil"
RECALL_AT = (10, 50)
TRIAL_ITEMS = 10_000
"""Items on which it is tried whether to split by length, with at most a tenth as many queries."""
WORTH = 0.005
"""A split by length must raise the recall at some cut-off by this much: it has more graphs to ask."""
FEWEST = 100
"""Items that make a band of lengths of their own."""
_SPARE = 8  # candidates beside the wanted ones: the graph's float32 scores differ in the last digits from ours
_LONGEST = np.full((1, 1), 1.002, np.float32)  # of unit rows
_BANNER = (b"Your CPU supports instructions", b"For maximum performance, you can install", b"pip install --no-binary")
_redirecting = threading.Lock()


@contextmanager
def _without_banner() -> Iterator[None]:
    """Hold back what is written to stderr's descriptor, then pass on all lines but NMSLIB's banner."""
    with _redirecting, tempfile.TemporaryFile() as held:
        try:
            kept = os.dup(2)
        except OSError:  # no stderr at all
            yield
            return
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            lines = [line for line in held.read().splitlines(keepends=True) if not line.startswith(_BANNER)]
            if lines:
                os.write(2, b"".join(lines))


@cache
def _nmslib() -> Any:
    logging.getLogger("nmslib").setLevel(logging.ERROR)
    with _without_banner():
        import nmslib
    return nmslib


def _checked(x: np.ndarray, dim: int | None, what: str) -> np.ndarray:
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


def build_index(
    vectors: np.ndarray,
    folder: str,
    settings: IndexSettings,
    seed: int,
    *,
    ids: pa.Array | pa.ChunkedArray,
    encoder: str,
    queries: np.ndarray | None = None,
    threads: int = 0,
) -> dict[str, Any]:
    """Build the shards, measure their recall, write all into ``folder`` and return index.json's content.

    vectors: (n_items, dim) float32, unit rows; a zero row is left out and counted. ids: (n_items,) item ids.
    queries: (n, dim) float32 user vectors, of which ``settings.sample`` drawn by ``seed`` measure the recall;
    zero rows are not asked; without any, items are the queries. Where the queries' last coordinate is 0 and items
    split by length (:mod:`topkin.search.norm_bands`) are found better than in one graph, they are split: both are
    tried on items drawn by ``seed``. threads: shards built at a time, 0 for one a processor; each graph is made by one
    thread, so that it gives the same answers each time. Raises TypeError or ValueError for vectors that are
    not finite unit rows.
    """
    vectors = _checked(vectors, None, "vectors")
    if len(ids) != len(vectors):
        raise ValueError(f"ids must be as many as vectors ({len(vectors)}), got {len(ids)}")
    known = (vectors != 0).any(axis=1)
    norms = np.linalg.norm(vectors[known], axis=1)
    if (np.abs(norms - 1) > 1e-3).any():
        worst = norms[np.argmax(np.abs(norms - 1))]
        raise ValueError(f"vectors must be unit rows or zero, got a row of length {worst:.4g}: see cosine.unit_rows")
    rows = np.flatnonzero(known).astype(np.int32)
    asked = vectors[rows] if queries is None else _checked(queries, vectors.shape[1], "queries")
    asked = asked[(asked != 0).any(axis=1)]
    asked = asked[np.sort(np.random.default_rng(seed).permutation(len(asked))[: settings.sample])]
    trial = None if queries is None else _trial(vectors[rows], asked, settings, seed, threads)
    by_length = trial is not None and trial.pop("split")
    shards = _shards(vectors[rows], settings, by_length)
    rows = np.concatenate([rows[:0], *(rows[shard] for shard in shards)])
    storage.make_folder(folder)
    table = _ids_table(ids if isinstance(ids, pa.Array) else ids.combine_chunks(), vectors, rows, encoder)
    storage.write_parquet(table, storage.join(folder, "ids.parquet"))
    vectors, sizes = vectors[rows], [len(shard) for shard in shards]
    _built(vectors, sizes, settings, by_length, threads, lambda number, graph: _save(graph, folder, number))
    made: dict[str, Any] = {
        "format": FORMAT,
        "encoder": encoder,
        "method": "hnsw",
        "space": SPACE,
        "vectors": "unit rows",
        "dim": vectors.shape[1],
        "items": len(ids),
        "indexed": len(rows),
        "without_vector": len(ids) - len(rows),
        "parameters": _parameters(settings),
        "nmslib": _nmslib().__version__,
        "split_by_length": by_length,
        "trial": trial,
        "shards": [{"items": size} for size in sizes],
        "files": {n: _fingerprint(storage.join(folder, n)) for n in storage.files(folder) if _is_index_file(n)},
    }
    storage.write_json(_sealed(made), storage.join(folder, "index.json"))
    found = _recall(load_index(folder), asked, _exact(asked, vectors))
    made["recall"] = {"queries": len(asked), "source": "items" if queries is None else "users", **found}
    made = _sealed(made)
    storage.write_json(made, storage.join(folder, "index.json"))
    return made


def _parameters(settings: IndexSettings) -> dict[str, int]:
    return {
        "M": settings.m,
        "efConstruction": settings.ef_construction,
        "efSearch": settings.ef_search,
        "indexThreadQty": 1,
    }


def _trial(
    vectors: np.ndarray, asked: np.ndarray, settings: IndexSettings, seed: int, threads: int
) -> dict[str, Any] | None:
    """The recall of one graph and of a split by length over some items; None where a split is out of the question."""
    if not len(asked) or asked[:, -1].any() or len(norm_ranges(norms(vectors), FEWEST)) == 1:
        return None
    some = vectors[np.sort(np.random.default_rng(seed).permutation(len(vectors))[:TRIAL_ITEMS])]
    asked = asked[: TRIAL_ITEMS // 10]
    found, exact = {}, _exact(asked, some)
    for name, by_length in (("one_graph", False), ("split_by_length", True)):
        shards = _shards(some, settings, by_length)
        rows = np.concatenate(shards).astype(np.int32)
        sizes = [len(shard) for shard in shards]
        graphs = _built(some[rows], sizes, settings, by_length, threads, lambda number, graph: graph)
        info = {"dim": some.shape[1], "parameters": _parameters(settings), "split_by_length": by_length}
        tried = AnnIndex(rows, some[rows], pa.array([]), info, _placed(some[rows], graphs, sizes, by_length))
        found[name] = _recall(tried, asked, [rows.argsort()[e] for e in exact])
    one, other = found.values()
    return {"items": len(some), **found, "split": any(other[name] > one[name] + WORTH for name in one)}


def _shards(vectors: np.ndarray, settings: IndexSettings, by_length: bool) -> list[np.ndarray]:
    """The rows of each shard, ascending: bands of lengths, or all, in runs of ``shard_items``."""
    kept = norm_ranges(norms(vectors), FEWEST) if by_length else [np.arange(len(vectors))]
    size = settings.shard_items
    return [band[at : at + size] for band in kept for at in range(0, len(band), size)]


def _built(
    vectors: np.ndarray,
    sizes: list[int],
    settings: IndexSettings,
    by_length: bool,
    threads: int,
    done: Callable[[int, Any], Any],
) -> list[Any]:
    """What ``done`` makes of each shard's number and graph. vectors: (n_indexed, dim), shard after shard."""
    starts = np.cumsum([0, *sizes])

    def build(number: int) -> Any:
        inside = vectors[starts[number] : starts[number + 1]]
        graph, how = _new_graph(), {n: v for n, v in _parameters(settings).items() if n != "efSearch"}
        graph.addDataPointBatch(directions(inside) if by_length else inside, np.arange(len(inside), dtype=np.int32))
        graph.createIndex({**how, "post": 0}, print_progress=False)
        advance("index", len(inside))
        return done(number, graph)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return list(pool.map(build, range(len(sizes))))


def _is_index_file(name: str) -> bool:
    return name == "ids.parquet" or name.endswith((".nmslib", ".nmslib.dat"))


def _fingerprint(path: str) -> dict[str, Any]:
    fs, inner = storage.filesystem(path)
    return {"bytes": fs.get_file_info(inner).size, "sha256": storage.sha256(path)}


def _sealed(made: Mapping[str, Any]) -> dict[str, Any]:
    """index.json with the hash of its own content, so that a changed parameter is seen too."""
    content = {k: v for k, v in made.items() if k != "sha256"}
    return {**content, "sha256": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}


def _ids_table(ids: pa.Array, vectors: np.ndarray, rows: np.ndarray, encoder: str) -> pa.Table:
    dim = vectors.shape[1]
    schema = pa.schema(
        [
            pa.field("row", pa.int32(), False),
            pa.field("item_id", ids.type, False),
            pa.field("vector", schemas.vector(dim), False),
        ]
    )
    flat = pa.array(vectors[rows].reshape(-1))
    columns = [pa.array(rows), ids.take(pa.array(rows)), pa.FixedSizeListArray.from_arrays(flat, dim)]
    return pa.Table.from_arrays(columns, schema=schemas.with_encoder(schema, encoder))


def _new_graph() -> Any:
    return _nmslib().init(method="hnsw", space=SPACE)


def _save(graph: Any, folder: str, number: int) -> None:
    """Save one graph; NMSLIB writes to a local disk only."""
    with tempfile.TemporaryDirectory(prefix="topkin-index-") as local:
        graph.saveIndex(os.path.join(local, f"shard-{number:05d}.nmslib"), save_data=True)
        fs, inner = storage.filesystem(folder)
        pafs.copy_files(local, inner, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=fs)


def _exact(asked: np.ndarray, vectors: np.ndarray) -> list[np.ndarray]:
    """The rows of the best items of each query, by exact search, for each k of RECALL_AT."""
    ks = sorted({min(k, len(vectors)) for k in RECALL_AT}) if len(asked) and len(vectors) else []
    most = top_k(asked, vectors, ks[-1])[0] if ks else np.zeros((0, 0), np.int32)
    return [most[:, :k] for k in ks]


def _recall(index: "AnnIndex", asked: np.ndarray, exact: list[np.ndarray]) -> dict[str, float]:
    """The share of exact search's k best that the index finds, mean over the queries. exact: rows of its vectors."""
    found = {}
    for best in exact:
        k = best.shape[1]
        got, _ = index.search(asked, k)
        both = [len(np.intersect1d(index.rows[e], g)) for e, g in zip(best, got, strict=True)]
        found[f"recall@{k}"] = round(float(np.mean(both)) / k, 6)
    return found


class Graph(NamedTuple):
    """NMSLIB's graph over a run of indexed items, and the lengths that their cosines are to be multiplied with."""

    first: int
    norms: np.ndarray
    graph: Any


def _placed(vectors: np.ndarray, graphs: list[Any], sizes: list[int], by_length: bool) -> tuple[Graph, ...]:
    """The graphs with their places in (n_indexed, dim) vectors."""
    long = norms(vectors).astype(np.float32) if by_length else np.ones(len(vectors), np.float32)
    starts = np.cumsum([0, *sizes])
    return tuple(
        Graph(int(first), long[first : first + size], graph)
        for first, size, graph in zip(starts, sizes, graphs, strict=False)
    )


@dataclass(frozen=True)
class AnnIndex:
    """A loaded index.

    rows: (n_indexed,) int32, the catalogue rows of the indexed items, shard after shard; ascending where the items
    are not split by length. vectors: (n_indexed, dim) float32, theirs. item_ids: theirs. info: index.json's content.
    """

    rows: np.ndarray
    vectors: np.ndarray
    item_ids: pa.Array
    info: Mapping[str, Any]
    graphs: tuple[Graph, ...]
    one_at_a_time: Any = field(default_factory=threading.Lock, repr=False, compare=False)
    """efSearch is a graph's own state: two threads of a worker with lists of two lengths would change each other's."""

    @property
    def dim(self) -> int:
        """Coordinates of a vector."""
        return int(self.info["dim"])

    @property
    def encoder(self) -> str:
        """The hash of the encoder that made the vectors."""
        return str(self.info["encoder"])

    @property
    def n_indexed(self) -> int:
        """How many items the index holds; items with a zero vector are not among them."""
        return len(self.rows)

    def search(self, queries: np.ndarray, k: int, *, threads: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """About the k items of highest cosine: ids (n, k) int32 padded -1, scores (n, k) float32 padded -inf.

        queries: (n, dim) float32, finite. ids are catalogue rows. Candidates come from the graphs; their
        scores are the inner products that exact search gives, ordered by score, then id. A zero query
        scores 0 with every item. threads: 0 for one a processor. Raises TypeError or ValueError for
        queries or a k that NMSLIB would take in silence, and for queries with another last coordinate than 0
        where the items are split by length.
        """
        queries = _checked(queries, self.dim, "queries")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        by_length = self.info["split_by_length"]
        if by_length and (odd := int(np.count_nonzero(queries[:, -1]))):
            raise ValueError(
                f"queries must end in 0, as user vectors do, where items are split by length, got {odd} others: "
                "ask with user vectors, or search exactly"
            )
        known = (queries != 0).any(axis=1)
        found = np.full((len(queries), k + _SPARE), -1, np.int32)
        if not known.all():
            first = np.argsort(self.rows, kind="stable")[:k]
            found[~known, : len(first)] = first
        unit = unit_rows(queries[known])
        found[known] = self._candidates(np.ascontiguousarray(unit[:, :-1]) if by_length else unit, k, threads)
        row, column = np.nonzero(found >= 0)
        scores = np.full(found.shape, -np.inf, np.float32)
        margins = error_bounds(queries, _LONGEST)
        scores[row, column] = pair_scores(queries, self.vectors, margins, row, found[row, column])
        ids = np.where(found < 0, np.int32(-1), self.rows[found] if len(self.rows) else np.int32(-1))
        order = np.lexsort((np.where(ids < 0, np.iinfo(np.int32).max, ids), -scores), axis=1)[:, :k]
        return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)

    def _candidates(self, unit: np.ndarray, k: int, threads: int) -> np.ndarray:
        """The indexed items of the k + _SPARE best answers of the graphs, (n, k + _SPARE) int32 padded -1.

        unit: (n, d) unit rows. A graph is asked where its longest item could still be among the k best; a
        band of lengths for efSearch candidates, at least twice the wanted: its order of cosines is not that of scores.
        """
        width = k + _SPARE
        split = self.info["split_by_length"]
        ef = max(self.info["parameters"]["efSearch"], width * (1 + split))  # HNSW finds at most efSearch items
        best, near = np.full((len(unit), width), -1, np.int32), np.full((len(unit), width), -np.inf, np.float32)
        for first, long, graph in self.graphs:
            open_ = np.flatnonzero(near[:, k - 1] <= long.max() + np.float32(1e-6))
            if not len(open_):
                continue
            wanted = min(ef if split else width, len(long))
            with self.one_at_a_time:
                graph.setQueryTimeParams({"efSearch": ef})
                answers = graph.knnQueryBatch(unit[open_], k=wanted, num_threads=threads)
            counts = np.array([len(a[0]) for a in answers])
            at = (
                np.repeat(np.arange(len(open_)), counts),
                np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts),
            )
            items, scores = (
                np.full((len(open_), wanted), -1, np.int32),
                np.full((len(open_), wanted), -np.inf, np.float32),
            )
            items[at] = np.concatenate([a[0] for a in answers])
            scores[at] = (1 - np.concatenate([a[1] for a in answers])) * long[items[at]]
            items = np.concatenate([best[open_], np.where(items < 0, -1, items + np.int32(first))], axis=1)
            scores = np.concatenate([near[open_], scores], axis=1)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :width]
            best[open_] = np.take_along_axis(items, order, axis=1)
            near[open_] = np.take_along_axis(scores, order, axis=1)
        return best


def load_index(folder: str, *, encoder: str | None = None, dim: int | None = None) -> AnnIndex:
    """Load an index; every file is verified before NMSLIB opens one.

    encoder, dim: what the caller's vectors have. Raises ArtifactError where a file is missing, cut off or
    changed, or the index was made by another encoder or for another dimension.
    """
    info = _verified_info(folder)
    again = "run topkin index again with --force"
    if encoder is not None and info["encoder"] != encoder:
        raise ArtifactError(
            f"{folder} was made by encoder {info['encoder'][:12]}…, the vectors by {encoder[:12]}…: one run needs one "
            f"encoder; {again}"
        )
    if dim is not None and info["dim"] != dim:
        raise ArtifactError(f"{folder} is for vectors of {info['dim']} coordinates, got {dim}: {again}")
    for name, want in sorted(info["files"].items()):
        path = storage.join(folder, name)
        if not storage.exists(path):
            raise ArtifactError(f"{path} is missing: {again}")
        got = _fingerprint(path)
        if got != want:
            raise ArtifactError(
                f"{path} is damaged ({want['bytes']} bytes of sha256 {want['sha256'][:12]}… expected, "
                f"got {got['bytes']} of {got['sha256'][:12]}…): {again}"
            )
    table = storage.read_parquet(storage.join(folder, "ids.parquet")).combine_chunks()
    kind = table.schema.field("vector").type
    if schemas.encoder_of(table.schema) != info["encoder"] or kind != schemas.vector(info["dim"]):
        raise ArtifactError(f"{folder}/ids.parquet and index.json tell of another encoder or dimension: {again}")
    sizes = [shard["items"] for shard in info["shards"]]
    if len(table) != info["indexed"] or sum(sizes) != info["indexed"]:
        raise ArtifactError(f"{folder} lists {len(table)} ids for {sum(sizes)} indexed items: {again}")
    rows = np.asarray(table["row"]).astype(np.int32, copy=False)
    flat = np.asarray(table["vector"].combine_chunks().flatten()) if len(table) else np.zeros(0, np.float32)
    vectors = flat.astype(np.float32, copy=False).reshape(len(table), info["dim"])
    loaded = [_load_graph(folder, f"shard-{number:05d}.nmslib") for number in range(len(sizes))]
    graphs = _placed(vectors, loaded, sizes, info["split_by_length"])
    ids = table["item_id"].combine_chunks()
    return AnnIndex(rows, vectors, ids if isinstance(ids, pa.Array) else pa.array([], ids.type), info, graphs)


def _verified_info(folder: str) -> dict[str, Any]:
    path = storage.join(folder, "index.json")
    info = storage.read_json(path)
    if not isinstance(info, dict) or info.get("format") != FORMAT or _sealed(info) != info:
        raise ArtifactError(
            f"{path} is damaged, or of a format other than {FORMAT}: run topkin index again with --force"
        )
    names = {f"shard-{n:05d}.nmslib{end}" for n in range(len(info["shards"])) for end in ("", ".dat")}
    if names | {"ids.parquet"} != set(info["files"]):
        raise ArtifactError(f"{path} lists files that do not fit its shards: run topkin index again with --force")
    return info


def _load_graph(folder: str, name: str) -> Any:
    graph = _new_graph()
    fs, inner = storage.filesystem(folder)
    if isinstance(fs, pafs.LocalFileSystem):
        graph.loadIndex(storage.join(inner, name), load_data=True)
        return graph
    with tempfile.TemporaryDirectory(prefix="topkin-index-") as local:
        for end in ("", ".dat"):
            pafs.copy_files(
                storage.join(inner, name + end),
                os.path.join(local, name + end),
                source_filesystem=fs,
                destination_filesystem=pafs.LocalFileSystem(),
            )
        graph.loadIndex(os.path.join(local, name), load_data=True)
    return graph
