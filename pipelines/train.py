"""The job ``train``: learn the encoder from the prepared purchases.

Writes ``encoder.keras``, ``items.parquet``, ``signature.json``, ``training.json`` and TensorBoard's ``logs/``; with a
sequence block ``sequence.parquet`` too, with ``train.user_rows`` ``users.parquet``.
"""

from typing import Any

from topkin.artifacts import storage
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stage import Stage
from topkin.planning.estimate import StageCost, Workload

SHUFFLED = 20_000_000  # purchases that training shuffles at a time


def cost(load: Workload) -> StageCost:
    """One process on little more than one core: what is shuffled at a time, a decomposition, weights and moments."""
    c, train = load.counts, load.settings.train
    passes = train.epochs + (train.sequence_epochs if train.sequence_dim else 0)
    shuffled = 13.0 * min(c.known, SHUFFLED) + load.share * c.known * (c.id_bytes + 60)
    closed = 12.0 * (train.svd_rank + 32) + 8.0 * (train.svd_dim + train.next_item_dim) if train.svd_dim else 0.0
    trained = 32.0 * ((train.dim if train.epochs else 0) + train.sequence_dim)  # with two moments and a gradient
    own = 8 * load.own_vectors  # as read, of each validation cut, in the step, and in float64 for the ridge map
    rows = 6 * load.user_rows  # with two moments, then without the empty ones, then rotated
    return load.cost(
        "train",
        rows=c.known,
        bytes_read=load.histories_file * (1 + passes) + load.own_vectors,
        bytes_written=load.item_vectors + load.word_rows + load.user_rows,
        cpu_seconds=c.known * load.costs.training_purchase,
        cores=1,
        memory=shuffled + c.items * (closed + trained) + load.catalogue + own + rows,
    )


def train(job: Job) -> dict[str, Any]:
    """Train an encoder on the prepared folder, save it, and say how it went."""
    from topkin.models.data.histories import PreparedHistories
    from topkin.models.ops import device
    from topkin.models.training import fit
    from topkin.models.training.tensorboard import Scalars
    from topkin.models.training.trainer import Plan
    from topkin.models.two_tower import serialization

    where = device.set_up(deterministic=True)
    settings, prepared = job.settings, job.folder("prepare")
    catalogue = storage.read_parquet(storage.join(prepared, "catalogue.parquet"))
    plan = Plan(seed=settings.run.seed, recent_days=settings.prepare.recent_days, **settings.train.model_dump())
    with Scalars(storage.join(job.out, "logs")) as scalars:
        encoder, done = fit.fit(
            plan,
            PreparedHistories(storage.join(prepared, "histories"), catalogue["item_id"], job.as_of),
            catalogue,
            scratch=job.scratch,
            on_epoch=scalars.epoch,
        )
    validation = None
    if done.reached is not None:
        validation = {fit.METRIC: done.reached, "epoch": len(done.refit)}
    serialization.save(encoder, job.out, {"seed": settings.run.seed, "validation": validation})
    storage.write_json({**done.to_json(), "device": where}, storage.join(job.out, "training.json"))
    return {
        "blocks": {block.name: {"dim": block.dim, "weight": block.weight} for block in encoder.blocks},
        "epochs": len(done.refit),
        f"validation_{fit.METRIC}": done.reached,
        "items": len(encoder.ids),
        "stopped": done.stopped,
        "left_out": done.left_out,
    }


STAGE = Stage(
    name="train",
    folder="model",
    sections=("run", "prepare", "train"),
    needs=lambda settings: ("prepare",),
    cost=cost,
    work=train,
)
