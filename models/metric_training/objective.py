"""What one step learns from: a batch's vectors through the loss that reads them, or a learner without labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topkin.config.items_train import ItemsTrainSettings
from topkin.config.metric_parts import LEARNERS, leaves
from topkin.errors import ConfigError
from topkin.models.metric_learning.distances import Distance
from topkin.models.metric_learning.heads import Proxies
from topkin.models.metric_learning.losses.base import Loss
from topkin.models.metric_training.parts import distance_of, loss_of
from topkin.models.self_supervised.barlow_twins import BarlowTwins
from topkin.models.self_supervised.base import SelfSupervised
from topkin.models.self_supervised.byol import BYOL
from topkin.models.self_supervised.simclr import SimCLR
from topkin.models.self_supervised.simsiam import SimSiam
from topkin.models.self_supervised.swav import SwAV
from topkin.models.self_supervised.vicreg import VICReg

TensorFeeds = Mapping[str, Any]
LEARNER_CLASSES: Mapping[str, type[SelfSupervised]] = {
    c.__name__: c for c in (BarlowTwins, BYOL, SimCLR, SimSiam, SwAV, VICReg)
}


class Objective:
    """The interface: a subclass has :meth:`value`, and may have :meth:`after_step`.

    Attributes:
        learned: What the gradient moves.
        variables: What a checkpoint holds: those and whatever else changes.
    """

    def __init__(self, encoder: keras.Model) -> None:
        self.encoder = encoder
        self.learned: list[keras.Variable] = list(encoder.trainable_variables)
        self.variables: list[keras.Variable] = list(encoder.variables)

    def value(self, views: Sequence[TensorFeeds], labels: object) -> Any:
        """The loss of a batch, a scalar: one or two views of its rows, and what the loss is told of them."""
        raise NotImplementedError

    def after_step(self) -> None:
        """What is done after the gradient's step."""

    @property
    def skipped(self) -> int:
        """How many batches taught nothing."""
        return 0

    def vectors(self, views: Sequence[TensorFeeds]) -> list[Any]:
        """The vectors of each view, (n, dim), encoded together."""
        joined = (
            views[0]
            if len(views) == 1
            else {name: tf.concat([view[name] for view in views], axis=0) for name in views[0]}
        )
        return list(tf.split(encoded(self.encoder, joined), len(views)))


def encoded(encoder: keras.Model, feeds: TensorFeeds, *, training: bool = True) -> Any:
    """The vectors of a batch, float32 (n, dim)."""
    inputs = keras.tree.pack_sequence_as(encoder.input, [feeds[name] for name in feeds])
    return tf.cast(keras.tree.flatten(encoder(inputs, training=training))[0], tf.float32)


class LossObjective(Objective):
    """A loss of the library over labels, pair numbers, or pairs that are alike or not."""

    def __init__(
        self, encoder: keras.Model, settings: ItemsTrainSettings, *, counts: np.ndarray, dim: int, seed: int
    ) -> None:
        super().__init__(encoder)
        self.loss: Loss = loss_of(settings, counts=counts, dim=dim, seed=seed)
        self.distance: Distance = distance_of(settings)
        self.classes = len(counts)
        self.reads = next(leaves(settings.chosen_loss)).reads
        self.from_pairs = settings.method == "pairs"
        self.head = self.loss.head(self.classes)
        if self.reads == "scores" and not self.from_pairs:
            self.head = Proxies(self.classes, seed=seed)
        if self.head is not None:
            self.head.build((None, dim))
            self.learned += self.head.trainable_variables
            self.variables += self.head.variables
        self.variables += _state_of(self.loss)

    @property
    def skipped(self) -> int:
        """How many batches taught nothing."""
        return self.loss.skipped

    def value(self, views: Sequence[TensorFeeds], labels: Any) -> Any:
        """See the class. labels: (n,) of rows, or of pairs 1 where they are alike, or their numbers."""
        parts = self.vectors(views)
        if self.reads == "pairs":
            first, second = parts
            if self.from_pairs:  # all are alike: each first with the next second is a pair that is not
                first, second = tf.concat([first, first], 0), tf.concat([second, tf.roll(second, 1, 0)], 0)
                alike = tf.ones_like(labels, tf.float32)
                labels = tf.concat([alike, tf.zeros_like(alike)], 0)
            return self.loss(labels, self.distance.rows(first, second))
        if self.reads == "scores":
            if self.from_pairs:
                return self.loss(tf.eye(tf.shape(labels)[0], dtype=tf.int32), tf.matmul(*parts, transpose_b=True))
            return self.loss(tf.one_hot(labels, self.classes, dtype=tf.int32), self._headed(parts[0]))
        if self.reads == "views":
            if self.from_pairs:
                return self.loss(labels, tf.stack(parts, axis=1))
            dim = parts[0].shape[-1]
            return self.loss(labels[::2], tf.reshape(parts[0], (-1, 2, dim)))  # rows of a class stand together
        rows = tf.concat(parts, 0)
        labels = tf.concat([labels] * len(parts), 0)
        return self.loss(labels, self._headed(rows))

    def _headed(self, rows: object) -> Any:
        return rows if self.head is None else self.head(rows, training=True)


def _state_of(part: object) -> list[keras.Variable]:
    """The variables of a loss, those of the parts inside it too: counters, memories, states of generators."""
    held: list[keras.Variable] = []
    for value in vars(part).values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, keras.Variable):
                held.append(one)
            elif isinstance(one, keras.random.SeedGenerator):
                held.append(one.state)
            elif type(one).__module__.startswith("topkin.models.metric_learning"):
                held += _state_of(one)
    return held


def learner_of(settings: ItemsTrainSettings, encoder: keras.Model, *, steps: int) -> SelfSupervised:
    """The self-supervised learner of some settings. Raises ConfigError for an argument out of its range."""
    cls = LEARNER_CLASSES[LEARNERS[settings.chosen_learner].cls]
    arguments = {} if settings.learner is None else settings.learner.arguments
    try:
        return cls(encoder, _as_it_is, **arguments, **({"steps": max(steps, 1)} if cls is BYOL else {}))
    except (TypeError, ValueError) as e:
        raise ConfigError(f"train.learner = {settings.chosen_learner!r}: {e}") from e


def check_parts(settings: ItemsTrainSettings) -> None:
    """Make every part once, so that an argument out of its range is found before the work. Raises ConfigError."""
    if settings.method == "self_supervised":
        inputs = keras.Input((2,))
        learner_of(settings, keras.Model(inputs, keras.layers.Dense(2)(inputs)), steps=1)
    else:
        loss_of(settings, counts=np.ones(2, np.int64), dim=2, seed=0)


class LearnerObjective(Objective):
    """A learner without labels on two views that the batches bring."""

    def __init__(self, encoder: keras.Model, settings: ItemsTrainSettings, *, steps: int) -> None:
        super().__init__(encoder)
        self.learner = learner_of(settings, encoder, steps=steps)
        self.learned = list(self.learner.learned())
        self.variables = list(self.learner.variables)

    def value(self, views: Sequence[TensorFeeds], labels: object) -> Any:
        """See the class; labels are not read."""
        first, second = (
            keras.tree.pack_sequence_as(self.encoder.input, [view[name] for name in view]) for view in views
        )
        return self.learner.loss_of(first, second, True)[0]

    def after_step(self) -> None:
        """As the learner."""
        self.learner.after_step()


def _as_it_is(x: object) -> Any:
    return x
