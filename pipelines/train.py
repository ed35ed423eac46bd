"""The job ``train``: learn the encoder from the prepared purchases.

Writes ``encoder.keras``, ``items.parquet``, ``signature.json``, ``training.json`` and TensorBoard's ``logs/``.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from topkin.artifacts import storage
from topkin.config.sections import TrainSettings
from topkin.pipelines.engine.job import Job

STAGE = "train"
NEEDS = ("prepare",)
SECTIONS = ("run", "prepare", "train")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What training reads and where it writes."""

    prepared: str
    out: str
    scratch: str
    as_of: datetime
    seed: int
    recent_days: float
    train: TrainSettings


def configure(job: Job) -> TrainConfig:
    """From a job's settings and the folder of the prepared data."""
    return TrainConfig(
        prepared=job.folder("prepare"),
        out=job.out,
        scratch=job.scratch,
        as_of=job.as_of,
        seed=job.settings.run.seed,
        recent_days=job.settings.prepare.recent_days,
        train=job.settings.train,
    )


def execute(job: Job) -> dict[str, Any]:
    """Train, save, and tell how it went."""
    return train(configure(job))


def train(config: TrainConfig) -> dict[str, Any]:
    """Train an encoder on a prepared folder and write it to ``config.out``."""
    from topkin.models.data.histories import PreparedHistories
    from topkin.models.ops import device
    from topkin.models.training import fit
    from topkin.models.training.tensorboard import Scalars
    from topkin.models.training.trainer import Plan
    from topkin.models.two_tower import serialization

    where = device.set_up(deterministic=True)
    catalogue = storage.read_parquet(storage.join(config.prepared, "catalogue.parquet"))
    histories = storage.join(config.prepared, "histories")
    plan = Plan(seed=config.seed, recent_days=config.recent_days, **config.train.model_dump())
    with Scalars(storage.join(config.out, "logs")) as scalars:
        encoder, done = fit.fit(
            plan,
            PreparedHistories(histories, catalogue["item_id"], config.as_of),
            catalogue,
            scratch=config.scratch,
            on_epoch=scalars.epoch,
        )
    validation = None
    if done.reached is not None:
        validation = {fit.METRIC: done.reached, "epoch": len(done.refit)}
    serialization.save(encoder, config.out, {"seed": config.seed, "validation": validation})
    storage.write_json({**done.to_json(), "device": where}, storage.join(config.out, "training.json"))
    return {
        "blocks": {block.name: {"dim": block.dim, "weight": block.weight} for block in encoder.blocks},
        "epochs": len(done.refit),
        f"validation_{fit.METRIC}": done.reached,
        "items": len(encoder.ids),
        "stopped": done.stopped,
        "left_out": done.left_out,
    }
