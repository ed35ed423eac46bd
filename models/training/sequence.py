"""The block that knows order: a recurrent network over the latest purchases, trained to say which comes next."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from topkin.encoding.blocks import SEQUENCE
from topkin.interactions import Interactions
from topkin.models.objective.step import Step
from topkin.models.training.sequence_batches import sequence_batches
from topkin.models.training.trainer import Trainer
from topkin.models.two_tower.towers import SequenceTower, TwoTower, unit

LARGEST = 2048  # purchases of a step: most are asked for alone, so scores are more than where histories are pooled


class SequenceStep(Step):
    """One optimizer step on a batch of :func:`topkin.models.training.sequence_batches.sequence_batches`."""

    @property
    def signature(self) -> dict[str, tf.TensorSpec]:
        """What a batch holds."""
        specs = {name: spec for name, spec in super().signature.items() if not name.startswith("history")}
        wide = {"steps": tf.int32, "gaps": tf.float32}
        specs |= {name: tf.TensorSpec((None, None), kind) for name, kind in wide.items()}
        return specs | {"at": tf.TensorSpec((None,), tf.int32)}

    def _users(self, batch: dict[str, tf.Tensor], pooled: tf.Tensor) -> tf.Tensor:
        bought = tf.gather(tf.pad(pooled, [[1, 0], [0, 0]]), batch["steps"])
        read = self.model.read(tf.concat([bought, batch["gaps"][:, :, None]], axis=2))
        return unit(tf.gather(tf.reshape(read, (-1, self.model.dim)), batch["at"]))


class SequenceTrainer(Trainer):
    """As :class:`Trainer`, for the block ``sequence``."""

    name, counted, largest = SEQUENCE, "sequence epoch", LARGEST

    @property
    def epochs(self) -> int:
        """Most epochs of this block."""
        return int(self.plan.sequence_epochs)

    @property
    def hard_negatives(self) -> int:
        """None: they are chosen by sums of histories, which this block does not make."""
        return 0

    def _model(self) -> TwoTower:
        return SequenceTower(
            **self._sizes(), dim=self.plan.sequence_dim, length=self.plan.sequence_length, name=self.name
        )

    def _smoothing(self) -> None:
        return None

    def _askers(self) -> None:
        return None

    def _step(self) -> Step:
        return SequenceStep(self.model, self.features, self.plan, self._log_q(), smoothed=False)

    def _asked(
        self, group: Interactions, rng: np.random.Generator, cumulative: np.ndarray
    ) -> Iterator[dict[str, np.ndarray]]:
        recipe = self.plan.recipe(self.batch_size)
        return sequence_batches(group, recipe, self.plan.sequence_length, rng, cumulative)
