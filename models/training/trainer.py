"""One training of the trained block: the compiled step, the epochs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from topkin.encoding.blocks import TRAINED
from topkin.errors import InputError
from topkin.models.data.histories import PreparedHistories
from topkin.models.data.item_index import ItemIndex
from topkin.models.objective.hard_negatives import hard_negative_probabilities, mixed
from topkin.models.objective.losses import log_inclusion
from topkin.models.objective.offsets import LogitOffset
from topkin.models.objective.smoothing import Smoothing
from topkin.models.objective.step import Step
from topkin.models.training.batches import batches, sampling_probabilities
from topkin.models.training.context import TrainingContext
from topkin.models.two_tower.encoder import encode_features
from topkin.models.two_tower.towers import TwoTower
from topkin.telemetry import progress

STEPS, SMALLEST, LARGEST = 200, 256, 8192  # of an epoch; purchases of a step where train.batch_size says none


@dataclass
class Trainer:
    """One training of one encoder on the purchases before a cut: ``run_epoch`` until it is enough."""

    context: TrainingContext
    purchases: PreparedHistories
    phase: str
    index: ItemIndex
    base: LogitOffset | None = None
    model: TwoTower = field(init=False)
    name: ClassVar[str] = TRAINED

    def __post_init__(self) -> None:
        self.train, index = self.context.train, self.index
        train = self.train
        self.counts, self.features = index.counts, index.features
        if self.counts.examples == 0:
            raise InputError(
                "training needs a user with at least two different items before the as-of date"
                f"{' less train.validation_days' if self.phase == 'validation' else ''}, got none: "
                "set recommend.model = 'popularity', or train.epochs = 0"
            )
        self.model = self._tower()
        self.model.build()
        even = min(max(self.counts.examples // STEPS, SMALLEST), LARGEST)
        self.batch_size = min(train.batch_size or even, self.counts.examples)
        self.smoothing = self._smoothing()
        self.step = self._step()

    def _tower(self) -> TwoTower:
        return self._tower_of(dim=self.train.dim)

    def _tower_of(self, **sizes: Any) -> TwoTower:
        index, advanced = self.index, self.train.advanced
        return TwoTower(
            items=len(index.ids),
            word_buckets=index.word_buckets,
            title_words=advanced.title_words,
            categories=len(index.categories),
            vector_dim=index.features.vectors.shape[1],
            values=index.rows.size,
            seed=self.context.seed,
            name=self.name,
            **sizes,
        )

    def _step(self) -> Step:
        base = self.base if self.train.advanced.svd_share else None
        smoothed = self.smoothing is not None
        return Step(self.model, self.features, self.train, self._log_q(), smoothed=smoothed, base=base)

    def _smoothing(self) -> Smoothing | None:
        advanced = self.train.advanced
        if not advanced.neighbours or not advanced.smoothing:
            return None
        return Smoothing.over(
            next(self.purchases.groups(np.random.default_rng([self.context.seed, 0]))),
            self.features.id_rows,
            len(self.index.ids),
            neighbours=advanced.neighbours,
            strength=advanced.smoothing,
        )

    def _log_q(self, hard: np.ndarray | None = None) -> np.ndarray:
        advanced = self.train.advanced
        usual = sampling_probabilities(self.counts.targets), advanced.negatives
        self._chances, self._draws = usual if hard is None else mixed(*usual, hard, advanced.hard_negatives)
        return log_inclusion(self.counts.targets, self.batch_size, self._chances, self._draws)

    def _draw_hard(self, epoch: int) -> None:
        """From now on draw negatives that the vectors of now rank high, too."""
        rng = np.random.default_rng([self.context.seed, epoch, 1])
        sides = encode_features(self.model, self.features, 4096)
        hard = hard_negative_probabilities(
            next(self.purchases.groups(rng)),
            *sides,
            self.counts,
            rng,
            inverse_popularity=self.train.advanced.inverse_popularity,
            half_life_days=self.train.half_life_days,
            history_length=self.train.advanced.history_length,
        )
        self.step.log_q.assign(self._log_q(hard))

    def batches(self, epoch: int) -> Iterator[dict[str, np.ndarray]]:
        """What the step reads, one epoch of it."""
        rng = np.random.default_rng([self.context.seed, epoch])
        has_content, dropout = self.features.has_content, self.train.advanced.id_dropout
        sizes = {"batch_size": self.batch_size, "negatives": self._draws}
        cumulative, read = np.cumsum(self._chances), list(self.step.signature)
        for group in self.purchases.groups(rng):
            for batch in batches(group, self.counts.buyers, self.train, rng, cumulative=cumulative, **sizes):
                for side in ("candidates", "pooled"):
                    items = batch[side]
                    unseen = has_content[items] & (rng.random(len(items)) < dropout)
                    batch[f"{side}_rows"] = np.where(unseen, 0, self.features.id_rows[items])
                if self.smoothing is not None:
                    mix = self.smoothing.of(batch["candidates_rows"])
                    batch |= dict(zip(("mixed_rows", "mix", "mix_shares"), mix, strict=True))
                yield {name: batch[name] for name in read}

    def run_epoch(self, epoch: int) -> float:
        """Train on every batch once; returns the mean loss. The epoch's number decides order and step size."""
        if self.train.advanced.hard_negatives and epoch > 1:
            self._draw_hard(epoch)
        data = tf.data.Dataset.from_generator(lambda: self.batches(epoch), output_signature=self.step.signature)
        rate = self.train.learning_rate * self.train.advanced.learning_rate_decay ** (epoch - 1)
        self.step.optimizer.learning_rate.assign(rate)
        losses = []
        for batch in data.prefetch(2):
            losses.append(self.step(batch))
            progress.advance(f"train: {self.phase} epoch {epoch}", len(batch["target"]), self.counts.examples)
        self.step.publish(self.smoothing)
        return float(np.mean([float(x) for x in losses])) if losses else 0.0

    def variables(self) -> list[Any]:
        """What a checkpoint holds: the weights and the optimizer's state."""
        return [*self.model.variables, *self.step.variables]
