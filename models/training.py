"""Training the encoder: how long and with which prior is read off validation, then all purchases count.

First the last ``validation_days`` are kept apart: after each epoch the recall on them is measured, and the
best epoch and prior are remembered. Then the encoder is trained anew on everything for that many epochs.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from topkin.errors import ConfigError, InputError
from topkin.models.checkpoint import Checkpoint, restore
from topkin.models.data import Purchases
from topkin.models.encoder import Encoder, encode_features
from topkin.models.prior import Prior, fitted
from topkin.models.saved import vocabulary_hash
from topkin.models.trainer import Plan, Trainer
from topkin.models.validation import METRIC, Validation, coherence, sample

STRENGTHS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)
_BATCH = 4096


@dataclass
class Progress:
    """What training has found out so far; ``training.json`` in the end."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    refit: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""

    @property
    def best(self) -> dict[str, Any] | None:
        """The epoch of highest validation recall, the earliest of equals."""
        measured = [e for e in self.epochs if f"validation_{METRIC}" in e]
        return max(measured, key=lambda e: (e[f"validation_{METRIC}"], -e["epoch"]), default=None)

    def to_json(self) -> dict[str, Any]:
        """With ``best_epoch`` beside the fields."""
        return {**asdict(self), "best_epoch": self.best["epoch"] if self.best else len(self.refit)}


def fit(
    plan: Plan,
    purchases: Purchases,
    catalogue: pa.Table,
    *,
    scratch: str = "",
    on_epoch: Callable[[str, dict[str, Any]], None] = lambda phase, epoch: None,
) -> tuple[Encoder, Progress]:
    """Train an encoder; the same plan, purchases and catalogue give the same weights on one machine.

    purchases: all before the as-of date (``days`` 0). catalogue: ``schemas.catalogue``. scratch: a folder for
    the checkpoint of each epoch; what one finds there of the same training goes on. on_epoch is told every
    epoch once, those of a resumed training too. Raises InputError where no user has two different items.
    """
    checkpoint = Checkpoint(scratch, _key(plan, purchases, catalogue))
    found = checkpoint.read()
    state, values = found if found is not None else ({"phase": "validation"}, [])
    done = Progress(**state.get("progress", {}))
    for phase, epochs in (("validation", done.epochs), ("refit", done.refit)):
        for epoch in epochs:
            on_epoch(phase, epoch)
    if state["phase"] == "validation":
        days = min(plan.validation_days, _span(purchases, catalogue) / 4)
        _validate(plan, replace(purchases, days=days), catalogue, done, values, checkpoint, on_epoch)
        values = []
    trainer = Trainer(plan, replace(purchases, days=0.0), catalogue, "refit")
    _restore(trainer, values)
    best = done.best
    wanted = best["epoch"] if best else plan.epochs
    while len(done.refit) < wanted:
        done.refit.append(_epoch(trainer, len(done.refit) + 1))
        on_epoch("refit", done.refit[-1])
        checkpoint.write({"phase": "refit", "progress": asdict(done)}, trainer.variables())
    strength = plan.prior if plan.prior is not None else (best["prior"] if best else 0.0)
    return trainer.encoder(_prior(trainer, strength)), done


def _validate(
    plan: Plan,
    purchases: Purchases,
    catalogue: pa.Table,
    done: Progress,
    values: list[Any],
    checkpoint: Checkpoint,
    on_epoch: Callable[[str, dict[str, Any]], None],
) -> None:
    validation = sample(purchases, plan.validation_users, plan.seed)
    if validation is None:
        done.stopped = "no validation: nobody bought before and in the last train.validation_days"
        return
    try:
        trainer = Trainer(plan, purchases, catalogue, "validation")
    except InputError:
        done.stopped = "no validation: too little was bought before the last train.validation_days"
        return
    _restore(trainer, values)
    while not (stopped := _stopped(plan, done)):
        epoch = _epoch(trainer, len(done.epochs) + 1)
        began = time.perf_counter()
        prior, recall = _judge(plan, trainer, validation)
        epoch |= {f"validation_{METRIC}": recall, "prior": prior.strength}
        epoch["validation_seconds"] = round(time.perf_counter() - began, 3)
        done.epochs.append(epoch)
        on_epoch("validation", epoch)
        checkpoint.write({"phase": "validation", "progress": asdict(done)}, trainer.variables())
    done.stopped = stopped


def _span(purchases: Purchases, catalogue: pa.Table) -> float:
    """Days from the first sale to the as-of date."""
    first = pc.min(catalogue["first_sale"]).as_py()
    return (purchases.as_of - first) / timedelta(days=1) if first is not None else 0.0


def _stopped(plan: Plan, done: Progress) -> str:
    """Why validation has seen enough, or the empty string."""
    if done.best and len(done.epochs) - done.best["epoch"] >= plan.patience:
        return "patience"
    return "epochs" if len(done.epochs) >= plan.epochs else ""


def _epoch(trainer: Trainer, number: int) -> dict[str, Any]:
    began = time.perf_counter()
    loss = trainer.run_epoch(number)
    if not math.isfinite(loss):
        raise ConfigError(
            f"the loss must stay finite, got {loss} in epoch {number}: lower train.learning_rate, "
            f"which is {trainer.plan.learning_rate}, or raise train.temperature"
        )
    return {"epoch": number, "loss": loss, "seconds": round(time.perf_counter() - began, 3)}


def _judge(plan: Plan, trainer: Trainer, validation: Validation) -> tuple[Prior, float]:
    out, pooled = encode_features(trainer.model, trainer.features, _BATCH)
    return validation.best_prior(
        out,
        pooled,
        trainer.counts,
        strengths=STRENGTHS if plan.prior is None else (plan.prior,),
        rarity=plan.rarity,
        half_life_days=plan.half_life_days,
    )


def _prior(trainer: Trainer, strength: float) -> Prior:
    """The prior of the finished encoder, its constants from all users."""
    plan, counts = trainer.plan, trainer.counts
    _, pooled = encode_features(trainer.model, trainer.features, _BATCH)
    lengths = [
        coherence(
            trainer.purchases.part(name),
            pooled,
            counts.buyers,
            rarity=plan.rarity,
            half_life_days=plan.half_life_days,
        )
        for name in trainer.purchases.names()
    ]
    known = sorted(x for x in lengths if x > 0)
    return fitted(counts.recent, counts.events, known[len(known) // 2] if known else 0.0, strength=strength)


def _restore(trainer: Trainer, values: list[Any]) -> None:
    if values:
        restore(trainer.variables(), values)


def _key(plan: Plan, purchases: Purchases, catalogue: pa.Table) -> str:
    value = [asdict(plan), purchases.as_of.isoformat(), purchases.names(), len(catalogue)]
    ids = catalogue["item_id"].combine_chunks()
    events = vocabulary_hash(catalogue["events"].combine_chunks())
    return hashlib.sha256(json.dumps([*value, vocabulary_hash(ids), events]).encode()).hexdigest()
