"""The files of an index: every one is verified before NMSLIB opens it."""

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from functools import cache
from typing import Any

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
        graph.saveIndex(os.path.join(local, f"shard-{number:05d}.nmslib"), save_data=True)
        fs, inner = storage.filesystem(folder)
        pafs.copy_files(local, inner, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=fs)


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
        got = fingerprint(path)
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
    folding = Folding.of(np.asarray(table["point"]))
    points = [shard["points"] for shard in info["shards"]]
    graphs = placed(vectors[folding.first], loaded, points, info["split_by_length"])
    ids = table["item_id"].combine_chunks()
    return AnnIndex(rows, vectors, ids if isinstance(ids, pa.Array) else pa.array([], ids.type), info, graphs, folding)


def _verified_info(folder: str) -> dict[str, Any]:
    path = storage.join(folder, "index.json")
    info = storage.read_json(path)
    if not isinstance(info, dict) or info.get("format") != FORMAT or sealed(info) != info:
        raise ArtifactError(
            f"{path} is damaged, or of a format other than {FORMAT}: run topkin index again with --force"
        )
    names = {f"shard-{n:05d}.nmslib{end}" for n in range(len(info["shards"])) for end in ("", ".dat")}
    if names | {"ids.parquet"} != set(info["files"]):
        raise ArtifactError(f"{path} lists files that do not fit its shards: run topkin index again with --force")
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
