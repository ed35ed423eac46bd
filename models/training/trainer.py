"""One training of one encoder: the plan, the compiled step, the epochs."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
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
from topkin.models.training.batches import Recipe, batches, sampling_probabilities
from topkin.models.two_tower.encoder import encode_features
from topkin.models.two_tower.towers import TwoTower
from topkin.telemetry import progress

STEPS, SMALLEST, LARGEST = 200, 256, 8192  # of an epoch; purchases of a step where the plan says none


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that decides the weights, the data apart; the settings of the same names in ``[train]``."""

    seed: int
    dim: int
    epochs: int
    batch_size: int | None
    learning_rate: float
    learning_rate_decay: float
    loss: str
    temperature: float
    margin: float
    negative_weight: float
    logq: float
    negatives: int
    negative_power: float
    hard_negatives: int
    folds: int
    history_length: int
    history_dropout: float
    inverse_popularity: float
    half_life_days: float | None
    user_power: float
    example_half_life_days: float | None
    id_dropout: float
    neighbours: int
    smoothing: float
    hops: int
    svd_share: float
    word_buckets: int
    title_words: int
    min_sales: int
    validation_days: float
    validation_users: int
    patience: int
    recency_weight: float | None
    preset: str
    svd_dim: int
    svd_rank: int
    svd_half_life_days: float | None
    svd_user_power: float
    svd_power: float
    svd_popularity: float
    svd_inverse_popularity: float
    next_item_dim: int
    next_item_half_life_days: float | None
    validation_cuts: int
    recent_days: float
    timed: bool = True

    def untimed(self) -> "Plan":
        """The plan for purchases whose times mean nothing: what goes by time is off, its coordinates go elsewhere."""
        off: dict[str, Any] = {
            "half_life_days": None,
            "example_half_life_days": None,
            "svd_half_life_days": None,
            "recency_weight": 0.0,
        }
        sizes: dict[str, Any] = {"next_item_dim": 0, "svd_dim": self.svd_dim + self.next_item_dim}
        return replace(self, **off, **sizes, timed=False, validation_cuts=1)

    def known(self, purchases: PreparedHistories, catalogue: pa.Table) -> ItemIndex:
        """The items as they were before the cut."""
        return ItemIndex.of(
            purchases,
            catalogue,
            recent_days=self.recent_days,
            min_sales=self.min_sales,
            word_buckets=self.word_buckets,
            title_words=self.title_words,
        )

    def recipe(self, batch_size: int) -> Recipe:
        """How examples are made."""
        names = [f.name for f in fields(Recipe)]
        return Recipe(**{name: getattr(self, name) for name in names} | {"batch_size": batch_size})


@dataclass
class Trainer:
    """One training of one encoder on the purchases before a cut: ``run_epoch`` until it is enough."""

    plan: Plan
    purchases: PreparedHistories
    phase: str
    known: ItemIndex
    base: LogitOffset | None = None
    model: TwoTower = field(init=False)
    name: ClassVar[str] = TRAINED

    def __post_init__(self) -> None:
        plan, known = self.plan, self.known
        self.counts, self.features = known.counts, known.features
        if self.counts.examples == 0:
            raise InputError(
                "training needs a user with at least two different items before the as-of date"
                f"{' less train.validation_days' if self.phase == 'validation' else ''}, got none"
            )
        self.model = TwoTower(
            items=len(known.ids),
            dim=plan.dim,
            word_buckets=plan.word_buckets,
            title_words=plan.title_words,
            categories=len(known.categories),
            vector_dim=known.features.vectors.shape[1],
            seed=plan.seed,
            name=self.name,
        )
        self.model.build()
        even = min(max(self.counts.examples // STEPS, SMALLEST), LARGEST)
        self.batch_size = min(plan.batch_size or even, self.counts.examples)
        self.smoothing = self._smoothing()
        base = self.base if plan.svd_share else None
        smoothed = self.smoothing is not None
        self.step = Step(self.model, self.features, plan, self._log_q(), smoothed=smoothed, base=base)

    def _smoothing(self) -> Smoothing | None:
        plan = self.plan
        if not plan.neighbours or not plan.smoothing:
            return None
        sample = next(self.purchases.groups(np.random.default_rng([plan.seed, 0])))
        return Smoothing.over(
            sample,
            self.features.id_rows,
            len(self.known.ids),
            neighbours=plan.neighbours,
            strength=plan.smoothing,
            hops=plan.hops,
        )

    def _log_q(self, hard: np.ndarray | None = None) -> np.ndarray:
        usual = sampling_probabilities(self.counts.targets, self.plan.negative_power), self.plan.negatives
        self._chances, self._draws = usual if hard is None else mixed(*usual, hard, self.plan.hard_negatives)
        return log_inclusion(self.counts.targets, self.batch_size, self._chances, self._draws)

    def _draw_hard(self, epoch: int) -> None:
        """From now on draw negatives that the vectors of now rank high, too."""
        plan, rng = self.plan, np.random.default_rng([self.plan.seed, epoch, 1])
        sides = encode_features(self.model, self.features, 4096)
        how = {name: getattr(plan, name) for name in ("inverse_popularity", "half_life_days", "history_length")}
        self.step.log_q.assign(
            self._log_q(hard_negative_probabilities(next(self.purchases.groups(rng)), *sides, self.counts, rng, **how))
        )

    def batches(self, epoch: int) -> Iterator[dict[str, np.ndarray]]:
        """What the step reads, one epoch of it."""
        plan = self.plan
        rng = np.random.default_rng([plan.seed, epoch])
        cumulative = np.cumsum(self._chances)
        known = self.features.has_content
        recipe = replace(plan.recipe(self.batch_size), negatives=self._draws)
        for group in self.purchases.groups(rng):
            for batch in batches(group, self.counts.buyers, recipe, rng, cumulative):
                for side in ("candidates", "pooled"):
                    items = batch[side]
                    unseen = known[items] & (rng.random(len(items)) < plan.id_dropout)
                    batch[f"{side}_rows"] = np.where(unseen, 0, self.features.id_rows[items])
                if self.smoothing is not None:
                    mix = self.smoothing.of(batch["candidates_rows"])
                    batch |= dict(zip(("mixed_rows", "mix", "mix_shares"), mix, strict=True))
                yield batch

    def run_epoch(self, epoch: int) -> float:
        """Train on every batch once; returns the mean loss. The epoch's number decides order and step size."""
        if self.plan.hard_negatives and epoch > 1:
            self._draw_hard(epoch)
        data = tf.data.Dataset.from_generator(lambda: self.batches(epoch), output_signature=self.step.signature)
        self.step.optimizer.learning_rate.assign(self.plan.learning_rate * self.plan.learning_rate_decay ** (epoch - 1))
        losses = []
        for batch in data.prefetch(2):
            losses.append(self.step(batch))
            progress.advance(f"train: {self.phase} epoch {epoch}", len(batch["target"]), self.counts.examples)
        self.step.publish(self.smoothing)
        return float(np.mean([float(x) for x in losses])) if losses else 0.0

    @property
    def traces(self) -> int:
        """How often the step was compiled."""
        return self.step.traces

    def variables(self) -> list[Any]:
        """What a checkpoint holds: the weights and the optimizer's state."""
        return [*self.model.variables, *self.step.variables]
