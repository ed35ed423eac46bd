"""The libraries that make and walk HNSW graphs, behind one interface: NMSLIB, FAISS, hnswlib, usearch.

A graph is the library's own object, of unit rows numbered from 0. Graphs are made by one thread, so that they give the
same answers each time. Cosines that come back are for choosing candidates: scores are made anew from the vectors.
"""

import logging
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np

from topkin.errors import ConfigError
from topkin.telemetry.stderr import stderr_without

SPACE = "cosinesimil"
DEFAULT = "nmslib"
_BANNER = re.compile(
    rb"^(Your CPU supports instructions|For maximum performance, you can install|pip install --no-binary).*\n?",
    re.MULTILINE,
)
Answers = tuple[np.ndarray, np.ndarray]
"""Points (n, k) int32 padded -1, and cosines (n, k) float32 padded -inf."""


class GraphEngine(Protocol):
    """A library. name: as ``index.engine`` has it, and its extra. package: on the index of packages. suffixes: of a
    graph's files, the first of the one that it is read from."""

    name: str
    package: str
    suffixes: tuple[str, ...]

    def build(self, vectors: np.ndarray, m: int, ef_construction: int) -> Any:
        """A graph of unit rows, (n, dim) float32 C-ordered, n at least 1."""

    def save(self, graph: object, path: str) -> None:
        """Write the graph to the local disk."""

    def load(self, path: str, dim: int) -> Any:
        """Read it again."""

    def nearest(self, graph: object, unit: np.ndarray, k: int, ef: int, threads: int) -> Answers:
        """The k points nearest to unit rows; k is at most the points. threads: 0 for one a processor."""


@cache
def nmslib() -> Any:
    """The library, imported without its banner."""
    logging.getLogger("nmslib").setLevel(logging.ERROR)
    with stderr_without(_BANNER):
        import nmslib as library
    return library


def new_graph() -> Any:
    """NMSLIB's graph without points."""
    return nmslib().init(method="hnsw", space=SPACE)


class Nmslib:
    """NMSLIB, which topkin is installed with."""

    name, package = DEFAULT, "nmslib"
    suffixes: tuple[str, ...] = (".nmslib", ".nmslib.dat")

    def build(self, vectors: np.ndarray, m: int, ef_construction: int) -> Any:
        """See :class:`GraphEngine`."""
        graph = new_graph()
        graph.addDataPointBatch(vectors, np.arange(len(vectors), dtype=np.int32))
        how = {"M": m, "efConstruction": ef_construction, "indexThreadQty": 1, "post": 0}
        with ThreadPoolExecutor(1) as new:  # NMSLIB draws levels from its thread's generator, which a graph moves on
            new.submit(graph.createIndex, how, print_progress=False).result()
        return graph

    def save(self, graph: Any, path: str) -> None:
        """See :class:`GraphEngine`."""
        graph.saveIndex(path, save_data=True)

    def load(self, path: str, dim: int) -> Any:
        """See :class:`GraphEngine`."""
        graph = new_graph()
        graph.loadIndex(path, load_data=True)
        return graph

    def nearest(self, graph: Any, unit: np.ndarray, k: int, ef: int, threads: int) -> Answers:
        """See :class:`GraphEngine`."""
        graph.setQueryTimeParams({"efSearch": ef})
        answers = graph.knnQueryBatch(unit, k=k, num_threads=threads)
        counts = np.array([len(a[0]) for a in answers])
        column = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        at = np.repeat(np.arange(len(unit)), counts), column
        items, cosines = _none(len(unit), k)
        items[at] = np.concatenate([a[0] for a in answers])
        cosines[at] = 1 - np.concatenate([a[1] for a in answers])
        return items, cosines


class Faiss:
    """FAISS (Douze and others, 2024)."""

    name, package = "faiss", "faiss-cpu"
    suffixes: tuple[str, ...] = (".faiss",)

    def build(self, vectors: np.ndarray, m: int, ef_construction: int) -> Any:
        """See :class:`GraphEngine`."""
        faiss = _library("faiss", self)
        faiss.omp_set_num_threads(1)
        graph = faiss.IndexHNSWFlat(vectors.shape[1], m, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = ef_construction
        graph.add(vectors)
        return graph

    def save(self, graph: object, path: str) -> None:
        """See :class:`GraphEngine`."""
        _library("faiss", self).write_index(graph, path)

    def load(self, path: str, dim: int) -> Any:
        """See :class:`GraphEngine`."""
        return _library("faiss", self).read_index(path)

    def nearest(self, graph: Any, unit: np.ndarray, k: int, ef: int, threads: int) -> Answers:
        """See :class:`GraphEngine`."""
        faiss = _library("faiss", self)
        faiss.omp_set_num_threads(threads or os.cpu_count() or 1)
        cosines, items = graph.search(unit, k, params=faiss.SearchParametersHNSW(efSearch=ef))
        return items.astype(np.int32), np.where(items < 0, np.float32(-np.inf), cosines)


class Hnswlib:
    """hnswlib, of the authors of HNSW (Malkov and Yashunin, 2018)."""

    name, package = "hnswlib", "hnswlib"
    suffixes: tuple[str, ...] = (".hnswlib",)

    def build(self, vectors: np.ndarray, m: int, ef_construction: int) -> Any:
        """See :class:`GraphEngine`."""
        graph = _library("hnswlib", self).Index("ip", vectors.shape[1])
        graph.init_index(len(vectors), ef_construction=ef_construction, M=m)
        graph.add_items(vectors, np.arange(len(vectors)), num_threads=1)
        return graph

    def save(self, graph: Any, path: str) -> None:
        """See :class:`GraphEngine`."""
        graph.save_index(path)

    def load(self, path: str, dim: int) -> Any:
        """See :class:`GraphEngine`."""
        graph = _library("hnswlib", self).Index("ip", dim)
        graph.load_index(path)
        return graph

    def nearest(self, graph: Any, unit: np.ndarray, k: int, ef: int, threads: int) -> Answers:
        """See :class:`GraphEngine`; where a query reaches fewer points than k, all are asked for fewer."""
        graph.set_ef(ef)
        items, cosines = _none(len(unit), k)
        for fewer in (k >> shift for shift in range(k.bit_length())):
            try:
                labels, distances = graph.knn_query(unit, fewer, num_threads=threads or -1)
            except RuntimeError:
                continue
            items[:, :fewer], cosines[:, :fewer] = labels.astype(np.int32), 1 - distances
            break
        return items, cosines


class Usearch:
    """USearch."""

    name, package = "usearch", "usearch"
    suffixes: tuple[str, ...] = (".usearch",)

    def build(self, vectors: np.ndarray, m: int, ef_construction: int) -> Any:
        """See :class:`GraphEngine`."""
        index = _library("usearch.index", self).Index
        graph = index(ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=m, expansion_add=ef_construction)
        graph.add(np.arange(len(vectors)), vectors, threads=1)
        return graph

    def save(self, graph: Any, path: str) -> None:
        """See :class:`GraphEngine`."""
        graph.save(path)

    def load(self, path: str, dim: int) -> Any:
        """See :class:`GraphEngine`."""
        return _library("usearch.index", self).Index.restore(path)

    def nearest(self, graph: Any, unit: np.ndarray, k: int, ef: int, threads: int) -> Answers:
        """See :class:`GraphEngine`."""
        graph.expansion_search = ef
        matches = graph.search(unit, k, threads=threads)
        counts = np.atleast_1d(matches.counts if hasattr(matches, "counts") else len(matches.keys))
        there = np.arange(k) < counts[:, None]
        items, cosines = _none(len(unit), k)
        items[there] = np.atleast_2d(matches.keys)[:, :k][there].astype(np.int32)
        cosines[there] = 1 - np.atleast_2d(matches.distances)[:, :k][there]
        return items, cosines


ENGINES: Mapping[str, GraphEngine] = {e.name: e for e in (Nmslib(), Faiss(), Hnswlib(), Usearch())}


def engine_of(name: str) -> GraphEngine:
    """The engine of that name. Raises ConfigError with what installs it where it is not there."""
    engine = ENGINES[name]
    if name != DEFAULT:
        _library({"usearch": "usearch.index"}.get(name, name), engine)
    return engine


def library_of(name: str) -> dict[str, str]:
    """What a stage's key has of an engine: its version, but of NMSLIB's, which every key has. Raises ConfigError."""
    return {} if name == DEFAULT else {f"index.engine.{name}": version_of(engine_of(name))}


def version_of(engine: GraphEngine) -> str:
    """The version of its library."""
    return str(nmslib().__version__) if engine.name == DEFAULT else version(engine.package)


def _library(module: str, engine: GraphEngine) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as e:
        raise ConfigError(
            f"index.engine = \"{engine.name}\" needs {engine.package}: pip install 'topkin[{engine.name}]'"
        ) from e


def _none(n: int, k: int) -> Answers:
    return np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)
