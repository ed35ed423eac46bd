"""An index of stored vectors, built shard by shard: whoever has a hand free takes one, and nobody holds all vectors.

The files are those of :func:`build.build_index`, whoever built which shard. In a folder that outlives a killed job lie

::

    plan.json, rows-00000.parquet, …   what the shards are; queries.parquet, which measure the recall
    shard-00000/<random>/              its graph, its places, what it and exact search found for the queries
    shard-00000/built.json             says which of these, if two workers built it: with it the shard is done
"""

import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage
from topkin.artifacts.embeddings import StoredItems, vector_column, vectors_of
from topkin.linalg.sort_keys import first_keys, keys_of, lists_of
from topkin.search.hnsw.build import (
    HnswSettings,
    answers,
    cut_offs,
    described,
    drawn,
    graphs_of,
    made_by,
    parameters,
    shard_rows,
    share_found,
    tried,
    unit_or_zero,
)
from topkin.search.hnsw.engines import engine_of
from topkin.search.hnsw.files import (
    IDS,
    Places,
    fingerprint,
    load_graph,
    places_table,
    save_graph,
    sealed,
    shard_files,
)
from topkin.search.hnsw.index import AnnIndex, Folding, checked, placed, points_of
from topkin.search.norm_bands import norms
from topkin.search.topk import top_k

PLAN, BUILT = "plan.json", "built.json"
EXACT = "exact"


def plan_shards(
    items: StoredItems, queries: np.ndarray, settings: HnswSettings, seed: int, folder: str, *, threads: int = 0
) -> int:
    """Choose the shards as ``build_index`` does and write them down, unless that is done; returns how many.

    items: whose vectors are read a row group at a time: of each item its length and whether it has a vector are in
    memory. queries: (n, dim) float32, users' vectors; without one that is not zero, items are asked. The other
    arguments, and what is raised, as for ``build_index``.
    """
    if storage.exists(path := storage.join(folder, PLAN)):
        return int(storage.read_json(path)["shards"])
    known, lengths = [np.zeros(0, bool)], [np.zeros(0)]
    for block in items.blocks("vector"):
        vectors = unit_or_zero(block, len(block))
        known.append((vectors != 0).any(axis=1))
        lengths.append(norms(vectors))
    rows = np.flatnonzero(np.concatenate(known)).astype(np.int32)
    long = np.concatenate(lengths)[rows]
    trial = None
    if len(queries):
        queries = checked(queries, items.dim, "queries")
        asked = drawn(queries[(queries != 0).any(axis=1)], settings, seed)
        trial = tried(lambda some: items.read("vector", rows[some]), long, asked, settings, seed, threads)
    else:
        asked = items.read("vector", drawn(rows, settings, seed))
    by_length = trial is not None and trial.pop("split")
    shards = shard_rows(long, settings, by_length)
    for number, shard in enumerate(shards):
        storage.write_parquet(pa.table({"row": rows[shard]}), _rows(folder, number))
    storage.write_parquet(pa.table({"vector": vector_column(asked)}), storage.join(folder, "queries.parquet"))
    source = "users" if len(queries) else "items"
    plan = {"shards": len(shards), "indexed": len(rows), "by_length": by_length, "trial": trial, "source": source}
    storage.write_json(plan, path)
    return len(shards)


def build_shard(items: StoredItems, settings: HnswSettings, folder: str, number: int) -> None:
    """Build a planned shard, read it back and search it, unless that is done; in memory is this shard alone."""
    if storage.exists(marker := storage.join(_folder(folder, number), BUILT)):
        return
    own = storage.join(_folder(folder, number), uuid.uuid4().hex[:8])
    engine, plan = engine_of(settings.engine), storage.read_json(storage.join(folder, PLAN))
    asked = vectors_of(storage.read_parquet(storage.join(folder, "queries.parquet")))
    rows = np.asarray(storage.read_parquet(_rows(folder, number))["row"])
    vectors, ids = items.read("vector", rows), items.ids_of(rows)
    points = points_of(vectors, [len(rows)])
    folding, by_length = Folding.of(points), plan["by_length"]
    one_each, sizes = vectors[folding.first], [len(folding.first)]
    storage.make_folder(own)
    graphs_of(one_each, sizes, settings, by_length, 1, lambda _, graph: save_graph(engine, graph, own, number))
    graph = load_graph(engine, own, number, items.dim - by_length)
    info = {**made_by(engine), "dim": items.dim, "parameters": parameters(settings), "split_by_length": by_length}
    index = AnnIndex(rows, vectors, ids, info, placed(one_each, [graph], sizes, by_length), folding)
    ks = cut_offs(len(asked), plan["indexed"])
    lists = {
        f"found@{k}": keys_of(scores, best) for k, (best, scores) in zip(ks, answers(index, asked, ks), strict=True)
    }
    if ks:
        best, scores = top_k(asked, vectors, ks[-1])
        lists[EXACT] = keys_of(scores, np.where(best < 0, np.int32(-1), rows[best]))
    table = pa.table(
        {name: pa.FixedSizeListArray.from_arrays(keys.ravel(), keys.shape[1]) for name, keys in lists.items()}
    )
    storage.write_parquet(table, storage.join(own, "found.parquet"))
    places = places_table(Places({}, rows, ids, points, vectors), items.encoder)
    storage.write_parquet(places, storage.join(own, "places.parquet"))
    files = {name: fingerprint(storage.join(own, name)) for name in shard_files(engine, number)}
    storage.write_json(
        {"folder": own.rpartition("/")[2], "items": len(rows), "points": sizes[0], "files": files}, marker
    )


def join_shards(items: StoredItems, settings: HnswSettings, folder: str, out: str) -> dict[str, Any]:
    """Put the shards that were built together in ``out`` as an index; returns index.json's content.

    The places of one shard are in memory at a time, and the lists that shards found for the queries.
    """
    plan = storage.read_json(storage.join(folder, PLAN))
    built = [storage.read_json(storage.join(_folder(folder, n), BUILT)) for n in range(plan["shards"])]
    folders = [storage.join(_folder(folder, number), shard["folder"]) for number, shard in enumerate(built)]
    storage.make_folder(out)
    for number, own in enumerate(folders):
        for name in shard_files(engine_of(settings.engine), number):
            storage.take_file(storage.join(own, name), storage.join(out, name))
    none = np.zeros(0, np.int32)
    empty = places_table(Places({}, none, items.ids_of(none), none, items.read("vector", none)), items.encoder)
    with storage.parquet_writer(storage.join(out, IDS), empty.schema) as writer:
        for group in _groups(_places(folders, [shard["points"] for shard in built]), empty):
            writer.write_table(group, row_group_size=storage.ROW_GROUP_ROWS)
    description = {
        **described(settings, items.encoder, items.dim, len(items), plan["indexed"]),
        "points": sum(shard["points"] for shard in built),
        "split_by_length": plan["by_length"],
        "trial": plan["trial"],
        "shards": [{"items": shard["items"], "points": shard["points"]} for shard in built],
        "files": {IDS: fingerprint(storage.join(out, IDS))}
        | {n: f for shard in built for n, f in shard["files"].items()},
    }
    recall = {"source": plan["source"], **_recall(folders)}
    asked = storage.read_parquet(storage.join(folder, "queries.parquet"))
    info = sealed({**description, "recall": {"queries": len(asked), **recall}})
    storage.write_json(info, storage.join(out, "index.json"))
    return info


def _recall(folders: Iterable[str]) -> dict[str, float]:
    """The share of exact search's k best that all shards together found."""
    lists: dict[str, np.ndarray] = {}
    for own in folders:
        table = storage.read_parquet(storage.join(own, "found.parquet"))
        for name in table.column_names:
            width = table.schema.field(name).type.list_size
            keys = table[name].combine_chunks().flatten().to_numpy().reshape(-1, width)
            lists[name] = first_keys(np.concatenate([lists.get(name, keys[:, :0]), keys], axis=1), width)
    recalls = {}
    for name, keys in lists.items():
        if name != EXACT:
            k = keys.shape[1]
            recalls[f"recall@{k}"] = share_found(lists_of(keys)[0], lists_of(lists[EXACT][:, :k])[0])
    return recalls


def _places(folders: Iterable[str], points: Iterable[int]) -> Iterator[pa.Table]:
    """The places of each shard, its points numbered on from those of the shards before it."""
    first = 0
    for own, count in zip(folders, points, strict=True):
        table = storage.read_parquet(storage.join(own, "places.parquet"))
        numbers = np.asarray(table["point"]) + np.int32(first)
        at = table.schema.get_field_index("point")
        yield table.set_column(at, table.schema.field(at), pa.array(numbers))
        first += count


def _groups(tables: Iterable[pa.Table], empty: pa.Table) -> Iterator[pa.Table]:
    """The same rows in tables as long as a row group, the last as long as it is; one without rows where none are."""
    rest, wrote = empty, False
    for table in tables:
        rest = pa.concat_tables([rest, table])
        while len(rest) >= storage.ROW_GROUP_ROWS:
            yield rest.slice(0, storage.ROW_GROUP_ROWS).combine_chunks()
            rest, wrote = rest.slice(storage.ROW_GROUP_ROWS), True
    if len(rest) or not wrote:
        yield rest.combine_chunks()


def _folder(folder: str, number: int) -> str:
    return storage.join(folder, f"shard-{number:05d}")


def _rows(folder: str, number: int) -> str:
    return storage.join(folder, f"rows-{number:05d}.parquet")
