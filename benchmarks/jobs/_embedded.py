"""A generated run up to its embeddings, for benchmarks of the lists: random unit vectors and skewed histories."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import vector_column
from topkin.artifacts.partition import partition_of
from topkin.config.sections import Settings
from topkin.encoding.blocks import Block
from topkin.linalg.cosine import unit_rows
from topkin.pipelines.engine.job import Job
from topkin.recommend.sharded import shard_bounds

AS_OF = datetime(2024, 12, 1)
ENCODER, DAY = "e" * 64, np.timedelta64(86_400_000_000, "us")


def write(folder: Path, *, users: int, items: int, history: int, dim: int, parts: int, seed: int = 0) -> None:
    """The folders prepared, model and embeddings; users of ``history`` purchases each, int64 ids."""
    rng, t = np.random.default_rng(seed), pa.int64()
    names = [storage.part_name(part, parts) for part in range(parts)]
    of_items = schemas.with_encoder(schemas.item_embeddings(t, dim), ENCODER)
    of_users = schemas.with_encoder(schemas.user_embeddings(t, dim), ENCODER)
    bounds, sold = shard_bounds(items, parts), np.zeros(items, np.int64)
    for part, name in enumerate(names):
        ids = np.arange(bounds[part], bounds[part + 1])
        vectors = [unit_rows(rng.standard_normal((len(ids), dim), dtype=np.float32)) for _ in range(2)]
        table = pa.Table.from_arrays([pa.array(ids), *map(vector_column, vectors)], schema=of_items)
        storage.write_parquet(table, str(folder / "embeddings" / "items" / name))
    every = np.arange(users, dtype=np.int64)
    of = partition_of(pa.array(every), parts)
    for part, name in enumerate(names):
        ids = every[of == part]
        n = len(ids) * history
        what = (items * rng.random(n) ** 2).astype(np.int64)
        sold += np.bincount(what, minlength=items)
        days = -np.sort(-(1 + 700 * rng.random((len(ids), history))), axis=1).reshape(-1)
        offsets = pa.array(np.arange(0, n + 1, history, dtype=np.int32))
        columns = {
            "user_id": pa.array(ids),
            "items": pa.ListArray.from_arrays(offsets, pa.array(what)),
            "times": pa.ListArray.from_arrays(
                offsets, pa.array(np.datetime64(AS_OF, "us") - (days * DAY.astype(float)).astype("timedelta64[us]"))
            ),
            "weights": pa.ListArray.from_arrays(offsets, pa.array(np.ones(n, np.float32))),
            "segment": pa.nulls(len(ids), pa.string()),
        }
        histories = pa.table(columns, schema=schemas.histories(t, t))
        vectors = unit_rows(rng.standard_normal((len(ids), dim), dtype=np.float32))
        storage.write_parquet(histories, str(folder / "prepared" / "histories" / name))
        table = pa.Table.from_arrays([pa.array(ids), vector_column(vectors)], schema=of_users)
        storage.write_parquet(table, str(folder / "embeddings" / "users" / name))
    values = {"item_id": np.arange(items), "available": np.ones(items, bool)}
    values |= dict.fromkeys(("events", "users", "recent"), sold)
    schema = schemas.catalogue(t)
    catalogue = [pa.array(values[f.name], f.type) if f.name in values else pa.nulls(items, f.type) for f in schema]
    storage.write_parquet(
        pa.Table.from_arrays(catalogue, schema=schema), str(folder / "prepared" / "catalogue.parquet")
    )
    block = Block(
        name="trained", dim=dim - 1, weight=1.0, inverse_popularity=0.5, half_life_days=None, spread=(1.0,) * (dim - 1)
    )
    summary = {"encoder": ENCODER, "dim": dim, "blocks": [block.to_json()], "history_length": 512}
    storage.write_json({**summary, "users": users, "items": items}, str(folder / "embeddings" / "vectors.json"))
    storage.write_json({"encoder": ENCODER}, str(folder / "model" / "signature.json"))


def job(folder: Path, out: Path, settings: Settings, flags: tuple[str, ...] = ()) -> Job:
    """The job of the lists over such a folder."""
    names = {"prepare": "prepared", "train": "model", "embed": "embeddings"}
    folders = {stage: str(folder / name) for stage, name in names.items()}
    return Job(settings=settings, as_of=AS_OF, out=str(out), folders=folders, beam=flags)
