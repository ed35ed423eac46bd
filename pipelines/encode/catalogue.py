"""The items' own vectors by a trained Keras model, ``[encoder]``, and without purchases the users' too.

The model runs over the table as ``topkin embed --encoder`` does; what it makes is what a column of vectors
(``items.vector``, ``users.vector``) would be: beside purchases, content of the items for every block that reads it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import ITEMS, REJECTS, USERS, vector_column, vectors_of
from topkin.artifacts.shuffle import PartFile, read_part
from topkin.config.encoder_run import EncoderRunSettings
from topkin.config.sections import ItemsSettings, Settings, UsersSettings
from topkin.errors import InputError, TopkinError
from topkin.ingest.prepare import PreparePlan
from topkin.pipelines.encode.table import TableVectors, bound, embed_table
from topkin.pipelines.engine.job import Job

CATALOGUE = "catalogue.parquet"
REJECTED = {ITEMS: "vector_rejects", USERS: "user_vector_rejects"}
"""In the folder of ``prepare``: the rows that the model cannot take. They are items and users without a vector."""


def encoded_tables(settings: Settings) -> dict[str, ItemsSettings | UsersSettings]:
    """The tables that the model of ``[encoder]`` gives vectors, by side; none where there is no model."""
    tables = {ITEMS: settings.items, USERS: None if settings.has_purchases else settings.users}
    encoded = {side: table for side, table in tables.items() if table is not None and table.vector is None}
    return encoded if settings.encoder is not None else {}


def encoder_run(settings: Settings) -> EncoderRunSettings:
    """What the model needs of the settings of a run that has ``[encoder]``."""
    assert settings.encoder is not None
    users = None if settings.has_purchases else settings.users
    return EncoderRunSettings(encoder=settings.encoder, items=settings.items, users=users, embed=settings.embed)


def faults(settings: Settings, plan: PreparePlan | None) -> list[TopkinError]:
    """What of the model and the tables does not fit, not raised."""
    try:
        dims = _dims(settings)
    except TopkinError as e:
        return [e]
    given = {} if plan is None else {ITEMS: plan.vector_dim, USERS: plan.user_dim}
    every = {side: dim for side, dim in {**given, **dims}.items() if dim is not None}
    if len(set(every.values())) > 1:
        text = " and ".join(f"{side} have {dim}" for side, dim in every.items())
        return [
            InputError(
                f"vectors of users and items must have one length, to have a cosine: {text} numbers: take "
                "encoder.path and the column of vectors from one model"
            )
        ]
    return []


def vector_dim(settings: Settings) -> int | None:
    """Coordinates of the model's vectors of items; None where there is no model. Raises TopkinError as ``bound``."""
    return _dims(settings).get(ITEMS)


def _dims(settings: Settings) -> dict[str, int]:
    return {side: bound(encoder_run(settings), side).signature.dim for side in encoded_tables(settings)}


def add_vectors(job: Job[Settings], plan: PreparePlan, statistics: dict[str, Any]) -> list[str]:
    """Put the model's vectors into the catalogue, and the histories, of ``job.out``; returns what is to be told.

    Their length is put into ``statistics``, and these are written again.

    An item of several rows takes the vector of the row that ``items.duplicates`` names, an item without one zeros.
    """
    tables, folder, notes = encoded_tables(job.settings), storage.join(job.scratch, "own_vectors"), []
    if wrong := faults(job.settings, plan) if len(tables) == 1 and not job.settings.has_purchases else []:
        raise wrong[0]
    for side, table in tables.items():
        vectors = embed_table(encoder_run(job.settings), folder, side=side, force=True, beam=job.beam)
        put = _put_items if side == ITEMS else _put_users
        given, rows = put(job, storage.join(folder, side), last=table.duplicates == "last")
        if vectors.rejects:
            storage.copy_folder(storage.join(folder, REJECTS[side]), storage.join(job.out, REJECTED[side]), last="")
        statistics["vector_dim"] = vectors.dim
        notes.append(_line(vectors, given, rows, encoder_run(job.settings).encoder.path))
    if tables:
        storage.write_json(statistics, storage.join(job.out, "statistics.json"))
        storage.remove_folder(folder)
    return notes


def _line(vectors: TableVectors, given: int, rows: int, path: str) -> str:
    note = f"{given:,} of {rows:,} {vectors.side} have a vector of {vectors.dim} numbers by {path}"
    why = ", ".join(f"{reason} {n:,}" for reason, n in vectors.rejects.items())
    return f"{note}; rows that it cannot take: {why} ({REJECTED[vectors.side]}/)" if why else note


def _put_items(job: Job[Settings], folder: str, *, last: bool) -> tuple[int, int]:
    """The vectors of a folder into the catalogue; how many items have one, of how many."""
    path = storage.join(job.out, CATALOGUE)
    catalogue = joined(storage.read_parquet(path), storage.read_parts(folder), last=last)
    storage.write_parquet(catalogue, path)
    return int(vectors_of(catalogue).any(axis=1).sum()), len(catalogue)


def _put_users(job: Job[Settings], folder: str, *, last: bool) -> tuple[int, int]:
    """Likewise into the histories: each file of vectors is read once, and its rows go to their parts by files."""
    parts, given, rows = job.settings.run.n_parts, 0, 0
    name = partial(storage.part_name, parts=parts)
    paths = [storage.join(job.out, "histories", name(part)) for part in range(parts)]
    with storage.open_parquet(paths[0]) as file:
        kind = file.schema_arrow.field("user_id").type
    sent, schema = by_part(storage.parquet_files(folder), storage.join(folder, "by_part"), kind, parts)
    for part, path in enumerate(paths):
        histories, own = storage.read_parquet(path), read_part(sent, part, parts, schema)
        joined_table = histories.append_column("vector", vectors_for(histories["user_id"], own, last=last))
        storage.write_parquet(joined_table, path)
        given, rows = given + int(vectors_of(joined_table).any(axis=1).sum()), rows + len(joined_table)
    return given, rows


def by_part(files: Sequence[str], folder: str, kind: pa.DataType, parts: int) -> tuple[list[str], pa.Schema]:
    """Vectors by the partition of their ids, in files for ``shuffle.read_part``: one for each, of the same rows.

    Args:
        files: Of ids and vectors, a row group of which is in memory at a time.
        folder: Where the files go.
        kind: Of the ids in the histories.
        parts: Of these.

    Returns:
        Their paths, in the order of ``files`` when sorted, and their schema: user_id and vector.
    """
    sent: list[str] = []
    with storage.open_parquet(files[0]) as file:
        schema = pa.schema([pa.field("user_id", kind), file.schema_arrow.field("vector")])
    for number, path in enumerate(files):
        own = PartFile(storage.join(folder, f"{number:06d}.arrow"), schema, "user_id", parts)
        with storage.open_parquet(path) as file, own:
            for batch in range(file.num_row_groups):
                table = file.read_row_group(batch)
                own.add(pa.table([table.column(0).cast(kind), table["vector"]], schema=schema))
        sent += own.sent()
    return sent, schema


def vectors_for(keys: pa.ChunkedArray, vectors: pa.Table, *, last: bool) -> pa.Array:
    """The vector of each id, zeros where it has none.

    Args:
        keys: Distinct ids, (n,).
        vectors: Ids and, in a column ``vector``, vectors; an id once or several times.
        last: Which of several counts: the last, or the first.
    """
    ids = vectors.column(0).cast(keys.type).combine_chunks()
    ids, rows = (ids[::-1], vectors_of(vectors)[::-1]) if last else (ids, vectors_of(vectors))
    at = pc.fill_null(pc.index_in(keys, value_set=ids), len(rows))
    return vector_column(np.pad(rows, ((0, 1), (0, 0)))[np.asarray(at)])


def joined(catalogue: pa.Table, vectors: pa.Table, *, last: bool) -> pa.Table:
    """The catalogue with a column ``vector``, where ``schemas.catalogue`` has it.

    catalogue: ``schemas.catalogue`` without vectors, (n_items,) rows. The rest is as of :func:`vectors_for`.
    """
    column = vectors_for(catalogue["item_id"], vectors, last=last)
    features = catalogue.schema.field("features").type if "features" in catalogue.column_names else None
    schema = schemas.catalogue(catalogue.schema.field("item_id").type, vectors["vector"].type.list_size, features)
    return pa.table({f.name: column if f.name == "vector" else catalogue[f.name] for f in schema}, schema=schema)
