"""One training of one encoder: the plan, the compiled step, the epochs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from topkin import progress
from topkin.errors import InputError
from topkin.models import prior as priors
from topkin.models.data import Counts, Purchases, Recipe, batches, count
from topkin.models.encoder import Encoder
from topkin.models.features import ItemFeatures, item_features
from topkin.models.losses import in_batch_softmax, log_inclusion
from topkin.models.optimizers import RowAdam
from topkin.models.saved import vocabulary_hash
from topkin.models.towers import TwoTower


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that decides the weights, the data apart; the settings of the same names in ``[train]``."""

    seed: int
    dim: int
    epochs: int
    batch_size: int
    learning_rate: float
    learning_rate_decay: float
    temperature: float
    logq: float
    history_length: int
    rarity: float
    half_life_days: float | None
    user_power: float
    example_half_life_days: float | None
    id_dropout: float
    word_buckets: int
    title_words: int
    min_sales: int
    validation_days: float
    validation_users: int
    patience: int
    prior: float | None
    recent_days: float

    def recipe(self, batch_size: int) -> Recipe:
        """How examples are made."""
        return Recipe(
            batch_size=batch_size,
            history_length=self.history_length,
            rarity=self.rarity,
            half_life_days=self.half_life_days,
            user_power=self.user_power,
            example_half_life_days=self.example_half_life_days,
        )


@dataclass
class Trainer:
    """One training of one encoder on the purchases before a cut: ``run_epoch`` until it is enough."""

    plan: Plan
    purchases: Purchases
    catalogue: pa.Table
    phase: str
    counts: Counts = field(init=False)
    model: TwoTower = field(init=False)
    traces: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        plan = self.plan
        self.counts = count(self.purchases, plan.recent_days)
        if self.counts.examples == 0:
            raise InputError(
                "training needs a user with at least two different items before the as-of date"
                f"{' less train.validation_days' if self.phase == 'validation' else ''}, got none"
            )
        found = self.catalogue["category"].drop_null().unique().to_pylist()
        self.categories = tuple(sorted(str(c) for c in found))
        self.ids = self._known_ids()
        self.features = self._features(self.ids)
        self.model = TwoTower(
            items=len(self.ids),
            dim=plan.dim - priors.PRIOR_DIMS,
            word_buckets=plan.word_buckets,
            title_words=plan.title_words,
            categories=len(self.categories),
            seed=plan.seed,
            name="encoder",
        )
        self.model.build()
        self.batch_size = min(plan.batch_size, self.counts.examples)
        self.optimizer = RowAdam(plan.learning_rate)
        self.optimizer.build(self.model.trainable_variables)
        self._step = self._compile()

    def _features(self, ids: pa.Array) -> ItemFeatures:
        return item_features(
            self.catalogue,
            ids=ids,
            categories=self.categories,
            word_buckets=self.plan.word_buckets,
            title_words=self.plan.title_words,
        )

    def _known_ids(self) -> pa.Array:
        """The items with a row of their own: those sold often enough, and sold ones without content."""
        ids = self.catalogue["item_id"].combine_chunks()
        content = self._features(ids.slice(0, 0)).has_content
        enough = np.where(content, max(self.plan.min_sales, 1), 1)
        return ids.filter(pa.array(self.counts.events >= enough))

    def _compile(self) -> Callable[..., Any]:
        plan, size, width = self.plan, self.batch_size, self.plan.history_length
        tables = {k: tf.constant(v) for k, v in self.features.padded(slice(None), len(self.features)).items()}
        log_q = tf.constant(log_inclusion(self.counts.targets, size))

        def step(batch: dict[str, tf.Tensor]) -> tf.Tensor:
            self.traces += 1
            rows, places = tf.unique(tf.concat([batch["candidates"], tf.reshape(batch["history"], [-1])], 0))
            features = {k: tf.gather(v, rows) for k, v in tables.items()}
            count_ = tf.cast(self.optimizer.iterations, tf.int32)
            luck = tf.random.stateless_uniform(tf.shape(rows), tf.stack([tf.constant(plan.seed, tf.int32), count_]))
            features["id_rows"] = tf.where(luck < plan.id_dropout, 0, features["id_rows"])
            with tf.GradientTape() as tape:
                out, pooled = self.model(features)
                users = self.model.users(
                    tf.gather(pooled, tf.reshape(places[size:], (size, width))), batch["history_weights"]
                )
                losses = in_batch_softmax(
                    users,
                    tf.gather(out, places[:size]),
                    batch["positive"],
                    batch["masked"],
                    tf.gather(log_q, batch["candidates"]),
                    temperature=plan.temperature,
                    logq=plan.logq,
                )
                loss = tf.reduce_mean(losses * batch["weights"])
            self.optimizer.apply(tape.gradient(loss, self.model.trainable_variables))
            return loss

        return tf.function(step, input_signature=[self._signature()])  # type: ignore[no-any-return]

    def _signature(self) -> dict[str, tf.TensorSpec]:
        size, width = self.batch_size, self.plan.history_length
        return {
            "candidates": tf.TensorSpec((size,), tf.int32),
            "positive": tf.TensorSpec((size,), tf.int32),
            "masked": tf.TensorSpec((size, size), tf.bool),
            "history": tf.TensorSpec((size, width), tf.int32),
            "history_weights": tf.TensorSpec((size, width), tf.float32),
            "weights": tf.TensorSpec((size,), tf.float32),
        }

    def _batches(self, epoch: int) -> Iterator[dict[str, np.ndarray]]:
        rng = np.random.default_rng([self.plan.seed, epoch])
        recipe = self.plan.recipe(self.batch_size)
        for group in self.purchases.groups(rng):
            yield from batches(group, self.counts.buyers, recipe, rng)

    def run_epoch(self, epoch: int) -> float:
        """Train on every batch once; returns the mean loss. The epoch's number decides order and step size."""
        data = tf.data.Dataset.from_generator(lambda: self._batches(epoch), output_signature=self._signature())
        self.optimizer.learning_rate.assign(self.plan.learning_rate * self.plan.learning_rate_decay ** (epoch - 1))
        losses = []
        for batch in data.prefetch(2):
            losses.append(self._step(batch))
            progress.advance(f"train: {self.phase} epoch {epoch}", self.batch_size, self.counts.examples)
        return float(np.mean([float(x) for x in losses])) if losses else 0.0

    def encoder(self, prior: priors.Prior) -> Encoder:
        """The encoder as it is now, with a prior."""
        self.model.meaning = {
            "rarity": self.plan.rarity,
            "half_life_days": self.plan.half_life_days,
            "categories": list(self.categories),
            "vocabulary": vocabulary_hash(self.ids),
            "prior": prior.to_json(),
        }
        return Encoder(self.model, self.ids)

    def variables(self) -> list[Any]:
        """What a checkpoint holds: the weights and the optimizer's state."""
        return [*self.model.variables, *self.optimizer.variables]
