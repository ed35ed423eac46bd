"""Approximate search: NMSLIB's HNSW graph (Malkov and Yashunin 2018) over item vectors, checked on every side.

NMSLIB trusts what it is given: a flipped bit in an index file crashes the process or changes answers, a NaN
ruins the graph, a query of the wrong dimension is accepted. So nothing reaches it unchecked: vectors are
finite unit rows of the right dimension, ids are our own row numbers, and every file's SHA-256 is verified
before NMSLIB opens it. The index is a cache of the vectors' table; exact search is what it is measured by.

::

    index/  index.json      parameters, files with their SHA-256, recall measured against exact search
            ids.parquet     one row per indexed item: row (in the catalogue), item_id, vector
            shard-00000.nmslib, shard-00000.nmslib.dat, …   the graph, and the data beside it
"""

import hashlib
import json
import logging
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from topkin import schemas, storage
from topkin.config import Index
from topkin.cosine import unit_rows
from topkin.errors import ArtifactError
from topkin.progress import advance
from topkin.topk import top_k

FORMAT = 1
SPACE = "cosinesimil"
RECALL_AT = (10, 50)
_RESCORE_BYTES = 64 << 20
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
    settings: Index,
    seed: int,
    *,
    ids: pa.Array | pa.ChunkedArray,
    encoder: str,
    queries: np.ndarray | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Build the shards, measure their recall, write all into ``folder`` and return index.json's content.

    vectors: (n_items, dim) float32, unit rows; a zero row is left out and counted. ids: (n_items,) item ids.
    queries: (n, dim) float32 user vectors, of which ``settings.sample`` drawn by ``seed`` measure the recall;
    zero rows are not asked; without any, items are the queries. threads: one gives the same answers each
    time, more build faster. Raises TypeError or ValueError for vectors that are not finite unit rows.
    """
    vectors = _checked(vectors, None, "vectors")
    if len(ids) != len(vectors):
        raise ValueError(f"ids must be as many as vectors ({len(vectors)}), got {len(ids)}")
    known = (vectors != 0).any(axis=1)
    lengths = np.linalg.norm(vectors[known], axis=1)
    if (np.abs(lengths - 1) > 1e-3).any():
        worst = lengths[np.argmax(np.abs(lengths - 1))]
        raise ValueError(f"vectors must be unit rows or zero, got a row of length {worst:.4g}: see cosine.unit_rows")
    rows = np.flatnonzero(known).astype(np.int32)
    if not isinstance(ids, pa.Array):
        ids = ids.combine_chunks()
    storage.make_folder(folder)
    table = _ids_table(ids, vectors, rows, encoder)
    storage.write_parquet(table, storage.join(folder, "ids.parquet"))
    shards = [
        _build_shard(vectors[rows[at : at + settings.shard_items]], folder, number, settings, threads)
        for number, at in enumerate(range(0, len(rows), settings.shard_items))
    ]
    made: dict[str, Any] = {
        "format": FORMAT,
        "encoder": encoder,
        "method": "hnsw",
        "space": SPACE,
        "vectors": "unit rows",
        "dim": vectors.shape[1],
        "items": len(vectors),
        "indexed": len(rows),
        "without_vector": len(vectors) - len(rows),
        "parameters": {
            "M": settings.m,
            "efConstruction": settings.ef_construction,
            "efSearch": settings.ef_search,
            "indexThreadQty": threads,
        },
        "nmslib": _nmslib().__version__,
        "shards": shards,
        "files": {n: _fingerprint(storage.join(folder, n)) for n in storage.files(folder) if _is_index_file(n)},
    }
    storage.write_json(_sealed(made), storage.join(folder, "index.json"))
    made["recall"] = _measure(load_index(folder), queries, settings.sample, seed)
    made = _sealed(made)
    storage.write_json(made, storage.join(folder, "index.json"))
    return made


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


def _build_shard(vectors: np.ndarray, folder: str, number: int, settings: Index, threads: int) -> dict[str, int]:
    """Build and save one graph over non-zero unit rows; NMSLIB writes to a local disk only."""
    graph = _new_graph()
    graph.addDataPointBatch(vectors, np.arange(len(vectors), dtype=np.int32))
    graph.createIndex(
        {"M": settings.m, "efConstruction": settings.ef_construction, "indexThreadQty": threads, "post": 0},
        print_progress=False,
    )
    with tempfile.TemporaryDirectory(prefix="topkin-index-") as local:
        graph.saveIndex(os.path.join(local, f"shard-{number:05d}.nmslib"), save_data=True)
        fs, inner = storage.filesystem(folder)
        pafs.copy_files(local, inner, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=fs)
    advance("index", len(vectors))
    return {"items": len(vectors)}


def _measure(index: "AnnIndex", queries: np.ndarray | None, sample: int, seed: int) -> dict[str, Any]:
    """The share of exact search's k best that the index finds, mean over sampled queries."""
    source = "users" if queries is not None else "items"
    asked = index.vectors if queries is None else _checked(queries, index.dim, "queries")
    asked = asked[np.abs(asked).max(axis=1, initial=0) > 0]
    chosen = np.random.default_rng(seed).permutation(len(asked))[:sample]
    asked = asked[np.sort(chosen)]
    found: dict[str, Any] = {"queries": len(asked), "source": source}
    if not len(asked) or not index.n_indexed:
        return found
    for k in sorted({min(k, index.n_indexed) for k in RECALL_AT}):
        exact, _ = top_k(asked, index.vectors, k)
        got, _ = index.search(asked, k)
        both = [len(np.intersect1d(index.rows[e], g)) for e, g in zip(exact, got, strict=True)]
        found[f"recall@{k}"] = round(float(np.mean(both)) / k, 6)
    return found


@dataclass(frozen=True)
class AnnIndex:
    """A loaded index.

    rows: (n_indexed,) int32, the catalogue rows of the indexed items, ascending. vectors: (n_indexed, dim)
    float32, theirs. item_ids: theirs. info: index.json's content.
    """

    rows: np.ndarray
    vectors: np.ndarray
    item_ids: pa.Array
    info: Mapping[str, Any]
    graphs: tuple[tuple[int, int, Any], ...]
    """(first indexed item, how many, NMSLIB's graph) of each shard."""
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

        queries: (n, dim) float32, finite. ids are catalogue rows. Candidates come from the graph; their
        scores are the inner products that exact search gives, ordered by score, then id. A zero query
        scores 0 with every item. threads: 0 for one a processor. Raises TypeError or ValueError for
        queries or a k that NMSLIB would take in silence.
        """
        queries = _checked(queries, self.dim, "queries")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        found = np.full((len(queries), k * max(len(self.graphs), 1)), -1, np.int32)
        asked = np.flatnonzero(np.abs(queries).max(axis=1, initial=0) > 0)
        if len(asked) < len(queries):
            zero = np.setdiff1d(np.arange(len(queries)), asked)
            found[zero, : min(k, self.n_indexed)] = np.arange(min(k, self.n_indexed), dtype=np.int32)
        unit = np.ascontiguousarray(unit_rows(queries[asked]))
        for shard, (first, size, graph) in enumerate(self.graphs):
            if not len(asked):
                break
            with self.one_at_a_time:
                # HNSW finds at most efSearch items, and is told so before each search.
                graph.setQueryTimeParams({"efSearch": max(self.info["parameters"]["efSearch"], k)})
                answers = graph.knnQueryBatch(unit, k=min(k, size), num_threads=threads)
            counts = np.array([len(a[0]) for a in answers])
            at = shard * k + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            found[np.repeat(asked, counts), at] = np.concatenate([a[0] for a in answers]) + np.int32(first)
        scores = pair_scores(queries, self.vectors, found)
        order = np.lexsort((np.where(found < 0, np.iinfo(np.int32).max, found), -scores), axis=1)[:, :k]
        best = np.take_along_axis(found, order, axis=1)
        ids = np.where(best < 0, np.int32(-1), self.rows[best] if len(self.rows) else np.int32(-1))
        return ids.astype(np.int32, copy=False), np.take_along_axis(scores, order, axis=1)


def pair_scores(queries: np.ndarray, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The score that exact search gives each listed pair, (n, k) float32; -inf where ``rows`` is -1.

    queries: (n, d) float32. vectors: (m, d) float32. rows: (n, k) int32 row numbers of vectors.
    """
    scores = np.full(rows.shape, -np.inf, np.float32)
    step = max(1, _RESCORE_BYTES // max(1, rows.shape[1] * vectors.shape[1] * 8))
    for at in range(0, len(rows), step):
        block = rows[at : at + step]
        if len(vectors):
            pairs = vectors[np.maximum(block, 0)].astype(np.float64)
            dots = np.einsum("nd,nkd->nk", queries[at : at + step].astype(np.float64), pairs)
            scores[at : at + step] = np.where(block < 0, np.float32(-np.inf), dots.astype(np.float32))
    return scores


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
    starts = np.cumsum([0, *sizes])
    graphs = tuple(
        (int(starts[number]), size, _load_graph(folder, f"shard-{number:05d}.nmslib"))
        for number, size in enumerate(sizes)
    )
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
