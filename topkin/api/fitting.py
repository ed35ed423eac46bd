"""Fitting and saving a recommender: the jobs prepare, train and embed as functions of tables in memory."""

import hashlib
import json
from dataclasses import replace
from datetime import datetime

import numpy as np
import pyarrow as pa

from topkin.api.data import FittedData
from topkin.artifacts import manifest, runs, schemas, storage
from topkin.artifacts.embeddings import ITEMS, SUMMARY, USERS, ItemEmbeddings, vector_column, zero_non_finite
from topkin.artifacts.partition import split_by_partition
from topkin.config.sections import Settings
from topkin.encoding.batching import in_batches
from topkin.errors import ConfigError
from topkin.ingest.prepare import Prepared
from topkin.interactions import Interactions, concatenate
from topkin.models.data.in_memory import InMemoryInteractions
from topkin.models.ops import device
from topkin.models.training.context import TrainingContext
from topkin.models.training.fit import fit
from topkin.models.two_tower import serialization
from topkin.models.two_tower.encoder import Encoder
from topkin.pipelines.engine import registry
from topkin.pipelines.engine.parts import with_parts
from topkin.recommend.second.chosen import BLEND, sources_trained

SAVED = "Recommender.save"
"""The key of the stages that a recommender wrote: no nightly run takes them for its own."""


@device.repeatable()
def fit_data(settings: Settings, prepared: Prepared, as_of: datetime) -> FittedData:
    """Train and embed, users in the order of the jobs' parts: equal settings and rows give the job's numbers."""
    device.set_up()
    rows = sum(n["rows"] + n.get("unnested", 0) for n in prepared.statistics["sources"].values())
    settings = with_parts(settings, rows)
    catalogue, embed = prepared.catalogue, settings.embed
    tables = _by_part(prepared.histories, settings.run.n_parts)
    parts = [Interactions.from_histories(table, catalogue["item_id"], as_of) for table in tables]
    tried = sources_trained(settings, int(prepared.statistics["events"]))
    context = replace(TrainingContext.of(settings), sources=tried)
    purchases = InMemoryInteractions("", catalogue["item_id"], as_of, parts=parts, users=tables)
    training = fit(context, purchases, catalogue)
    digest = hashlib.sha256(serialization.model_bytes(training.encoder.model)).hexdigest()
    encoder = Encoder(training.encoder.model, training.encoder.ids, digest)
    _, (vectors, in_vectors) = zero_non_finite(*encoder.encode_items(catalogue, batch_size=embed.batch_size))
    history, buyers, users_rows = concatenate(parts), np.asarray(catalogue["users"]), pa.concat_tables(tables)
    profiles = None if encoder.profiles is None else encoder.profiles.of(users_rows)

    def encode(rows: np.ndarray) -> np.ndarray:
        own, length = None if profiles is None else profiles[rows], embed.history_length
        return encoder.encode_users(history.take(rows), in_vectors, buyers, length=length, profiles=own)

    _, (users,) = zero_non_finite(in_batches(encode, history.n_users, embed.batch_size, encoder.dim))
    return FittedData(
        settings=settings,
        as_of=as_of,
        catalogue=catalogue,
        histories=users_rows.combine_chunks(),
        items=ItemEmbeddings(catalogue["item_id"].combine_chunks(), vectors, in_vectors),
        vectors=users,
        model=encoder,
        blocks=encoder.blocks,
        encoder=digest,
        training=training.to_json(),
        repurchase=training.repurchase,
        blend=training.blend,
        statistics=prepared.statistics,
        vocabularies=prepared.vocabularies,
    )


def _by_part(table: pa.Table, parts: int) -> list[pa.Table]:
    rows = split_by_partition(table, "user_id", parts)
    return [rows.get(part, table.slice(0, 0)) for part in range(parts)]


def save_data(data: FittedData, root: str) -> None:
    """Write a recommender as the stages prepare, train and embed of a run below ``root``, and point to it.

    Raises ConfigError where the folder holds anything but recommenders saved before.
    """
    _require_own(root)
    settings = data.settings.model_dump(mode="json")
    content = {SAVED: data.encoder, "settings": json.dumps(settings), "statistics": json.dumps(data.statistics)}
    run = runs.Run(root, runs.run_name(data.as_of, content), data.as_of)
    run = runs.read_if_there(root, run.run_id) or run
    for stage, write in (("prepare", _save_prepared), ("train", _save_model), ("embed", _save_embeddings)):
        if stage not in run.folders:
            place = f"runs/{run.run_id}/{registry.stage(stage).folder}"
            storage.remove_folder(storage.join(root, place))  # of a process that died
            write(data, storage.join(root, place))
            manifest.seal(storage.join(root, place), stage=stage, key=SAVED, summary={})
            run = runs.record_stage(
                run, stage, {"key": SAVED, "folder": place, "seconds": 0.0, "reused": False}, settings
            )
    runs.publish_run(run, older=True)  # what is saved is what is wanted, of whatever date


def _require_own(root: str) -> None:
    published = runs.published(root)
    if published is not None:
        sealed = manifest.read(published.folder("prepare"))
        own = sealed is not None and sealed["key"] == SAVED
    else:
        own = not storage.files(root) and not storage.folders(root)
    if not own:
        raise ConfigError(f"a recommender is saved into a folder of its own, {root} holds other files: name another")


def _save_prepared(data: FittedData, folder: str) -> None:
    parts = data.settings.run.n_parts
    storage.write_parquet(data.catalogue, storage.join(folder, "catalogue.parquet"))
    for part, table in enumerate(_by_part(data.histories, parts)):
        storage.write_parquet(table, storage.join(folder, "histories", storage.part_name(part, parts)))
    for name, words in data.vocabularies.items():
        storage.write_parquet(words, storage.join(folder, "vocabularies", f"{name}.parquet"))
    storage.write_json(data.statistics, storage.join(folder, "statistics.json"))


def _save_model(data: FittedData, folder: str) -> None:
    serialization.save(data.model, folder, {"seed": data.settings.run.seed})
    storage.write_json(data.training, storage.join(folder, "training.json"))
    storage.write_json(data.repurchase, storage.join(folder, "repurchase.json"))
    storage.write_json(data.blend, storage.join(folder, BLEND))


def _save_embeddings(data: FittedData, folder: str) -> None:
    items, dim, parts = data.items, data.model.dim, data.settings.run.n_parts
    schema = schemas.with_encoder(schemas.item_embeddings(items.ids.type, dim), data.encoder)
    columns = [items.ids, vector_column(items.vectors), vector_column(items.in_vectors)]
    table = pa.Table.from_arrays(columns, schema=schema)
    storage.write_parquet(table, storage.join(folder, ITEMS, storage.part_name(0, 1)))
    schema = schemas.with_encoder(schemas.user_embeddings(data.user_type, dim), data.encoder)
    users = pa.Table.from_arrays([data.histories["user_id"], vector_column(data.vectors)], schema=schema)
    for part, table in enumerate(_by_part(users, parts)):
        storage.write_parquet(table, storage.join(folder, USERS, storage.part_name(part, parts)))
    summary = {"encoder": data.encoder, "dim": dim, "blocks": [block.to_json() for block in data.blocks]}
    summary |= {"history_length": data.settings.embed.history_length, "users": len(users), "items": len(items.ids)}
    storage.write_json(summary, storage.join(folder, SUMMARY))
