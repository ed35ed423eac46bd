"""The files of an index: every one is verified before NMSLIB opens it."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from topkin.artifacts import schemas, storage
from topkin.errors import ArtifactError
from topkin.search.hnsw.engines import DEFAULT, ENGINES, GraphEngine, engine_of
from topkin.search.hnsw.index import AnnIndex, Folding, placed

FORMAT = 3


def save_graph(engine: GraphEngine, graph: object, folder: str, number: int) -> None:
    """Save one graph; libraries write to a local disk only."""
    with tempfile.TemporaryDirectory(prefix="topkin-index-") as local:
        engine.save(graph, os.path.join(local, shard_files(engine, number)[0]))
        fs, inner = storage.filesystem(folder)
        pafs.copy_files(local, inner, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=fs)


AGAIN = "run topkin index again with --force"


class Places(NamedTuple):
    """What an index holds beside its graphs, shard after shard, point by point of equal vectors.

    info: index.json's content. rows: (n_places,) int32, the catalogue row of each item, -1 for a tombstone: an item
    that is gone, or has another vector since. item_ids: theirs. points: (n_places,) int32, of the graphs. vectors:
    (n_places, dim) float32.
    """

    info: dict[str, Any]
    rows: np.ndarray
    item_ids: pa.Array
    points: np.ndarray
    vectors: np.ndarray


IDS = "ids.parquet"


def write_places(folder: str, places: Places, encoder: str) -> None:
    """Write ``ids.parquet``."""
    storage.write_parquet(places_table(places, encoder), storage.join(folder, IDS))


def places_table(places: Places, encoder: str) -> pa.Table:
    """What ``ids.parquet`` holds of places."""
    dim = places.vectors.shape[1]
    schema = pa.schema(
        [
            pa.field("row", pa.int32(), False),
            pa.field("item_id", places.item_ids.type, False),
            pa.field("point", pa.int32(), False),
            pa.field("vector", schemas.vector(dim), False),
        ]
    )
    flat = pa.FixedSizeListArray.from_arrays(pa.array(places.vectors.reshape(-1)), dim)
    columns = [pa.array(places.rows), places.item_ids, pa.array(places.points), flat]
    return pa.Table.from_arrays(columns, schema=schemas.with_encoder(schema, encoder))


def read_places(folder: str, *, encoder: str | None = None, dim: int | None = None) -> Places:
    """What an index holds beside its graphs, every file verified, those of the graphs among them.

    encoder, dim: what the caller's vectors have. Raises ArtifactError as :func:`load_index`.
    """
    info = _verified_info(folder)
    if encoder is not None and info["encoder"] != encoder:
        raise ArtifactError(
            f"{folder} was made by encoder {info['encoder'][:12]}…, the vectors by {encoder[:12]}…: one run needs one "
            f"encoder; {AGAIN}"
        )
    if dim is not None and info["dim"] != dim:
        raise ArtifactError(f"{folder} is for vectors of {info['dim']} coordinates, got {dim}: {AGAIN}")
    for name, want in sorted(info["files"].items()):
        path = storage.join(folder, name)
        if not storage.exists(path):
            raise ArtifactError(f"{path} is missing: {AGAIN}")
        got = fingerprint(path)
        if got != want:
            raise ArtifactError(
                f"{path} is damaged ({want['bytes']} bytes of sha256 {want['sha256'][:12]}… expected, "
                f"got {got['bytes']} of {got['sha256'][:12]}…): {AGAIN}"
            )
    table = storage.read_parquet(storage.join(folder, "ids.parquet")).combine_chunks()
    kind = table.schema.field("vector").type
    if schemas.encoder_of(table.schema) != info["encoder"] or kind != schemas.vector(info["dim"]):
        raise ArtifactError(f"{folder}/ids.parquet and index.json tell of another encoder or dimension: {AGAIN}")
    sizes = [shard["items"] for shard in info["shards"]]
    rows = np.asarray(table["row"]).astype(np.int32, copy=False)
    indexed, gone = np.count_nonzero(rows >= 0), info.get("tombstones", 0)
    if indexed != info["indexed"] or len(table) != info["indexed"] + gone or sum(sizes) != len(table):
        raise ArtifactError(
            f"{folder} lists {indexed} ids, and {len(table) - indexed} that are gone, for {info['indexed']} indexed "
            f"items and {gone} gone in shards of {sum(sizes)}: {AGAIN}"
        )
    flat = np.asarray(table["vector"].combine_chunks().flatten()) if len(table) else np.zeros(0, np.float32)
    vectors = flat.astype(np.float32, copy=False).reshape(len(table), info["dim"])
    ids = table["item_id"].combine_chunks()
    ids = ids if isinstance(ids, pa.Array) else pa.array([], ids.type)
    return Places(info, rows, ids, np.asarray(table["point"]), vectors)


def load_index(folder: str, *, encoder: str | None = None, dim: int | None = None) -> AnnIndex:
    """Load an index; every file is verified before NMSLIB opens one.

    encoder, dim: what the caller's vectors have. Raises ArtifactError where a file is missing, cut off or
    changed, or the index was made by another encoder or for another dimension; ConfigError, with what installs it,
    where the library that made it is not there.
    """
    info, rows, ids, points, vectors = read_places(folder, encoder=encoder, dim=dim)
    sizes = [shard["points"] for shard in info["shards"]]
    engine = engine_of(info.get("engine", DEFAULT))
    inside = info["dim"] - info["split_by_length"]  # of what is split the graphs have no last coordinate
    loaded = [load_graph(engine, folder, number, inside) for number in range(len(sizes))]
    graphs = placed(vectors[Folding.of(points).first], loaded, sizes, info["split_by_length"])
    here = rows >= 0
    if not here.all():
        rows, points, vectors, ids = rows[here], points[here], vectors[here], ids.filter(pa.array(here))
    return AnnIndex(rows, vectors, ids, info, graphs, Folding.of(points, sum(sizes)))


def _verified_info(folder: str) -> dict[str, Any]:
    path = storage.join(folder, "index.json")
    info = storage.read_json(path)
    if not isinstance(info, dict) or info.get("format") != FORMAT or sealed(info) != info:
        raise ArtifactError(f"{path} is damaged, or of a format other than {FORMAT}: {AGAIN}")
    if info.get("engine", DEFAULT) not in ENGINES:
        raise ArtifactError(f"{path} names an engine that this version of topkin has not, {info['engine']!r}: {AGAIN}")
    engine = ENGINES[info.get("engine", DEFAULT)]
    names = {name for number in range(len(info["shards"])) for name in shard_files(engine, number)}
    if names | {"ids.parquet"} != set(info["files"]):
        raise ArtifactError(f"{path} lists files that do not fit its shards: {AGAIN}")
    return info


def load_graph(engine: GraphEngine, folder: str, number: int, dim: int) -> Any:
    """The graph of a shard whose files' bytes were verified. dim: of the graph's own points."""
    fs, inner = storage.filesystem(folder)
    names = shard_files(engine, number)
    if isinstance(fs, pafs.LocalFileSystem):
        return engine.load(storage.join(inner, names[0]), dim)
    with tempfile.TemporaryDirectory(prefix="topkin-index-") as local:
        for name in names:
            local_fs = pafs.LocalFileSystem()
            source, target = storage.join(inner, name), os.path.join(local, name)
            pafs.copy_files(source, target, source_filesystem=fs, destination_filesystem=local_fs)
        return engine.load(os.path.join(local, names[0]), dim)


def shard_files(engine: GraphEngine, number: int) -> tuple[str, ...]:
    """The names of a shard's files; of NMSLIB the graph, and the data beside it."""
    return tuple(f"shard-{number:05d}{suffix}" for suffix in engine.suffixes)


def fingerprints(folder: str) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file of an index but ``index.json``."""
    names = [n for n in storage.files(folder) if n == "ids.parquet" or n.startswith("shard-")]
    return {name: fingerprint(storage.join(folder, name)) for name in names}


def fingerprint(path: str) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    fs, inner = storage.filesystem(path)
    return {"bytes": fs.get_file_info(inner).size, "sha256": storage.sha256(path)}


def sealed(description: Mapping[str, Any]) -> dict[str, Any]:
    """index.json with the hash of its own content, so that a changed parameter is seen too."""
    content = {k: v for k, v in description.items() if k != "sha256"}
    return {**content, "sha256": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}
