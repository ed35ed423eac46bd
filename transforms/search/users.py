"""Users like a user in the clusters nearest to it, so that no worker reads every user's vector."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import AsList, AsSingleton, PBegin, PCollection
from apache_beam.utils.shared import Shared

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import read_users, vector_column, vectors_of
from topkin.artifacts.partition import in_sample
from topkin.artifacts.shuffle import PartFile, read_part
from topkin.linalg.sort_keys import keys_of, lists_of
from topkin.recommend.clusters import (
    LEARNED_FROM,
    MOST_PROBES,
    QUERIES,
    RECALL,
    Measured,
    centroids_of,
    merged,
    nearest_clusters,
    nearest_to,
    search_cluster,
)
from topkin.search.topk import TopK
from topkin.transforms.counters import counted
from topkin.transforms.similar import SimilarInputs

MEASURED, CENTROIDS, ASKED = "measured.json", "centroids.parquet", "queries.parquet"
_ROWS = 1 << 14


@dataclass(frozen=True, kw_only=True)
class ClusterInputs:
    """What the neighbours are searched in.

    users: how many there are. clusters: how many are asked for. scratch: where all workers read and write. recall: the
    share of the nearest that is to be found.
    """

    similar: SimilarInputs
    users: int
    clusters: int
    seed: int
    scratch: str
    recall: float = RECALL

    @property
    def k(self) -> int:
        """Neighbours of a user."""
        return min(self.similar.settings.users, self.users)

    def table(self, name: str) -> np.ndarray:
        """The vectors of a table in scratch."""
        return vectors_of(storage.read_parquet(storage.join(self.scratch, name)))

    def write(self, name: str, vectors: np.ndarray, **columns: np.ndarray) -> None:
        """Write a table of vectors into scratch."""
        table = pa.table({"vector": vector_column(vectors), **columns})
        storage.write_parquet(table, storage.join(self.scratch, name))


def moved_schema(dim: int) -> pa.Schema:
    """A user on the way to a cluster: its number, whether it is at home there, its vector."""
    fields = [pa.field("cluster", pa.int32()), pa.field("number", pa.int32()), pa.field("home", pa.bool_())]
    return pa.schema([*fields, pa.field("vector", schemas.vector(dim))])


def _found_schema(k: int) -> pa.Schema:
    """A user on the way back to its part: its number, and the keys of whom a cluster found for it."""
    fields = [pa.field("part", pa.int32()), pa.field("number", pa.int32())]
    return pa.schema([*fields, pa.field("keys", pa.list_(pa.uint64(), k))])


def _keys_table(keys: np.ndarray, **columns: np.ndarray) -> pa.Table:
    return pa.table({"keys": pa.FixedSizeListArray.from_arrays(pa.array(keys.ravel()), keys.shape[1]), **columns})


def _keys(table: pa.Table) -> np.ndarray:
    flat = [np.zeros(0, np.uint64), *(chunk.flatten().to_numpy() for chunk in table["keys"].chunks)]
    return np.concatenate(flat).reshape(-1, table.schema.field("keys").type.list_size)


@dataclass
class NearestInClusters(beam.PTransform):
    """The start of a pipeline to (part, the neighbours of its users as lists); what was measured goes to scratch.

    Users go to clusters, and what was found for them back to parts, through files of scratch: no engine holds them.
    """

    inputs: ClusterInputs
    shared: Shared = field(default_factory=Shared)

    @property
    def _firsts(self) -> list[int]:
        """Where each part's users begin, read once a process."""
        inputs = self.inputs.similar
        return self.shared.acquire(lambda: _Held(inputs.firsts()), tag="firsts").value  # type: ignore[no-any-return]

    @counted
    def _draw(self, part: int) -> pa.Table:
        """Some users of a part: their numbers and vectors."""
        inputs = self.inputs
        ids, vectors = read_users(inputs.similar.embeddings, part, inputs.similar.parts, inputs.similar.encoder)
        share = max(LEARNED_FROM * inputs.clusters, 2 * QUERIES) / inputs.users
        drawn = np.flatnonzero(in_sample(ids, share, inputs.seed) & vectors.any(axis=1))
        preferences = inputs.similar.preferences(vectors[drawn])
        return pa.table({"number": drawn + self._firsts[part], "vector": vector_column(preferences)})

    @counted
    def _learn(self, _: None, drawn: Sequence[pa.Table]) -> int:
        """Write the centroids, and the users who measure; gives how many clusters there are."""
        inputs = self.inputs
        sample = pa.concat_tables(drawn).sort_by("number")
        vectors = vectors_of(sample)
        inputs.write(CENTROIDS, centroids_of(vectors, inputs.clusters, inputs.seed))
        size = min(QUERIES, len(sample))
        asked = np.sort(np.random.default_rng(inputs.seed).choice(len(sample), size, replace=False))
        inputs.write(ASKED, vectors[asked], number=np.asarray(sample["number"])[asked])
        return min(inputs.clusters, len(sample))

    @counted
    def _measure(self, part: int, clusters: int) -> pa.Table:
        """The users of a part nearest to those who measure, as keys, and their clusters."""
        inputs = self.inputs
        asked = storage.read_parquet(storage.join(inputs.scratch, ASKED))
        vectors = inputs.similar.vectors(part)
        first, own = self._firsts[part], np.asarray(asked["number"])
        ids, scores = nearest_to(vectors_of(asked), own, vectors, first, inputs.k)
        homes = np.full(ids.shape, -1, np.int32)
        near = ids[ids >= 0] - first
        homes[ids >= 0] = nearest_clusters(vectors[near], inputs.table(CENTROIDS), 1)[:, 0] if clusters else -1
        kind = pa.array(homes.ravel())
        return _keys_table(keys_of(scores, ids), home=pa.FixedSizeListArray.from_arrays(kind, ids.shape[1]))

    def _choose(self, clusters: int, tables: Sequence[pa.Table]) -> int:
        """How many clusters are searched for a user; written down with the share that they find."""
        inputs = self.inputs
        keys = np.concatenate([_keys(table) for table in tables], axis=1)
        of_parts = [table["home"].combine_chunks().flatten().to_numpy().reshape(-1, inputs.k) for table in tables]
        best = np.argsort(keys, axis=1)[:, : inputs.k]
        homes = np.take_along_axis(np.concatenate(of_parts, axis=1), best, axis=1)
        order = nearest_clusters(inputs.table(ASKED), inputs.table(CENTROIDS), MOST_PROBES)
        measured = Measured.of(order, homes, inputs.recall)
        summary = {"clusters": clusters, "queries": len(order), "probes": measured.probes, "recall": measured.recall}
        storage.write_json(summary, storage.join(inputs.scratch, MEASURED))
        return measured.probes

    @counted
    def _spread(self, part: int, probes: int) -> Iterator[str]:
        """Write a part's users to the clusters where they are searched for."""
        inputs, path = self.inputs, storage.join(self.inputs.scratch, "moved", f"{part:05d}.arrow")
        vectors, centroids = inputs.similar.vectors(part), inputs.table(CENTROIDS)
        schema = moved_schema(vectors.shape[1])
        with PartFile(path, schema, "cluster", len(centroids), numbered=True) as file:
            for start in range(0, len(vectors), _ROWS):
                block = vectors[start : start + _ROWS]
                for rank, clusters in enumerate(nearest_clusters(block, centroids, probes).T):
                    rows = np.flatnonzero(clusters >= 0)
                    numbers = pa.array((rows + start + self._firsts[part]).astype(np.int32))
                    columns = [pa.array(clusters[rows]), numbers, pa.array(np.full(len(rows), not rank))]
                    file.add(pa.Table.from_arrays([*columns, vector_column(block[rows])], schema=schema))
        if file.rows:
            yield path

    @counted
    def _search(self, cluster: int, clusters: int, paths: Sequence[str]) -> Iterator[str]:
        """Write whom a cluster found for its users, by their parts."""
        if cluster >= clusters or not paths:
            return
        rows = read_part(paths, cluster, clusters, moved_schema(self.inputs.table(CENTROIDS).shape[1]))
        if not len(rows):
            return
        numbers, k = rows["number"].to_numpy(), self.inputs.k
        keys = search_cluster(numbers, rows["home"].to_numpy(), vectors_of(rows), k)
        parts = (np.searchsorted(self._firsts, numbers, side="right") - 1).astype(np.int32)
        path = storage.join(self.inputs.scratch, "found", f"{cluster:05d}.arrow")
        with PartFile(path, _found_schema(k), "part", self.inputs.similar.parts, numbered=True) as file:
            file.add(_keys_table(keys, part=parts, number=numbers).select(_found_schema(k).names))
        yield path

    @counted
    def _merge(self, part: int, paths: Sequence[str]) -> tuple[int, TopK]:
        first, end = self._firsts[part : part + 2]
        lists = read_part(paths, part, self.inputs.similar.parts, _found_schema(self.inputs.k))
        keys = merged([lists["number"].to_numpy() - first], [_keys(lists)], end - first, self.inputs.k)
        return part, lists_of(keys)

    def expand(self, pipeline: PBegin) -> PCollection[tuple[int, TopK]]:
        n = self.inputs.similar.parts
        parts = pipeline | "Parts" >> beam.Create(range(n), reshuffle=True)
        drawn = parts | "Draw" >> beam.Map(self._draw).with_output_types(pa.Table)
        once = pipeline | "Once" >> beam.Create([None])
        clusters = AsSingleton(once | "Learn" >> beam.Map(self._learn, AsList(drawn)).with_output_types(int))
        near = parts | "Measure" >> beam.Map(self._measure, clusters).with_output_types(pa.Table)
        choose = beam.Map(lambda _, c, t: self._choose(c, t), clusters, AsList(near)).with_output_types(int)
        probes = AsSingleton(once | "Choose" >> choose)
        paths = AsList(parts | "Spread" >> beam.FlatMap(self._spread, probes).with_output_types(str))
        numbers = pipeline | "Clusters" >> beam.Create(range(self.inputs.clusters), reshuffle=True)
        lists = AsList(numbers | "Search" >> beam.FlatMap(self._search, clusters, paths).with_output_types(str))
        merge = beam.Map(self._merge, lists).with_output_types(tuple[int, Any])
        return parts | "Merge" >> merge


class _Held:
    """A holder that Beam can share."""

    def __init__(self, value: Any):
        self.value = value


def measured(inputs: ClusterInputs) -> Mapping[str, Any]:
    """What was measured: clusters, probes, queries, and the recall of neighbours."""
    summary: Mapping[str, Any] = storage.read_json(storage.join(inputs.scratch, MEASURED))
    return summary
