"""``topkin forget``: the published version without some users, and no version with them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from topkin.artifacts import lookup, manifest, runs, stage_index, storage
from topkin.artifacts.ids import canonical, canonical_type
from topkin.config.sections import Settings
from topkin.errors import ArtifactError, InputError
from topkin.gates.gate import Gate
from topkin.gates.judge import FILE
from topkin.pipelines.engine import detached
from topkin.pipelines.engine.registry import ORDER
from topkin.pipelines.nights.report import PAGE, write_page
from topkin.privacy.forgotten import Forgotten, Id
from topkin.privacy.scan import occurrences, stands_out
from topkin.privacy.tables import USER, without_users

NAMES_USERS = "similar_users/"
"""The table whose neighbours are users."""

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Cleared:
    """What was done.

    Args:
        run: The version that is published now; None where there was none.
        asked: Users to be forgotten.
        known: Those of them that the published version knew.
        in_columns: Users whose ids are short, a word, a number or an item's too, and so were looked for in columns of
            users alone.
        removed: The names of the runs, and of other folders, that are gone.
    """

    run: runs.Run | None
    asked: int
    known: int
    in_columns: int
    removed: Sequence[str]


def read_users(path: str, kind: pa.DataType) -> list[Id]:
    """The ids in a file: a Parquet's column ``user_id``, or its only one; of another file each line.

    Args:
        path: The file.
        kind: The type of the users' ids.

    Raises:
        InputError: There are none, or some that cannot be ids of this type.
    """
    if not storage.exists(path):
        raise InputError(f"--users must name a file with the ids of the users to forget, {path} is not there")
    if path.endswith(".parquet"):
        users = _of_parquet(path, kind)
    else:
        try:
            lines = storage.read_bytes(path).decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as e:
            raise InputError(f"{path} must be text in UTF-8 with an id on each line, or Parquet: {e}") from e
        ids = [(line, lookup.as_id(line, kind)) for line in map(str.strip, lines) if line]
        if wrong := [line for line, i in ids if i is None]:
            raise InputError(
                f"{path} must hold ids as the users have them, {kind}, got {wrong[0]!r}"
                f"{f' and {len(wrong) - 1:,} more' if len(wrong) > 1 else ''}: one id a line, and no heading"
            )
        users = [i for _, i in ids if i is not None]
    if not users:
        raise InputError(f"{path} must hold the ids of the users to forget, it holds none")
    return list(dict.fromkeys(users))


def _of_parquet(path: str, kind: pa.DataType) -> list[Id]:
    table = storage.read_parquet(path)
    names = table.column_names
    column = USER if USER in names else names[0] if len(names) == 1 else None
    if column is None:
        raise InputError(f"{path} must have a column user_id, or one column alone; its columns are {', '.join(names)}")
    if canonical_type(table[column].type) != kind:
        raise InputError(
            f"column {column!r} of {path} must hold ids as the users have them, {kind}, it is {table[column].type}"
        )
    return [i for i in canonical(table[column]).unique().to_pylist() if i is not None]


def forget(root: str, ids: Sequence[Id], tell: Tell = lambda line: None) -> Cleared:
    """Publish the published version anew without some users, and remove every other run.

    Their hashes are written first: from then on no run takes them in again, and the same command after a kill ends
    what it began. What was learned stays: sums over all users, such as an item's sales and vectors, are no one's.

    Args:
        root: The output folder.
        ids: The users', of the type of the users' ids.
        tell: Called with what is done.

    Raises:
        ArtifactError: The published version is damaged, or an id was found in what was made: then it is not published.
        BusyError: A job that nobody waits for still writes tables with these users.
    """
    detached.refuse_beside_jobs(root)
    forgotten = (Forgotten.read(root) or Forgotten.none()).with_users(ids)
    forgotten.write(root)
    live = runs.published(root)
    sealed = {} if live is None else {stage: manifest.verify(folder) for stage, folder in live.folders.items()}
    run, known = live, 0
    of_items = set() if live is None else _of_items(live, ids)
    if live is not None and _names(live, ids):
        run, known = _cleared(live, sealed, forgotten, tell)
        where = occurrences(run.path, ids, of_items=of_items)
        if where:
            listed = ", ".join(f"{name} ({n:,})" for name, n in sorted(where.items())[:5])
            raise ArtifactError(
                f"{run.path} still names users that must be forgotten, and is not published: {listed}; an id in a text "
                "of items, such as a title, is changed there: then topkin run, and this command again"
            )
        runs.publish_run(run)
        tell(f"published {run.run_id}")
    stay = {stage_index.FOLDER, *([] if run is None else [run.run_id])}
    removed = [name for name in storage.folders(storage.join(root, "runs")) if name not in stay]
    for name in removed:
        storage.remove_folder(storage.join(root, "runs", name))
        tell(f"removed {name}")
    for name in storage.folders(root):  # such as back-tests
        if name != "runs" and occurrences(storage.join(root, name), ids):
            storage.remove_folder(storage.join(root, name))
            removed.append(name)
            tell(f"removed {name}")
    asked = set(ids)
    in_columns = sum(i in of_items or not stands_out(i) for i in asked)
    return Cleared(run=run, asked=len(asked), known=known, in_columns=in_columns, removed=removed)


def _of_items(run: runs.Run, ids: Sequence[Id]) -> set[Id]:
    """Those that an item of a run has too, as text."""
    own = storage.read_parquet(lookup.table_path(run, "catalogue"), ["item_id"])["item_id"].to_pylist()
    items = {*map(lookup.format_id, own)}
    return {i for i in ids if lookup.format_id(i) in items}


def _names(run: runs.Run, ids: Sequence[Id]) -> bool:
    """Whether a run names some users, or lies in part in others, which may."""
    inside = all(folder.startswith(f"{run.path}/") for folder in run.folders.values())
    return not inside or bool(occurrences(run.path, ids))


def _cleared(
    live: runs.Run, sealed: Mapping[str, Mapping[str, Any]], forgotten: Forgotten, tell: Tell
) -> tuple[runs.Run, int]:
    """A run whose stages are those of another without the users, and how many of them that knew.

    sealed: its manifests.
    """
    who = sorted(h.hex() for h in forgotten.hashes)
    keys = {s: runs.stage_key({"stage": s, "of": seal["key"], "without": who}) for s, seal in sealed.items()}
    run = runs.Run(live.root, runs.run_name(live.as_of, keys), live.as_of)
    known = sum(_named(path, forgotten) for path in _user_tables(live))
    settings = storage.read_json(storage.join(live.path, "run.json"))["settings"]
    for stage in (stage for stage in ORDER if stage in live.folders):  # the page, last, is made of the others
        folder = live.folders[stage]
        name = folder.rstrip("/").rpartition("/")[2]
        target = storage.join(run.path, name)
        storage.remove_folder(target)  # what a killed attempt left
        _copy(folder, target, forgotten)
        if storage.exists(storage.join(folder, PAGE)):  # it shows some users: others now
            gates = [Gate(**gate) for gate in storage.read_json(storage.join(target, FILE))["gates"]]
            made_with = Settings.model_validate(settings)
            write_page(target, run.folders, gates, as_of=run.as_of, run_id=run.run_id, settings=made_with)
        manifest.seal(target, stage=stage, key=keys[stage], summary=sealed[stage]["summary"])
        stage_index.note(run.root, keys[stage], f"runs/{run.run_id}/{name}")
        entry = {"key": keys[stage], "folder": f"runs/{run.run_id}/{name}", "seconds": 0.0, "reused": False}
        run = runs.record_stage(run, stage, entry, settings)
        tell(f"{stage:<10} without them")
    return run, known


def _user_tables(run: runs.Run) -> list[str]:
    folder = storage.join(run.folder("prepare"), "histories")
    return storage.parquet_files(folder) if lookup.has_users(run) else []


def _named(path: str, forgotten: Forgotten) -> int:
    return int(forgotten.among(storage.read_parquet(path, [USER])[USER]).sum())


def _copy(source: str, target: str, forgotten: Forgotten) -> None:
    for name in storage.files(source):
        if name == manifest.NAME:
            continue
        here, there = storage.join(source, name), storage.join(target, name)
        storage.make_folder(there.rpartition("/")[0])
        if name.endswith(".parquet"):
            _copy_table(here, there, forgotten, neighbours=name.startswith(NAMES_USERS))
        elif name != PAGE:
            storage.take_file(here, there)


def _copy_table(here: str, there: str, forgotten: Forgotten, *, neighbours: bool) -> None:
    """A table without the users, row group by row group; the file as it is where it names nobody."""
    fs, inner = storage.filesystem(here)
    with pq.ParquetFile(inner, filesystem=fs) as file:
        schema = file.schema_arrow
        if not {USER, "record"}.intersection(schema.names):
            storage.take_file(here, there)
            return
        with storage.parquet_writer(there, schema) as writer:
            if not file.num_row_groups:
                writer.write_table(schema.empty_table())
            for group in range(file.num_row_groups):
                table = without_users(file.read_row_group(group), forgotten, neighbours_are_users=neighbours)
                writer.write_table(table)


def of_summary(cleared: Cleared) -> Mapping[str, Any]:
    """For machines."""
    return {
        "run_id": None if cleared.run is None else cleared.run.run_id,
        "asked": cleared.asked,
        "known": cleared.known,
        "in_columns": cleared.in_columns,
        "removed": list(cleared.removed),
    }
