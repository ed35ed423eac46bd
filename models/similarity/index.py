"""An index that items are added to and removed from: a graph, and a small exact rest.

NMSLIB's graph takes no item after it is saved, and gives none back. So new items go to a rest that is searched
exactly, removed ones are marked, and when either grows past a share of the whole all are built into a new graph
(a compaction). Adding n items one by one costs a few builds in all, and no build at most additions.

::

    index.json, ids.parquet, shard-…   the graph, as ``topkin.search.hnsw`` writes and reads it: an index of the nightly
                                       job, which ``load_index`` opens; absent below ``graph_from`` items
    growth.json                        what came since: settings and counts
    items.parquet                      id, label, removed: the graph's items in its order, then the rest's
    rest.parquet                       vector: the rest's

An index that the job wrote has the first line alone, and is one to which nothing was added yet.
"""

import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from topkin.artifacts import schemas, storage
from topkin.config.sections import IndexSettings
from topkin.errors import ArtifactError
from topkin.linalg.cosine import unit_rows
from topkin.linalg.csr import Csr
from topkin.metrics.labels import values_of
from topkin.search.hnsw.build import RECALL_AT, build_index
from topkin.search.hnsw.files import load_index
from topkin.search.hnsw.index import AnnIndex, index_top_k
from topkin.search.topk import TopK, merge_top_k, top_k

Key: TypeAlias = int | str | bytes
Labels: TypeAlias = Key | Sequence[Key | None] | np.ndarray | pa.Array
FORMAT = 2
STATE = "growth.json"


@dataclass(frozen=True, kw_only=True)
class Growth:
    """When a :class:`GrowingIndex` builds its graph.

    Args:
        graph_from: below so many items all are searched exactly.
        rest_share: a compaction comes when the rest is more than this share of the whole.
        removed_share: or when what is removed is.

    Raises:
        ValueError: shares outside 0..1, or ``graph_from`` below 1.

    Examples:
        >>> from topkin.models import Growth
        >>> Growth(graph_from=1000).rest_share
        0.2
    """

    graph_from: int = 5_000
    rest_share: float = 0.2
    removed_share: float = 0.3

    def __post_init__(self) -> None:
        if self.graph_from < 1 or not 0 < self.rest_share <= 1 or not 0 < self.removed_share <= 1:
            raise ValueError(f"graph_from must be at least 1 and the shares above 0, at most 1, got {self}")


class GrowingIndex:
    """Unit vectors with an id and a label each, found by cosine; items are added and removed at any time.

    Ids are distinct and all int, str or bytes; labels likewise, None allowed. One alone may be given for a list of
    one: a text is one id, never its letters. Results are row numbers, in which ``ids`` and ``labels`` are in order;
    they hold until the next compaction.

    Args:
        dim: of a vector.
        encoder: the hash of what makes the vectors.
        settings: of the graph.
        growth: when the graph is built.
        seed: of the graph.

    Raises:
        ValueError: a dim below 1.

    Examples:
        >>> from topkin.models import GrowingIndex
        >>> index = GrowingIndex(2, encoder="any")
        >>> index.add(["a", "b"], np.eye(2), labels=["cup", "pan"])
        >>> rows, scores = index.search(np.array([[0.1, 0.9]]), k=1)
        >>> index.labels[rows[0, 0]]
        'pan'
    """

    def __init__(
        self,
        dim: int,
        *,
        encoder: str,
        settings: IndexSettings | None = None,
        growth: Growth | None = None,
        seed: int = 0,
    ) -> None:
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        self.dim, self.encoder, self.seed = dim, encoder, seed
        self.settings, self.growth = settings or IndexSettings(), growth or Growth()
        self.compactions = 0
        self.ids: list[Key] = []
        self.labels: list[Key | None] = []
        self._rows: dict[Key, int] = {}
        self._kinds: dict[str, type] = {}
        self._alive = np.zeros(0, bool)
        self._rest = np.zeros((0, self.dim), np.float32)
        self._graph: AnnIndex | None = None
        self._folder = ""  # where the graph's files are, to be copied by save
        self._drop: Callable[[], object] = _nothing

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"GrowingIndex({len(self):,} items, {self.dim} dimensions, encoder {self.encoder[:12]})"

    def __contains__(self, item: Key) -> bool:
        return item in self._rows

    @property
    def in_graph(self) -> int:
        """How many rows the graph has, removed ones among them; the others are searched exactly."""
        return 0 if self._graph is None else self._graph.n_indexed

    @property
    def recall(self) -> dict[str, Any]:
        """The share of exact search's best that the graph finds, as ``index.json`` has it: measured at each compaction.

        ``recall@10`` and ``recall@50`` over ``queries`` of the items, which ``IndexSettings.sample`` bounds. Below
        ``graph_from`` items search is exact, and ``source`` says so.
        """
        if self._graph is None:
            return {"queries": 0, "source": "exact", **{f"recall@{k}": 1.0 for k in RECALL_AT}}
        return dict(self._graph.info["recall"])

    @property
    def next_id(self) -> int:
        """The integer above every integer id given."""
        return 1 + max((i for i in self.ids if isinstance(i, int)), default=-1)

    def alive(self) -> tuple[list[Key], list[Key | None], np.ndarray]:
        """Ids, labels and vectors (n, dim) of all that is not removed, in order of adding."""
        rows = np.flatnonzero(self._alive)
        return [self.ids[r] for r in rows], [self.labels[r] for r in rows], self._vectors()[rows]

    def add(self, ids: Labels, vectors: np.ndarray, labels: Labels | None = None) -> None:
        """Add items; compacts where the rest is large. All are added, or none where something is refused.

        ids: (n,). vectors: (n, dim) floats, made unit rows. labels: (n,), all None where None. Raises
        ValueError for an id that is there already or comes twice, vectors that are not finite or are zero,
        or lengths that differ; TypeError for ids or labels of an unknown or another type.
        """
        ids = values_of(ids, "ids")
        tags = [None] * len(ids) if labels is None else values_of(labels, "labels")
        vectors = _numbers(vectors, "vectors")
        if not vectors.size and not ids:
            vectors = vectors.reshape(0, self.dim)
        if vectors.shape != (len(ids), self.dim) or len(tags) != len(ids):
            raise ValueError(
                f"each item must have an id, a vector and a label, got {len(ids)} ids, vectors of shape "
                f"{vectors.shape} for dim {self.dim}, and {len(tags)} labels"
            )
        kinds = {"ids": self._kind(ids, "ids"), "labels": self._kind([v for v in tags if v is not None], "labels")}
        present = [i for i in ids if i in self._rows]
        if present or len(set(ids)) < len(ids):
            twice = present[0] if present else Counter(ids).most_common(1)[0][0]
            raise ValueError(f"ids must be new and distinct, got {twice!r} again: remove it first, or number anew")
        bad = int((~np.isfinite(vectors).all(axis=1) | ~(vectors != 0).any(axis=1)).sum())
        if bad:
            raise ValueError(f"vectors must be finite and not zero, got {bad} others: leave those items out")
        self._kinds.update({name: kind for name, kind in kinds.items() if kind is not None})
        self._rows.update(zip(ids, range(len(self.ids), len(self.ids) + len(ids)), strict=True))
        self.ids.extend(ids)
        self.labels.extend(tags)
        self._alive = np.concatenate([self._alive, np.ones(len(ids), bool)])
        self._rest = np.concatenate([self._rest, unit_rows(vectors).astype(np.float32)])
        rest = int(self._alive[self.in_graph :].sum())
        if len(self) >= self.growth.graph_from and rest > self.growth.rest_share * len(self):
            self.compact()

    def remove(self, ids: Labels) -> None:
        """Remove items; they are never found again, and their ids may be added anew.

        Compacts where many are removed. Raises KeyError for an id that is not there; then none is removed.
        """
        ids = values_of(ids, "ids to remove", ordered=False)
        self._kind(ids, "ids")
        unknown = [i for i in ids if i not in self._rows]
        if unknown:
            raise KeyError(
                f"ids to remove must be in the index, {len(unknown)} are not, such as {unknown[0]!r}: leave them"
            )
        for item in dict.fromkeys(ids):
            self._alive[self._rows.pop(item)] = False
        if len(self.ids) - len(self) > self.growth.removed_share * len(self.ids):
            self.compact()

    def search(self, queries: np.ndarray, k: int) -> TopK:
        """The k items of highest cosine: rows (n, k) int32, scores (n, k) float32, ties by row.

        queries: (n, dim) finite floats. Exact among the rest; among the graph's items nearly so. A zero
        query scores 0 with all. Raises ValueError for a k outside 1..len(self).
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer):
            raise TypeError(f"k must be a whole number, got {k!r}")
        if not 1 <= k <= len(self):
            raise ValueError(
                f"k must be from 1 to the number of items in the index, {len(self)}, got {k}: lower k, or add items"
            )
        queries = _numbers(queries, "queries")
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(f"queries must be (n, {self.dim}), got shape {queries.shape}")
        if not np.isfinite(queries).all():
            bad = int((~np.isfinite(queries)).any(axis=1).sum())
            raise ValueError(f"queries must be finite, got {bad} with a NaN or an infinity: set them aside")
        queries, first = unit_rows(queries).astype(np.float32), self.in_graph
        rows, scores = top_k(queries, self._rest, k, allowed=self._alive[first:])
        rest = np.where(rows < 0, np.int32(-1), rows + np.int32(first)), scores
        if self._graph is None:
            return rest
        graph, nothing = self._graph, Csr.empty(len(queries))
        near = index_top_k(graph, graph.vectors, queries, k, exclude=nothing, allowed=self._alive[:first])
        return merge_top_k([near, rest], k)

    def compact(self) -> None:
        """Forget removed items, and build the others into one graph, or one exact rest where they are few."""
        ids, labels, vectors = self.alive()
        graph: AnnIndex | None = None
        drop: Callable[[], object] = _nothing
        if len(ids) >= self.growth.graph_from:
            folder, drop = self._new_folder()
            kept = pa.array(ids, _ARROW[self._kinds.get("ids", int)])
            build_index(vectors, folder, self.settings, self.seed, ids=kept, encoder=self.encoder)
            graph = self._opened(folder)
            self._folder = folder
        self._drop()
        self._drop, self._graph, self._rest = drop, graph, vectors if graph is None else vectors[:0]
        self.ids, self.labels = ids, labels
        self._rows = {item: row for row, item in enumerate(ids)}
        self._alive = np.ones(len(ids), bool)
        self.compactions += 1

    def _new_folder(self) -> tuple[str, Callable[[], object]]:
        """A folder that goes with this object, and what removes it before."""
        folder = tempfile.mkdtemp(prefix="topkin-growing-")
        return folder, weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    def _opened(self, folder: str) -> AnnIndex:
        return load_index(folder, encoder=self.encoder, dim=self.dim)

    def _vectors(self) -> np.ndarray:
        return self._rest if self._graph is None else np.concatenate([self._graph.vectors, self._rest])

    def _kind(self, values: Sequence[Key | None], what: str) -> type | None:
        """The type of all values. Raises TypeError where they have none in common, or not that of before."""
        before = kind_name(self._kinds.get(what))
        kind = self._kinds.get(what)
        for value in values:
            kind = kind or type(value)
            if type(value) is not kind or kind not in _ARROW:
                raise TypeError(
                    f"{what} must all be int, str or bytes, the same for all{before}, got {value!r} "
                    f"({type(value).__name__}): cast them"
                )
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise TypeError(f"{what} that are integers must fit int64, got {value}: give them as str")
        return kind

    def save(self, folder: str) -> None:
        """Write the index into an empty folder."""
        first = self.in_graph
        columns = {
            "id": pa.array(self.ids, _ARROW[self._kinds.get("ids", int)]),
            "label": pa.array(self.labels, _ARROW[self._kinds.get("labels", int)]),
            "removed": pa.array(~self._alive),
        }
        storage.write_parquet(pa.table(columns), storage.join(folder, "items.parquet"))
        rest = pa.FixedSizeListArray.from_arrays(pa.array(self._rest.reshape(-1)), self.dim)
        schema = pa.schema([pa.field("vector", schemas.vector(self.dim), False)])
        storage.write_parquet(
            pa.Table.from_arrays([rest], schema=schemas.with_encoder(schema, self.encoder)),
            storage.join(folder, "rest.parquet"),
        )
        if first:
            fs, inner = storage.filesystem(folder)
            fs.create_dir(inner, recursive=True)
            pafs.copy_files(self._folder, inner, destination_filesystem=fs)
        state = {
            "format": FORMAT,
            "dim": self.dim,
            "encoder": self.encoder,
            "seed": self.seed,
            "items": len(self),
            "in_graph": first,
            "settings": self.settings.model_dump(),
            "growth": {name: getattr(self.growth, name) for name in self.growth.__dataclass_fields__},
        }
        storage.write_json(state, storage.join(folder, STATE))

    @classmethod
    def load(cls, folder: str) -> "GrowingIndex":
        """Read what :meth:`save` wrote, or an index of the nightly job, whose items have no labels.

        Raises ArtifactError where it is damaged or of another format.
        """
        if not storage.exists(storage.join(folder, STATE)) and storage.exists(storage.join(folder, "index.json")):
            return cls._of_job(folder)
        state = storage.read_json(storage.join(folder, STATE))
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ArtifactError(f"{folder}/{STATE} must have format {FORMAT}: index the items again")
        index = cls(
            state["dim"],
            encoder=state["encoder"],
            settings=IndexSettings(**state["settings"]),
            growth=Growth(**state["growth"]),
            seed=state["seed"],
        )
        items = storage.read_parquet(storage.join(folder, "items.parquet"))
        rest = storage.read_parquet(storage.join(folder, "rest.parquet"))
        index.ids, index.labels = items["id"].to_pylist(), items["label"].to_pylist()
        index._alive = ~items["removed"].to_numpy()
        index._rows = {index.ids[row]: int(row) for row in np.flatnonzero(index._alive)}
        index._kinds = {
            name: kind for name, kind in (("ids", _kind_of(index.ids)), ("labels", _kind_of(index.labels))) if kind
        }
        flat = rest["vector"].combine_chunks().flatten().to_numpy() if len(rest) else np.zeros(0, np.float32)
        index._rest = flat.reshape(-1, index.dim).astype(np.float32)
        if state["in_graph"]:
            index._take_graph(folder)
        expected, got = (state["items"], state["in_graph"]), (len(index), index.in_graph)
        if expected != got or len(index.ids) != index.in_graph + len(index._rest):
            raise ArtifactError(
                f"{folder} must hold {expected} items and graph items, got {got}: index the items again"
            )
        return index

    @classmethod
    def _of_job(cls, folder: str) -> "GrowingIndex":
        """What :func:`build_index` wrote, as an index that nothing was added to."""
        info = load_index(folder).info
        how = {name: info["parameters"][key] for name, key in _PARAMETERS.items()}
        how["engine"] = info.get("engine", "nmslib")
        index = cls(info["dim"], encoder=info["encoder"], settings=IndexSettings(**how))
        index._take_graph(folder)
        assert index._graph is not None
        index.ids = index._graph.item_ids.to_pylist()
        index.labels = [None] * len(index.ids)
        index._alive = np.ones(len(index.ids), bool)
        index._rows = {item: row for row, item in enumerate(index.ids)}
        kind = _kind_of(index.ids)
        index._kinds = {"ids": kind} if kind else {}
        return index

    def _take_graph(self, folder: str) -> None:
        """A copy of a saved graph: the folder may be replaced while this object lives."""
        self._folder, self._drop = self._new_folder()
        fs, inner = storage.filesystem(folder)
        for name in storage.files(folder):
            if name in ("index.json", "ids.parquet") or name.startswith("shard-"):
                pafs.copy_files(storage.join(inner, name), storage.join(self._folder, name), source_filesystem=fs)
        opened = self._opened(self._folder)
        self._graph = replace(opened, rows=np.arange(opened.n_indexed, dtype=np.int32))


def _numbers(x: object, what: str) -> np.ndarray:
    """An array of real numbers. Raises TypeError for anything else."""
    x = np.asarray(x)
    if x.size and x.dtype.kind not in "fiu":
        raise TypeError(f"{what} must be numbers, got {x.dtype}: embed them first")
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def _nothing() -> None:
    """Nothing is to be removed."""


_PARAMETERS = {"m": "M", "ef_construction": "efConstruction", "ef_search": "efSearch"}
_ARROW = {int: pa.int64(), str: pa.string(), bytes: pa.binary()}


def _kind_of(values: Sequence[Key | None]) -> type | None:
    return next((type(v) for v in values if v is not None), None)


def kind_name(kind: type | None) -> str:
    """For messages: the type that all are to have, where it is known."""
    return f" ({kind.__name__} so far)" if kind else ""
