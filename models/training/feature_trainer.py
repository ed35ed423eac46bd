"""The training of the features block, :mod:`topkin.models.objective.feature_step`: what it begins with."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from topkin.encoding.blocks import FEATURES
from topkin.models.data.histories import PreparedHistories, before_cut
from topkin.models.data.item_index import ItemIndex
from topkin.models.data.purchase_weights import PurchaseWeights
from topkin.models.objective.feature_step import FeatureStep
from topkin.models.objective.step import Step
from topkin.models.training.batches import example_weights
from topkin.models.training.context import TrainingContext
from topkin.models.training.trainer import Trainer
from topkin.models.two_tower.towers import TwoTower

RATE = 1.5  # times train.learning_rate: its logits are sums, not cosines over a temperature
SCALE = 0.2  # of the rows to begin with
_DAYS = 36_600


def weights_of(trainers: Sequence[Trainer]) -> PurchaseWeights | None:
    """What features of purchases say by the one of some trainers that learns it; None where none does."""
    learned = (t.purchase_weights() for t in trainers if isinstance(t, FeatureTrainer))
    return next((weights for weights in learned if weights is not None), None)


class FeatureTrainer(Trainer):
    """One training of the features block on the purchases before a cut."""

    name: ClassVar[str] = FEATURES

    @classmethod
    def of(
        cls, context: TrainingContext, purchases: PreparedHistories, phase: str, index: ItemIndex
    ) -> "FeatureTrainer":
        """With the settings of the trained block where it has none of its own."""
        rate = min(RATE * context.train.learning_rate, 1.0)
        own = context.changed(
            inverse_popularity=0.0, user_power=0.0, neighbours=0, hard_negatives=0, learning_rate=rate
        )
        return cls(own, purchases, phase, index)

    def _tower(self) -> TwoTower:
        dim = (self.train.feature_dim or 0) + 1
        return self._tower_of(dim=dim, unit_out=False, content_scale=SCALE)

    def _rates(self) -> tuple[np.ndarray, np.ndarray]:
        """The items' rates of sales to begin with, and the logs of their exposure, (n_items,) float32."""
        sold, exposure = self._sold_and_exposure()
        usual = sold.sum() / max(exposure.sum(), 1e-9)
        rates = np.log((sold + 1) / (usual * exposure + 1)).astype(np.float32)
        return rates, np.log(np.maximum(exposure, 1e-4)).astype(np.float32)

    def _step(self) -> Step:
        rates, log_exposure = self._rates()
        return FeatureStep(
            self.model,
            self.features,
            self.train,
            self._log_q(),
            rates=rates,
            log_exposure=log_exposure,
            purchase_rows=self.purchases.rows.size if self.purchases.rows else 0,
        )

    def purchase_weights(self) -> PurchaseWeights | None:
        """What features of purchases say by now; None where they have none."""
        gates = self.step.gates if isinstance(self.step, FeatureStep) else []
        if not gates or self.purchases.rows is None:
            return None
        return PurchaseWeights(self.purchases.rows, np.asarray(gates[0].table)[:, 0] * np.r_[0, np.ones(gates[0].rows)])

    def _sold_and_exposure(self) -> tuple[np.ndarray, np.ndarray]:
        """How many examples ask for each item, and the share of all that came after its first sale, (n_items,).

        Examples count as in training, and add up to their number. Without times every item was there from the first.
        """
        n = len(self.purchases.item_ids)
        sold, first, by_day = np.zeros(n), np.full(n, -1.0), np.zeros(_DAYS + 1)
        for name in self.purchases.names():
            history = before_cut(self.purchases.part(name), self.purchases.days).distinct()
            weights = example_weights(history, self.train).astype(np.float64)
            sold += np.bincount(history.items, weights, n)
            np.maximum.at(first, history.items, history.ages)
            by_day += np.bincount(np.clip(history.ages, 0, _DAYS).astype(np.int64), weights, _DAYS + 1)
        total = max(by_day.sum(), 1e-9)
        share = np.minimum(np.cumsum(by_day) / total, 1)[np.clip(first, 0, _DAYS).astype(np.int64)]
        exposure = np.where(first >= 0, share if self.context.timed else 1.0, 0.0)
        return sold * (self.counts.events.sum() / total), exposure
