"""The tables of a run as a stream of batches, found in the stages' folders whatever they are called."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from topkin.artifacts import manifest, sealing, storage
from topkin.artifacts.runs import Run
from topkin.errors import ArtifactError, ConfigError, nearest_name

STAGES = ("recommend", "similar", "embed", "prepare")
PUBLISHED = ("recommend", "similar")
"""The stages whose tables are exported where none is named."""
_NAMES = {("embed", "items"): "item_embeddings", ("embed", "users"): "user_embeddings"}
_PART = re.compile(r"(?:/?date=[^/]+)?/part-\d+-of-\d+\.parquet$")
ROWS = 8192


@dataclass(frozen=True)
class ExportTable:
    """A table of a run.

    name: in the target. version: the run's id, and a hash of the table's files. paths: its files, in their order; not
    folder: it is one file, not a table of many parts.
    """

    name: str
    version: str
    paths: tuple[str, ...]
    stage: str
    folder: bool

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns, without metadata."""
        with storage.open_parquet(self.paths[0]) as file:
            return file.schema_arrow.remove_metadata()

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that are a row's own: the first, and ``rank`` where there is one."""
        return (self.schema.names[0], *(["rank"] if "rank" in self.schema.names else []))

    @property
    def vectors(self) -> dict[str, int]:
        """The columns of vectors, and how long these are."""
        return {f.name: f.type.list_size for f in self.schema if pa.types.is_fixed_size_list(f.type)}

    def batches(self, size: int = ROWS) -> Iterator[pa.RecordBatch]:
        """The rows, file after file, so many at a time; every page is verified."""
        for path in self.paths:
            with storage.open_parquet(path) as file:
                for batch in file.iter_batches(batch_size=size):
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=self.schema)


def tables_of(run: Run) -> dict[str, ExportTable]:
    """All tables of a run by name. Raises ArtifactError where a stage's folder is another's, or lacks a file."""
    tables: dict[str, ExportTable] = {}
    for stage in STAGES:
        if stage not in run.folders:
            continue
        folder = run.folder(stage)
        listed = (manifest.read(folder) or {"files": {}})["files"]
        groups: dict[str, list[str]] = {}
        there = storage.files(folder)
        if gone := sorted(n for n in {*listed} - {*there} if n.endswith(".parquet")):  # a part of a table is none
            raise ArtifactError(f"{storage.join(folder, gone[0])} is missing: run topkin {stage} again with --force")
        for path in there:
            if path.endswith(".parquet"):
                groups.setdefault(_PART.sub("", path), []).append(path)
        for place, names in groups.items():
            name = _NAMES.get((stage, place), place.removesuffix(".parquet").replace("/", "_"))
            hashes = [
                (n, listed[n]["sha256"] if n in listed else storage.sha256(storage.join(folder, n))) for n in names
            ]
            paths = tuple(storage.join(folder, n) for n in names)
            version = f"{run.run_id}.{sealing.digest(hashes)[:8]}"
            name = name if name not in tables else f"{stage}_{name}"
            tables[name] = ExportTable(name, version, paths, stage, folder=not place.endswith(".parquet"))
    return tables


def chosen(run: Run, names: Sequence[str] = ()) -> list[ExportTable]:
    """The tables named, or those of lists and neighbours. Raises ConfigError for one that the run has not."""
    tables = tables_of(run)
    for name in names:
        if name not in tables:
            near = nearest_name(name, tables)
            hint = f", did you mean {near}?" if near else ""
            if "," in name:
                hint = f": name each by itself, {' '.join(f'--table {part.strip()}' for part in name.split(','))}"
            raise ConfigError(f"run {run.run_id} has no table {name!r}{hint}; it has {', '.join(sorted(tables))}")
    selected = [tables[n] for n in dict.fromkeys(names)] or [
        t for t in tables.values() if t.stage in PUBLISHED and t.folder
    ]
    if not selected:
        raise ArtifactError(f"run {run.run_id} has no lists yet: topkin run makes them")
    return selected
