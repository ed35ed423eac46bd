"""Fitting and saving a recommender: the jobs prepare, train and embed as functions of tables in memory."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from topkin.api.data import FittedData
from topkin.artifacts import manifest, runs, schemas, storage
from topkin.artifacts.embeddings import ITEMS, SUMMARY, USERS, ItemEmbeddings, set_aside, vector_column
from topkin.artifacts.partition import partition_of
from topkin.config.sections import Settings
from topkin.encoding.batching import in_batches
from topkin.errors import ConfigError
from topkin.ingest.prepare import Prepared
from topkin.interactions import Interactions
from topkin.models.data.histories import PreparedHistories
from topkin.models.ops import device
from topkin.models.training import fit
from topkin.models.training.trainer import Plan
from topkin.models.two_tower import serialization
from topkin.models.two_tower.encoder import Encoder

SAVED = "Recommender.save"
"""The key of the stages that a recommender wrote: no nightly run takes them for its own."""


@dataclass(frozen=True)
class HistoriesInMemory(PreparedHistories):
    """Histories part by part, out of tables and not of files."""

    tables: Sequence[pa.Table] = ()

    def names(self) -> list[str]:
        """The parts by number."""
        return [f"{number:05d}" for number in range(len(self.tables))]

    def part(self, name: str) -> Interactions:
        """One part, the last ``days`` included."""
        return Interactions.from_histories(self.tables[int(name)], self.item_ids, self.as_of)

    def users(self, name: str) -> pa.ChunkedArray:
        """The ids of the users of one part."""
        return self.tables[int(name)]["user_id"]


def fit_data(settings: Settings, prepared: Prepared, as_of: datetime) -> FittedData:
    """Train and embed, users in the order of the jobs' parts: equal settings and rows give the job's numbers."""
    device.set_up(deterministic=True)
    parts = settings.run.parts
    catalogue, histories = prepared.catalogue, _by_part(prepared.histories, parts)
    tables = _parts_of(histories, parts)
    plan = Plan(seed=settings.run.seed, recent_days=settings.prepare.recent_days, **settings.train.model_dump())
    encoder, progress = fit.fit(plan, HistoriesInMemory("", catalogue["item_id"], as_of, tables=tables), catalogue)
    digest = hashlib.sha256(serialization.model_bytes(encoder.model)).hexdigest()
    encoder = Encoder(encoder.model, encoder.ids, digest, encoder.users)
    _, (vectors, in_vectors) = set_aside(*encoder.encode_items(catalogue, batch_size=settings.embed.batch_size))
    return FittedData(
        settings=settings,
        as_of=as_of,
        catalogue=catalogue,
        histories=histories,
        items=ItemEmbeddings(catalogue["item_id"].combine_chunks(), vectors, in_vectors),
        vectors=_user_vectors(encoder, histories, catalogue, in_vectors, as_of, settings),
        model=encoder,
        training={**progress.to_json(), "seed": settings.run.seed},
        statistics=prepared.statistics,
        vocabularies=prepared.vocabularies,
    )


def _by_part(histories: pa.Table, parts: int) -> pa.Table:
    order = np.argsort(partition_of(histories["user_id"], parts), kind="stable")
    return histories.take(pa.array(order)).combine_chunks()


def _parts_of(table: pa.Table, parts: int) -> list[pa.Table]:
    """The tables of each part, of rows in the order of the parts."""
    ends = np.cumsum(np.bincount(partition_of(table["user_id"], parts), minlength=parts)).tolist()
    return [table.slice(start, end - start) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _user_vectors(
    encoder: Encoder,
    histories: pa.Table,
    catalogue: pa.Table,
    in_vectors: np.ndarray,
    as_of: datetime,
    settings: Settings,
) -> np.ndarray:
    history = Interactions.from_histories(histories, catalogue["item_id"], as_of)
    ids, buyers, length = histories["user_id"], np.asarray(catalogue["users"]), settings.embed.history_length

    def encode(rows: np.ndarray) -> np.ndarray:
        users = ids.take(pa.array(rows))
        return encoder.encode_users(history.take(rows), in_vectors, buyers, length=length, users=users)

    vectors = in_batches(encode, history.n_users, settings.embed.batch_size, encoder.dim)
    return set_aside(vectors)[1][0]


def save_data(data: FittedData, root: str) -> None:
    """Write a recommender as the stages prepare, train and embed of a run below ``root``, and point to it.

    Raises ConfigError where the folder holds anything but recommenders saved before.
    """
    _require_own(root)
    settings, parts = data.settings.model_dump(mode="json"), data.settings.run.parts
    content = {SAVED: data.encoder, "settings": json.dumps(settings), "statistics": json.dumps(data.statistics)}
    run = runs.Run(root, runs.run_name(data.as_of, content), data.as_of)
    if run.run_id in runs.run_ids(root):
        run = runs.read_run(root, run.run_id)
    for stage in (stage for stage in ("prepare", "train", "embed") if stage not in run.folders):
        folder = storage.join(run.path, runs.FOLDERS[stage])
        storage.remove_folder(folder)  # of a process that died
        if stage == "prepare":
            _save_prepared(data, folder, parts)
        elif stage == "train":
            serialization.save(data.model, folder, {"seed": data.settings.run.seed})
            storage.write_json(data.training, storage.join(folder, "training.json"))
        else:
            _save_embeddings(data, folder, parts)
        manifest.seal(folder, stage=stage, key=SAVED, summary={})
        entry = {"key": SAVED, "folder": f"runs/{run.run_id}/{runs.FOLDERS[stage]}", "seconds": 0.0, "reused": False}
        run = runs.record_stage(run, stage, entry, settings)
    runs.point_to(run)


def _require_own(root: str) -> None:
    published = runs.published(root)
    if published is not None:
        sealed = manifest.read(published.folder("prepare"))
        own = sealed is not None and sealed["key"] == SAVED
    else:
        own = not storage.files(root) and not storage.folders(root)
    if not own:
        raise ConfigError(f"a recommender is saved into a folder of its own, {root} holds other files: name another")


def _save_prepared(data: FittedData, folder: str, parts: int) -> None:
    storage.write_parquet(data.catalogue, storage.join(folder, "catalogue.parquet"))
    for part, table in enumerate(_parts_of(data.histories, parts)):
        storage.write_parquet(table, storage.join(folder, "histories", storage.part_name(part, parts)))
    for name, words in data.vocabularies.items():
        storage.write_parquet(words, storage.join(folder, "vocabularies", f"{name}.parquet"))
    storage.write_json(data.statistics, storage.join(folder, "statistics.json"))


def _save_embeddings(data: FittedData, folder: str, parts: int) -> None:
    items, dim = data.items, data.model.dim
    schema = schemas.with_encoder(schemas.item_embeddings(items.ids.type, dim), data.encoder)
    columns = [items.ids, vector_column(items.vectors), vector_column(items.in_vectors)]
    table = pa.Table.from_arrays(columns, schema=schema)
    storage.write_parquet(table, storage.join(folder, ITEMS, storage.part_name(0, 1)))
    schema = schemas.with_encoder(schemas.user_embeddings(data.user_type, dim), data.encoder)
    users = pa.Table.from_arrays([data.histories["user_id"], vector_column(data.vectors)], schema=schema)
    for part, table in enumerate(_parts_of(users, parts)):
        storage.write_parquet(table, storage.join(folder, USERS, storage.part_name(part, parts)))
    summary = {"encoder": data.encoder, "dim": dim, "blocks": [block.to_json() for block in data.blocks]}
    summary |= {"history_length": data.settings.embed.history_length, "users": len(users), "items": len(items.ids)}
    storage.write_json(summary, storage.join(folder, SUMMARY))
