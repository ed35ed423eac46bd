"""The files of an index: every one is verified before NMSLIB opens it."""

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from topkin.artifacts import schemas, storage
from topkin.errors import ArtifactError
from topkin.search.hnsw.index import AnnIndex, Folding, placed
from topkin.telemetry.stderr import stderr_without

FORMAT = 3
SPACE = "cosinesimil"
_BANNER = re.compile(
    rb"^(Your CPU supports instructions|For maximum performance, you can install|pip install --no-binary).*\n?",
    re.MULTILINE,
)


@cache
def nmslib() -> Any:
    """The library, imported without its banner."""
    logging.getLogger("nmslib").setLevel(logging.ERROR)
    with stderr_without(_BANNER):
        import nmslib as library
    return library


def new_graph() -> Any:
    """A graph without points."""
    return nmslib().init(method="hnsw", space=SPACE)


def save_graph(graph: Any, folder: str, number: int) -> None:
    """Save one graph; NMSLIB writes to a local disk only."""
    with tempfile.TemporaryDirectory(prefix="topkin-index-") as local:
        graph.saveIndex(os.path.join(local, shard_files(number)[0]), save_data=True)
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


def write_places(folder: str, places: Places, encoder: str) -> None:
    """Write ``ids.parquet``."""
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
    table = pa.Table.from_arrays(columns, schema=schemas.with_encoder(schema, encoder))
    storage.write_parquet(table, storage.join(folder, "ids.parquet"))


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
    changed, or the index was made by another encoder or for another dimension.
    """
    info, rows, ids, points, vectors = read_places(folder, encoder=encoder, dim=dim)
    sizes = [shard["points"] for shard in info["shards"]]
    loaded = [_load_graph(folder, shard_files(number)[0]) for number in range(len(sizes))]
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
    names = {name for number in range(len(info["shards"])) for name in shard_files(number)}
    if names | {"ids.parquet"} != set(info["files"]):
        raise ArtifactError(f"{path} lists files that do not fit its shards: {AGAIN}")
    return info


def _load_graph(folder: str, name: str) -> Any:
    graph = new_graph()
    fs, inner = storage.filesystem(folder)
    if isinstance(fs, pafs.LocalFileSystem):
        graph.loadIndex(storage.join(inner, name), load_data=True)
        return graph
    with tempfile.TemporaryDirectory(prefix="topkin-index-") as local:
        for end in ("", ".dat"):
            local_fs = pafs.LocalFileSystem()
            source, target = storage.join(inner, name + end), os.path.join(local, name + end)
            pafs.copy_files(source, target, source_filesystem=fs, destination_filesystem=local_fs)
        graph.loadIndex(os.path.join(local, name), load_data=True)
    return graph


def shard_files(number: int) -> tuple[str, str]:
    """The names of a shard's files: the graph, and the data beside it."""
    return f"shard-{number:05d}.nmslib", f"shard-{number:05d}.nmslib.dat"


def fingerprints(folder: str) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file of an index but ``index.json``."""
    names = [n for n in storage.files(folder) if n == "ids.parquet" or n.endswith((".nmslib", ".nmslib.dat"))]
    return {name: fingerprint(storage.join(folder, name)) for name in names}


def fingerprint(path: str) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    fs, inner = storage.filesystem(path)
    return {"bytes": fs.get_file_info(inner).size, "sha256": storage.sha256(path)}


def sealed(made: Mapping[str, Any]) -> dict[str, Any]:
    """index.json with the hash of its own content, so that a changed parameter is seen too."""
    content = {k: v for k, v in made.items() if k != "sha256"}
    return {**content, "sha256": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}
