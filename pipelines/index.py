"""The job ``index``: NMSLIB shards over the item vectors, checked and measured."""

import math
from typing import Any

import numpy as np

from topkin.artifacts import storage
from topkin.artifacts.embeddings import SUMMARY, read_items, read_users
from topkin.config.sections import Settings
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stage import Stage
from topkin.pipelines.nights import kept
from topkin.planning.estimate import StageCost, Workload


def cost(load: Workload) -> StageCost:
    """One process, all its cores: the vectors, and a copy for NMSLIB with its graph, one shard at a time."""
    items, index = load.counts.items, load.settings.index
    shard = min(items, index.shard_items)
    return load.cost(
        "index",
        rows=items,
        bytes_read=load.item_vectors + load.user_vectors,
        bytes_written=3.0 * load.vector * items,
        cpu_seconds=items * math.log2(2 + shard) * load.costs.indexed_item * load.dim / load.costs.dim,
        cores=load.machine.cores,
        memory=load.item_vectors + shard * (load.vector + 60.0 * index.m),
    )


def sample_users(job: Job[Settings], encoder: str, users: int) -> np.ndarray:
    """The vectors of ``index.sample`` users drawn by the seed, (n, dim) float32; those without a vector are dropped."""
    run, sample = job.settings.run, min(users, job.settings.index.sample)
    chosen = np.sort(np.random.default_rng(run.seed).choice(users, sample, replace=False))
    drawn, first = [], 0
    for part in range(run.parts):
        _, vectors = read_users(job.folder("embed"), part, run.parts, encoder)
        inside = chosen[(chosen >= first) & (chosen < first + len(vectors))] - first
        drawn.append(vectors[inside])
        first += len(vectors)
    sampled = np.concatenate(drawn)
    return np.asarray(sampled[sampled.any(axis=1)])


def build(job: Job[Settings]) -> dict[str, Any]:
    """Build the index and measure its recall on a sample of the users, or of the items where no user has a vector."""
    from topkin.search.hnsw.build import build_index

    if (live := _live(job)) is not None:
        return live
    embedded = storage.read_json(storage.join(job.folder("embed"), SUMMARY))
    encoder = embedded["encoder"]
    items = read_items(job.folder("embed"), encoder)
    queries = sample_users(job, encoder, embedded["users"])
    info = build_index(
        items.vectors,
        job.out,
        job.settings.index,
        job.settings.run.seed,
        ids=items.ids,
        encoder=encoder,
        queries=queries if len(queries) else None,
    )
    recall = {name: value for name, value in info["recall"].items() if name.startswith("recall@")}
    summary = {"indexed": info["indexed"], "without_vector": info["without_vector"], "shards": len(info["shards"])}
    return summary | recall


def _live(job: Job[Settings]) -> dict[str, Any] | None:
    """The index of the run published before, where it is of the very same vectors: its files, and its summary."""
    before = kept.still_holds(job, "index")
    if before is None or not kept.same_items(job.folder("embed"), job.earlier["embed"]):
        return None
    return {
        **kept.take(before, job.out),
        "notes": ["no vector of an item changed: the index is that of the live version"],
    }


STAGE = Stage(
    name="index",
    folder="index",
    sections=("run", "index"),
    needs=lambda settings: ("embed",),
    earlier=kept.earlier("embed", "index"),
    cost=cost,
    work=build,
)
