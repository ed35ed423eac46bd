"""The items' own vectors in a run over purchases, by a trained Keras model: ``[encoder]`` beside ``[purchases]``.

The model runs over the items' table as ``topkin embed --encoder`` does; what it makes is what a column of vectors
(``items.vector``) would be: content of the items, for every block that reads content.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import ITEMS, REJECTS, vector_column, vectors_of
from topkin.config.encoder_run import EncoderRunSettings
from topkin.config.sections import Settings
from topkin.errors import TopkinError
from topkin.pipelines.encode.table import Bound, bound, embed_table
from topkin.pipelines.engine.job import Job

CATALOGUE = "catalogue.parquet"
REJECTED = "vector_rejects"
"""In the folder of ``prepare``: the items' rows that the model cannot take. Their items are listed without a vector."""


def encoder_run(settings: Settings) -> EncoderRunSettings | None:
    """What the model needs of the settings of a run; None where it has no ``[encoder]``."""
    if settings.encoder is None or settings.items is None:
        return None
    return EncoderRunSettings(encoder=settings.encoder, items=settings.items, embed=settings.embed)


def faults(settings: Settings) -> list[TopkinError]:
    """What of the model and the items' table does not fit, not raised."""
    try:
        _bound(settings)
    except TopkinError as e:
        return [e]
    return []


def vector_dim(settings: Settings) -> int | None:
    """Coordinates of the model's vectors; None where there is no model. Raises TopkinError as ``embed_table``."""
    made = _bound(settings)
    return None if made is None else made.signature.dim


def _bound(settings: Settings) -> Bound | None:
    run = encoder_run(settings)
    return None if run is None else bound(run, ITEMS)


def add_vectors(job: Job[Settings], statistics: dict[str, Any]) -> list[str]:
    """Put the model's vectors into the catalogue that ``job.out`` holds; returns what is to be told of them.

    Their length is put into ``statistics``, and these are written again.

    An item of several rows takes the vector of the row that ``items.duplicates`` names, an item without one zeros.
    """
    run = encoder_run(job.settings)
    if run is None:
        return []
    folder = storage.join(job.scratch, "own_vectors")
    made = embed_table(run, folder, force=True, beam=job.beam)
    path = storage.join(job.out, CATALOGUE)
    catalogue, vectors = storage.read_parquet(path), storage.read_parts(storage.join(folder, ITEMS))
    assert run.items is not None
    with_vectors = joined(catalogue, vectors, last=run.items.duplicates == "last")
    storage.write_parquet(with_vectors, path)
    statistics["vector_dim"] = made.dim
    storage.write_json(statistics, storage.join(job.out, "statistics.json"))
    if made.rejects:
        storage.copy_folder(storage.join(folder, REJECTS[ITEMS]), storage.join(job.out, REJECTED), last="")
    storage.remove_folder(folder)
    given = int(vectors_of(with_vectors).any(axis=1).sum())
    note = f"{given:,} of {len(catalogue):,} items have a vector of {made.dim} numbers by {run.encoder.path}"
    why = ", ".join(f"{reason} {rows:,}" for reason, rows in made.rejects.items())
    return [f"{note}; rows that it cannot take: {why} ({REJECTED}/)" if why else note]


def joined(catalogue: pa.Table, vectors: pa.Table, *, last: bool) -> pa.Table:
    """The catalogue with a column ``vector``, where ``schemas.catalogue`` has it.

    Args:
        catalogue: ``schemas.catalogue`` without vectors, (n_items,) rows.
        vectors: item_id and vector, an id once or several times.
        last: Which of several counts: the last, or the first.
    """
    ids = vectors["item_id"].cast(catalogue.schema.field("item_id").type).combine_chunks()
    ids, rows = (ids[::-1], vectors_of(vectors)[::-1]) if last else (ids, vectors_of(vectors))
    at = pc.fill_null(pc.index_in(catalogue["item_id"], value_set=ids), len(rows))
    found = vector_column(np.pad(rows, ((0, 1), (0, 0)))[np.asarray(at)])
    features = catalogue.schema.field("features").type if "features" in catalogue.column_names else None
    schema = schemas.catalogue(catalogue.schema.field("item_id").type, vectors["vector"].type.list_size, features)
    return pa.table({f.name: found if f.name == "vector" else catalogue[f.name] for f in schema}, schema=schema)
