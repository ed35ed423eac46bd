"""Tables of Delta Lake, Iceberg and Hudi: a folder whose log says which of its files are rows, and which are dead."""

import posixpath
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa

from topkin.errors import InputError
from topkin.ingest.folders.file import Constants, File, Files, FolderFiles
from topkin.ingest.folders.hive import is_key
from topkin.ingest.folders.listing import is_hidden

LEVELS = 4  # folders above a path that are asked for a log


class LakeTable(NamedTuple):
    """A table of a lake: its format's name, its folder, the newest file of its log."""

    kind: str
    root: str
    log: str


class LiveFiles(NamedTuple):
    """The files that are a table's rows, and its columns: one that a file lacks is null in it."""

    files: list[File]
    schema: pa.Schema


def _kind(parts: list[str]) -> tuple[str, int] | None:
    """The format and the place of the log's folder, where a file's path lies in one."""
    for at, part in enumerate(parts[:-1]):
        if part == "_delta_log" and parts[-1].endswith((".json", ".parquet")):
            return "Delta Lake", at
        if part == ".hoodie":
            return "Hudi", at
        if part == "metadata" and parts[-1].endswith(".metadata.json"):
            return "Iceberg", at
    return None


def _age(path: str) -> tuple[int, str]:
    """A key that sorts the files of a log by their version: ``v9`` before ``v10``."""
    number = re.search(r"[0-9]+", posixpath.basename(path))
    return int(number.group()) if number else -1, path


def _in(paths: list[str], root: str = "") -> LakeTable | None:
    """The first table whose log is among paths, hidden folders below ``root`` left out."""
    depth = len(root.split("/")) if root else None
    tables: dict[tuple[str, str], str] = {}
    for path in sorted(paths, key=_age):
        parts = path.split("/")
        if (kind := _kind(parts)) and not (depth and is_hidden(parts[depth : kind[1]])):
            tables[kind[0], "/".join(parts[: kind[1]])] = path
    first = min(tables, key=lambda t: (len(t[1]), t), default=None)
    return None if first is None else LakeTable(*first, tables[first])


def table_at(path: str, listed: FolderFiles, files: Files) -> LakeTable | None:
    """The table that a path is, lies in or has below it; None for files that no log speaks of."""
    if below := _in([f.path for f in listed.files], listed.root):
        return below
    folders = {posixpath.dirname(listed.root) if listed.is_file and "://" in path else listed.root} | {
        posixpath.dirname(f.path) for f in listed.files if "*" in path or listed.is_file
    }
    asked: set[str] = set()
    for folder in sorted(folders):
        for above in _and_above(folder):
            if above in asked:
                break
            asked.add(above)
            for log in ("_delta_log", ".hoodie", "metadata"):
                if table := _in(_names(posixpath.join(above, log), files)):
                    return table
    return None


def _names(folder: str, files: Files) -> list[str]:
    try:
        return [f.path for f in files.find(folder if "://" not in folder else f"{folder}/").files]
    except OSError:  # a folder above that may not be listed says nothing
        return []


def _and_above(folder: str) -> Iterator[str]:
    """A folder and those above it: as many as its keys, and some more."""
    levels = LEVELS
    while levels:
        yield folder
        levels -= not is_key(posixpath.basename(folder))
        above = posixpath.dirname(folder)
        if above in (folder, "") or ("://" in folder and "://" not in above):
            return
        folder = above


def live_files(key: str, path: str, table: LakeTable) -> LiveFiles:
    """The files of a table at ``path`` by its log.

    Raises InputError where the path is a part of the table, its format is not read, or its rows are not those of
    its files: a table of Delta Lake with deletion vectors or mapped columns.
    """
    is_path = posixpath.normpath(table.root) == posixpath.normpath(path)
    if not is_path:
        raise InputError(
            f"{key}: {path} {'holds' if table.root.startswith(path) else 'lies in'} a table of {table.kind}, "
            f"{table.root}, whose log says which files are its rows: "
            + ("give that folder as the path" if table.kind == "Delta Lake" else _export(table))
        )
    problem = f"{key}: {path} is a table of {table.kind}, whose log says which of its files are rows"
    if table.kind != "Delta Lake":
        raise InputError(
            f"{problem}: topkin does not read it; {_export(table)}, and give {table.root}.parquet in its place"
        )
    try:
        import deltalake
    except ImportError as e:
        raise InputError(f"{problem}: pip install 'topkin[delta]' to have it read, or {_export(table)}") from e
    try:
        return _delta(deltalake.DeltaTable(table.root), table, problem)
    except (deltalake.exceptions.DeltaError, OSError, ValueError) as e:
        words = " ".join(str(e).split())
        raise InputError(f"{problem}, and that log cannot be read ({words}): write the table again") from e


def _delta(delta: "deltalake.DeltaTable", table: LakeTable, problem: str) -> LiveFiles:  # type: ignore[name-defined]  # noqa: F821
    if delta.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        raise InputError(
            f"{problem}, and its columns have other names in the files (column mapping): {_by_spark(table)}"
        )
    if _has_deletion_vectors(delta):
        raise InputError(
            f"{problem}, and rows of live files are deleted (deletion vectors): run REORG TABLE … APPLY (PURGE), or "
            f"{_by_spark(table)}"
        )
    adds = pa.table(delta.get_add_actions(flatten=True))
    keys = [c for c in adds.column_names if c.startswith("partition.")]

    def constants(row: int) -> Constants:
        return tuple((k.removeprefix("partition."), adds[k][row]) for k in keys)

    entries = zip(*(adds[c].to_pylist() for c in ("path", "size_bytes", "modification_time")), strict=True)
    files = [
        File(
            unquote(path) if "://" in path or path.startswith("/") else posixpath.join(table.root, unquote(path)),
            size,
            modified / 1000,
            constants=constants(row),
        )
        for row, (path, size, modified) in enumerate(entries)
    ]
    return LiveFiles(sorted(files, key=lambda f: f.path), pa.schema(delta.schema().to_arrow()))


def _has_deletion_vectors(delta: "deltalake.DeltaTable") -> bool:  # type: ignore[name-defined]  # noqa: F821
    import deltalake

    if "deletionVectors" not in (delta.protocol().reader_features or ()):
        return False
    try:
        return bool(pa.table(delta.deletion_vectors()).num_rows)
    except deltalake.exceptions.DeltaError:  # there is one that cannot be read
        return True


def _by_spark(table: LakeTable) -> str:
    name = table.kind.partition(" ")[0].lower()
    out = f"{table.root}.parquet"
    return f'export it with Spark: spark.read.format("{name}").load({table.root!r}).write.parquet({out!r})'


def _export(table: LakeTable) -> str:
    """What writes the live rows of a table as plain Parquet."""
    if table.kind == "Hudi":
        return _by_spark(table)
    out = f"{table.root}.parquet"
    needs, read = {
        "Delta Lake": (
            "deltalake",
            # not to_pyarrow_table: it reads Python files in threads that may outlive Python, which then aborts
            f"from deltalake import DeltaTable as T, QueryBuilder as Q; import pyarrow as a; "
            f"t = a.table(Q().register('t', T({table.root!r})).execute('select * from t').read_all())",
        ),
        "Iceberg": (
            "'pyiceberg[pyarrow]'",
            f"from pyiceberg.table import StaticTable as T; t = T.from_metadata({table.log!r}).scan().to_arrow()",
        ),
    }[table.kind]
    return (
        f'export it: pip install {needs} && python -c "{read}; import pyarrow.parquet as p; p.write_table(t, {out!r})"'
    )
