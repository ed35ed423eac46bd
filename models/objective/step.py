"""The training step, compiled once: a batch of questions in, one update of the rows that it touches out."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from topkin.config.sections import TrainSettings
from topkin.models.data.item_features import ItemFeatures
from topkin.models.objective.losses import sampled_softmax_of_pairs
from topkin.models.objective.offsets import LogitOffset
from topkin.models.objective.row_adam import RowAdam
from topkin.models.objective.smoothing import Smoothing
from topkin.models.ops.huge_pages import on_huge_pages
from topkin.models.ops.row_sums import row_sums
from topkin.models.two_tower.towers import Projection, RowTable, TwoTower, unit


class Step:
    """One optimizer step of a two-tower model on a batch of :func:`topkin.models.training.batches.batches`.

    features: of all items, by item number. train: the settings. log_q: (n_items,) of ``log_inclusion``; may be
    assigned anew. smoothed: batches hold what the candidates' id rows are mixed of; then a table of free rows is
    trained in place of ``id_out``, which :meth:`publish` fills. base: what the softmax's logits start from, times
    ``train.advanced.svd_share``.
    Arrays of any length are taken without a new trace, and a step's cost depends on them alone.
    """

    base: tuple[tf.Tensor, ...] = ()

    def __init__(
        self,
        model: TwoTower,
        features: ItemFeatures,
        train: TrainSettings,
        log_q: np.ndarray,
        *,
        smoothed: bool,
        base: LogitOffset | None = None,
    ) -> None:
        self.model, self.train, self.smoothed = model, train, smoothed
        self.content = any(values.any() for values in features.content.values())
        self._keep(features)
        parts = (base.in_vectors, base.out_vectors, base.covariance) if base is not None else ()
        self.base = tuple(tf.constant(part) for part in parts)
        self.log_q = tf.Variable(log_q, trainable=False)
        self.free = model.id_out
        if smoothed:
            self.free = RowTable(model.items, model.dim, seed=model.id_out.seed, name="free_out")
            self.free.build()
        tables = [t for t in model.tables if self.content or t is model.id_in or t is model.id_out]
        # A batch names an item once; row 0 has no gradient.
        self._train([self.free if t is model.id_out else t for t in tables], [self.free, model.id_in, *model.mixed])

    def _keep(self, features: ItemFeatures) -> None:
        """Keep what is read of items, whole numbers side by side: one place of memory for each item."""
        content = features.content if self.content else {}
        numbers = {k: v.reshape(len(v), -1) for k, v in content.items() if v.dtype == np.int32}
        self.widths = {k: v.shape[1] if content[k].ndim > 1 else 0 for k, v in numbers.items()}
        self.features = {k: tf.constant(v) for k, v in content.items() if k not in numbers}
        if numbers:
            self.features["numbers"] = tf.constant(np.concatenate(list(numbers.values()), axis=1))

    def _train(self, tables: Sequence[RowTable | Projection], once: Sequence[RowTable]) -> None:
        """Make what updates some tables; ``once`` are those of which a batch names a row once."""
        self.trained = [t.table for t in tables]
        self.optimizer = RowAdam(self.train.learning_rate, distinct=[t.table.path for t in once])
        self.optimizer.build(self.trained)
        tables = [variable.value.read_value() for variable in (*self.trained, *self.optimizer.variables)]
        for table in (*tables, *self.features.values(), *self.base):
            on_huge_pages(table)
        del tables, table  # a variable that is read elsewhere is copied before it is written
        self.traces = 0
        self._compiled = tf.function(self._step, input_signature=[self.signature], autograph=False)

    def __call__(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """Update the weights; returns the loss, a scalar tensor."""
        return self._compiled(batch)

    @property
    def signature(self) -> dict[str, tf.TensorSpec]:
        """What a batch holds."""
        numbers = ["candidates", "candidates_rows", "pooled", "pooled_rows", "target", "question"]
        pairs = ["bought", "history"]
        reals = ["weights", "history_weights"]
        if self.smoothed:
            numbers, pairs, reals = [*numbers, "mixed_rows"], [*pairs, "mix"], [*reals, "mix_shares"]
        specs = {name: tf.TensorSpec((None,), tf.int32) for name in numbers}
        specs |= {name: tf.TensorSpec((None, 2), tf.int32) for name in pairs}
        return specs | {name: tf.TensorSpec((None,), tf.float32) for name in reals}

    @property
    def variables(self) -> list[keras.Variable]:
        """The optimizer's state, and the free rows where there are some."""
        return [*self.optimizer.variables, *([self.free.table] if self.smoothed else [])]

    def publish(self, smoothing: Smoothing | None) -> None:
        """Fill ``id_out`` with what the free rows say."""
        if smoothing is not None:
            self.model.id_out.table.assign(smoothing.all(np.asarray(self.free.table)))

    def _step(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        self.traces += 1
        with tf.GradientTape() as tape:
            items = unit(self._out(batch))
            pooled = self.model.id_in(batch["pooled_rows"])
            if self.content:
                pooled += self.model.content(self._read(batch["pooled"]), "in")
            users = self._users(batch, pooled)
            loss = tf.reduce_mean(self._losses(users, items, batch) * batch["weights"])
        self.optimizer.apply(tape.gradient(loss, self.trained), self.trained)
        return loss

    def _users(self, batch: dict[str, tf.Tensor], pooled: tf.Tensor) -> tf.Tensor:
        questions = batch["question"][-1] + 1
        return unit(row_sums(batch["history"], batch["history_weights"], pooled, questions))

    def _out(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        rows = batch["candidates_rows"]
        if self.smoothed:
            own = self.optimizer.hold(self.free.table, self.free.read(batch["mixed_rows"]))
            ids = row_sums(batch["mix"], batch["mix_shares"], own, tf.size(rows))
        else:
            ids = self.free(rows)
        return ids + self.model.content(self._read(batch["candidates"]), "out") if self.content else ids

    def _read(self, items: tf.Tensor) -> dict[str, tf.Tensor]:
        read = {name: tf.gather(values, items) for name, values in self.features.items()}
        numbers, at = read.pop("numbers"), 0
        for name, width in self.widths.items():
            read[name] = numbers[:, at : at + width] if width else numbers[:, at]
            at += max(width, 1)
        return read

    def _losses(self, users: tf.Tensor, items: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        return sampled_softmax_of_pairs(
            users,
            items,
            batch["question"],
            batch["target"],
            batch["bought"],
            tf.gather(self.log_q, batch["candidates"]),
            temperature=self.train.advanced.temperature,
            logq=self.train.advanced.logq,
            base=self._base_vectors(batch, tf.shape(users)[0]) if self.base else None,
        )

    def _negative(self, users: tf.Tensor, items: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """The candidates that each question's user did not buy, (q, c) bool."""
        shape = tf.stack([tf.shape(users)[0], tf.shape(items)[0]])
        bought = tf.scatter_nd(batch["bought"], tf.ones(tf.shape(batch["bought"])[0], tf.bool), shape)
        return tf.logical_not(bought)

    def _base_vectors(self, batch: dict[str, tf.Tensor], questions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The base's questions (q, e) and candidates (c, e); products: scores in deviations, times their share."""
        in_vectors, out_vectors, covariance = self.base
        once = tf.ones(tf.shape(batch["history"])[0])
        users = row_sums(batch["history"], once, tf.gather(in_vectors, batch["pooled"]), questions)
        variance = tf.reduce_sum(tf.matmul(users, covariance) * users, axis=1, keepdims=True)
        users = users * (self.train.advanced.svd_share * tf.math.rsqrt(tf.maximum(variance, 1e-30)))
        return users, tf.gather(out_vectors, batch["candidates"])
