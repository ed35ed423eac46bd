"""What a training depends on beside the interactions and the catalogue."""

from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from topkin.config.sections import TrainSettings
from topkin.models.data.histories import PreparedHistories
from topkin.models.data.item_index import ItemIndex


@dataclass(frozen=True, kw_only=True)
class TrainingContext:
    """Settings and seed of one training.

    Args:
        train: section ``[train]``.
        seed: of everything drawn at random.
        recent_days: length in days of the period called recent, ``prepare.recent_days``.
        timed: whether the times of interactions mean something; public splits have none.
    """

    train: TrainSettings
    seed: int
    recent_days: float
    timed: bool = True

    def changed(self, **values: Any) -> "TrainingContext":
        """A copy with other values of some keys, see ``TrainSettings.changed``."""
        return replace(self, train=self.train.changed(**values))

    def untimed(self) -> "TrainingContext":
        """For interactions whose times mean nothing: what goes by time is off, its coordinates go to the SVD block."""
        changed = self.changed(
            half_life_days=None,
            example_half_life_days=None,
            svd_half_life_days=None,
            recency_weight=0.0,
            next_item_dim=0,
            svd_dim=self.train.svd_dim + self.train.next_item_dim,
            validation_cuts=1,
        )
        return replace(changed, timed=False)

    def index(self, purchases: PreparedHistories, catalogue: pa.Table) -> ItemIndex:
        """The items as they were before the cut of ``purchases``."""
        advanced = self.train.advanced
        return ItemIndex.of(
            purchases,
            catalogue,
            recent_days=self.recent_days,
            min_sales=advanced.min_sales,
            word_buckets=advanced.word_buckets,
            title_words=advanced.title_words,
        )
