"""The epochs of a training: one compiled step, a schedule, validation, early stopping, a checkpoint of each epoch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topkin.config.items_train import ItemsTrainSettings
from topkin.encoding.batching import prefetched
from topkin.errors import ConfigError
from topkin.models.metric_training.objective import LearnerObjective, LossObjective, Objective, encoded
from topkin.models.metric_training.plan import TrainingPlan
from topkin.models.metric_training.rows import Feeds, Rows
from topkin.models.metric_training.validation import Encode, ViewValidation, as_good
from topkin.models.training.checkpoint import Checkpoint, restore
from topkin.telemetry import progress

EPOCHS, EPOCHS_WITHOUT_LABELS = 20, 8
DECAY, DECAY_WITHOUT_LABELS = 0.02, 1e-4
WARM_UP = 0.1
ENCODED, ENCODED_NUMBERS = 512, 8 << 20
SETTLED = 0.3
"""Share of the epochs, at the end, in which images are as they are served but for their mirror images."""

OnEpoch = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Trained:
    """A training that is done; the encoder has the weights of its last epoch that was as good as any.

    Args:
        epochs: The record of each epoch.
        best_epoch: The epoch whose weights were kept.
        skipped: Batches that taught nothing.
        notes: What a person must know.
        encode_with: Vectors of rows by a model of the same inputs.
    """

    epochs: tuple[Mapping[str, Any], ...]
    best_epoch: int
    skipped: int
    notes: tuple[str, ...]
    encode_with: Callable[[keras.Model], Encode]


class MetricTrainer:
    """One training: ``run_epoch`` until it is enough."""

    def __init__(
        self, encoder: keras.Model, settings: ItemsTrainSettings, rows: Rows, plan: TrainingPlan, *, seed: int
    ) -> None:
        self.encoder, self.settings, self.rows, self.plan, self.seed = encoder, settings, rows, plan, seed
        unsupervised = settings.method == "self_supervised"
        self.epochs = settings.epochs or (EPOCHS_WITHOUT_LABELS if unsupervised else EPOCHS)
        steps = plan.source.steps * self.epochs
        dim = int(keras.tree.flatten(encoder.output)[0].shape[-1])
        self.objective: Objective = (
            LearnerObjective(encoder, settings, steps=steps)
            if unsupervised
            else LossObjective(encoder, settings, counts=plan.label_counts, dim=dim, seed=seed)
        )
        warm = max(1, int(steps * WARM_UP))
        rate = keras.optimizers.schedules.CosineDecay(
            settings.learning_rate / 10,
            max(1, steps - warm),
            alpha=0.001,
            warmup_target=settings.learning_rate,
            warmup_steps=warm,
        )
        usual = DECAY_WITHOUT_LABELS if unsupervised else DECAY
        decay = usual if settings.weight_decay is None else settings.weight_decay
        self.optimizer = keras.optimizers.AdamW(rate, weight_decay=decay)
        self.optimizer.build(self.objective.learned)
        self._dtypes = {s.name: s.dtype for s in rows.specs}
        self._step = tf.function(self._learn, reduce_retracing=True, autograph=False)
        self._encoders: dict[int, Any] = {}
        if unsupervised and len(plan.kept) >= 2:
            plan.validation = ViewValidation(plan.kept, self._view, plan.rows, rows.labels, seed)

    def variables(self) -> list[keras.Variable]:
        """What a checkpoint holds: the weights, whatever else changes, and the optimizer's state."""
        return [*self.objective.variables, *self.optimizer.variables]

    def run_epoch(self, epoch: int) -> float:
        """Train on every batch once; returns the mean loss."""
        losses = []
        total = self.plan.source.steps
        for batch in prefetched(self._batches(epoch), 4):
            views = tuple(_tensors(view) for view in batch.views)
            losses.append(self._step(views, tf.constant(batch.labels)))
            progress.advance(f"train: epoch {epoch + 1}", 1, total)
        return float(np.mean([float(x) for x in losses])) if losses else 0.0

    def _batches(self, epoch: int) -> Any:
        changes = self.plan.changes
        if self.settings.method != "self_supervised" and epoch >= self.epochs - round(SETTLED * self.epochs):
            changes = changes.settled()
        return self.plan.source.batches(epoch, self.rows, changes, self.seed)

    def _learn(self, views: tuple[dict[str, Any], ...], labels: object) -> Any:
        with tf.GradientTape() as tape:
            loss = self.objective.value([self._cast(view) for view in views], labels)
        self.optimizer.apply(tape.gradient(loss, self.objective.learned), self.objective.learned)
        self.objective.after_step()
        return loss

    def _cast(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        return {n: x if self._dtypes[n] == "string" else tf.cast(x, self._dtypes[n]) for n, x in feeds.items()}

    def encode_with(self, model: keras.Model) -> Encode:
        """Vectors of rows, as they are, by a model."""
        return lambda numbers: self._encoded(model, numbers, self.rows.feeds)

    def _view(self, numbers: np.ndarray, seed: int) -> np.ndarray:
        """Vectors of rows changed at random, each time alike."""
        rng = np.random.default_rng([self.seed, seed])
        return self._encoded(self.encoder, numbers, lambda rows: self.plan.changes(self.rows.feeds(rows), rng))

    def _encoded(self, model: keras.Model, numbers: np.ndarray, read: Callable[[np.ndarray], Feeds]) -> np.ndarray:
        if id(model) not in self._encoders:
            self._encoders[id(model)] = tf.function(
                lambda feeds: encoded(model, self._cast(feeds), training=False), reduce_retracing=True, autograph=False
            )
        call = self._encoders[id(model)]
        width = sum(int(np.prod(s.shape)) for s in self.rows.specs)
        size = max(8, min(ENCODED, ENCODED_NUMBERS // width))
        starts = range(0, len(numbers), size)
        return np.concatenate([call(_tensors(read(numbers[at : at + size]))).numpy() for at in starts])


def _tensors(feeds: Feeds) -> dict[str, Any]:
    return {name: tf.constant(x, tf.string) if x.dtype == object else tf.constant(x) for name, x in feeds.items()}


def train(
    encoder: keras.Model,
    settings: ItemsTrainSettings,
    rows: Rows,
    plan: TrainingPlan,
    *,
    seed: int,
    checkpoint: Checkpoint,
    on_epoch: OnEpoch,
) -> Trained:
    """Train until the epochs are over or validation falls behind; the encoder keeps the last weights that were as good
    as any, see :func:`as_good`.

    Args:
        encoder: Changed in place.
        settings: Section ``[train]``.
        rows: What the plan's numbers number.
        plan: What is learned from and validated on.
        seed: Of everything drawn at random.
        checkpoint: Where each epoch is kept; one of the same training is gone on from.
        on_epoch: Called with the record of each epoch once, those of a resumed training too.

    Raises:
        ConfigError: A loss that is not finite.
    """
    trainer = MetricTrainer(encoder, settings, rows, plan, seed=seed)
    state, best, records = {"best": 0, "stopped": False}, [v.numpy() for v in encoder.variables], []
    kept = checkpoint.read()
    if kept is not None:
        state, values = {"best": kept[0]["best"], "stopped": kept[0]["stopped"]}, kept[1]
        records = list(kept[0]["records"])
        restore([*trainer.variables()], values[: len(trainer.variables())])
        best = values[len(trainer.variables()) :]
        plan.source.skipped = kept[0]["skipped"]
        for record in records:
            on_epoch(record)
    encode = trainer.encode_with(encoder)
    while len(records) < trainer.epochs and not state["stopped"]:
        epoch = len(records)
        record = {"epoch": epoch + 1, "loss": trainer.run_epoch(epoch)}
        if not np.isfinite(record["loss"]):
            raise ConfigError(
                f"train.learning_rate must keep the loss finite, it is {record['loss']} in epoch {epoch + 1} with "
                f"{settings.learning_rate}: lower it"
            )
        if plan.validation is not None:
            record[plan.validation.name] = plan.validation.measure(encode)
        records.append(record)
        scores = [0.0] * len(records) if plan.validation is None else [r[plan.validation.name] for r in records]
        kept_epoch = as_good(scores, 1 if plan.validation is None else plan.validation.asked)
        if kept_epoch == epoch:
            state["best"], best = len(records), [v.numpy() for v in encoder.variables]
        since = scores.index(1.0) if 1.0 in scores else kept_epoch  # nothing is above all that were asked
        state["stopped"] = epoch - since >= settings.patience
        progress_state = {**state, "records": records, "skipped": plan.source.skipped}
        checkpoint.write(progress_state, [*(v.numpy() for v in trainer.variables()), *best])
        on_epoch(record)
    restore(encoder.variables, best)
    notes = _notes(state, records, trainer.epochs, plan)
    skipped = plan.source.skipped + trainer.objective.skipped
    return Trained(tuple(records), int(state["best"]), skipped, notes, trainer.encode_with)


def _notes(state: Mapping[str, Any], records: list[dict[str, Any]], epochs: int, plan: TrainingPlan) -> tuple[str, ...]:
    if state["stopped"]:
        return (f"stopped after epoch {len(records)} of {epochs}: the weights are those of epoch {state['best']}",)
    return ()
