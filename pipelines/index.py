"""The job ``index``: NMSLIB shards over the item vectors, built by the workers, checked and measured."""

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from topkin.artifacts import storage
from topkin.artifacts.embeddings import SUMMARY, StoredItems
from topkin.config.sections import Settings
from topkin.pipelines.engine.job import InOnePipeline, Job, OnePipeline, machine_of
from topkin.pipelines.engine.stage import Stage, StageReads
from topkin.pipelines.nights import kept
from topkin.planning.estimate import InputCounts, StageCost, Workload
from topkin.search.hnsw.engines import library_of

if TYPE_CHECKING:
    from topkin.transforms.search.index import IndexInputs

LONG = 13.0
"""Bytes of an item while shards are planned: its length, its row, and whether it has a vector."""


def cost(load: Workload) -> StageCost:
    """Shards on the workers, each by one thread: its vectors, a copy for NMSLIB and its graph, and those beside it.

    One worker plans the shards, with the length of every item in memory.
    """
    items, machine = load.counts.items, load.machine
    shard, at_a_time = min(items, load.settings.index.shard_items), _at_a_time(load)
    return load.cost(
        "index",
        rows=items,
        bytes_read=2 * load.item_vectors + load.user_vectors,
        bytes_written=3.0 * load.vector * items,
        cpu_seconds=items * math.log2(2 + shard) * load.costs.indexed_item * load.dim / load.costs.dim,
        cores=max(1.0, min(at_a_time * machine.workers, items / max(shard, 1))),  # the last shard may be a small one
        memory=max(at_a_time * _shard_bytes(load), LONG * items),
    )


def _shards(load: Workload) -> int:
    return math.ceil(load.counts.items / load.settings.index.shard_items)


def _shard_bytes(load: Workload) -> float:
    """Of a shard while it is built."""
    shard = min(load.counts.items, load.settings.index.shard_items)
    return shard * (3 * load.vector + 60.0 * load.settings.index.m + load.counts.id_bytes)


def _at_a_time(load: Workload) -> int:
    """Shards that a worker builds at a time: one a core, as far as its memory goes."""
    room = load.machine.memory - load.costs.start_bytes["index"]
    return max(1, min(load.machine.cores, _shards(load), int(room / max(_shard_bytes(load), 1))))


def inputs_of(job: Job[Settings]) -> "IndexInputs":
    """What the workers read, from a job's settings and the folders of the finished stages."""
    from topkin.transforms.search.index import IndexInputs

    embedded = storage.read_json(storage.join(job.folder("embed"), SUMMARY))
    items = len(StoredItems(job.folder("embed"), embedded["encoder"]))
    counts = InputCounts(purchases=0, known=0, users=embedded["users"], items=items, dim=embedded["dim"])
    machine = machine_of(job.settings, job.beam)
    return IndexInputs(
        embeddings=job.folder("embed"),
        encoder=embedded["encoder"],
        users=embedded["users"],
        parts=job.settings.run.n_parts,
        settings=job.settings.index,
        seed=job.settings.run.seed,
        scratch=storage.join(job.scratch, "shards"),
        out=job.out,
        at_a_time=_at_a_time(Workload(counts=counts, settings=job.settings, machine=machine)),
    )


def begin(job: Job[Settings]) -> OnePipeline | dict[str, Any]:
    """What builds the index and measures its recall on a sample of users, or of the items where no user has a vector.

    The summary of the live index where it is of the same vectors.
    """
    if (live := _live(job)) is not None:
        return live
    from topkin.transforms.search.index import BuildIndex

    return OnePipeline(transform=BuildIndex(inputs_of(job)), finish=partial(summary_of, job.out))


def summary_of(out: str) -> dict[str, Any]:
    """What is told of the index in a folder."""
    info = storage.read_json(storage.join(out, "index.json"))
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
    reads=lambda settings: StageReads(settings=library_of(settings.index.engine)),
    earlier=kept.earlier("embed", "index"),
    cost=cost,
    work=InOnePipeline(begin),
)
