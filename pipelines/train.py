"""The job ``train``: learn the encoder from the prepared purchases.

Writes ``encoder.keras``, ``items.parquet``, ``signature.json``, ``training.json``, the weights of bought items
``repurchase.json``, and TensorBoard's ``logs/``.
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
    from topkin.models.training.context import TrainingContext
    from topkin.models.training.fit import fit
    from topkin.models.training.tensorboard import Scalars
    from topkin.models.training.validation import METRIC
    from topkin.models.two_tower import serialization

    where = device.set_up(deterministic=True)
    catalogue = storage.read_parquet(storage.join(config.prepared, "catalogue.parquet"))
    histories = PreparedHistories(storage.join(config.prepared, "histories"), catalogue["item_id"], config.as_of)
    context = TrainingContext(train=config.train, seed=config.seed, recent_days=config.recent_days)
    with Scalars(storage.join(config.out, "logs")) as scalars:
        training = fit(context, histories, catalogue, scratch=config.scratch, on_epoch=scalars.epoch)
    selection, epochs = training.selection, len(training.epochs)
    validation = None if selection.validation is None else {METRIC: selection.validation, "epoch": epochs}
    serialization.save(training.encoder, config.out, {"seed": config.seed, "validation": validation})
    storage.write_json({**training.to_json(), "device": where}, storage.join(config.out, "training.json"))
    storage.write_json(dict(training.repurchase), storage.join(config.out, "repurchase.json"))
    return {
        "blocks": {block.name: {"dim": block.dim, "weight": block.weight} for block in training.encoder.blocks},
        "epochs": epochs,
        f"validation_{METRIC}": selection.validation,
        "items": len(training.encoder.ids),
        "stopped": selection.stopped,
        "left_out": selection.left_out,
    }
