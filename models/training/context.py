"""What a training depends on beside the interactions and the catalogue."""

from dataclasses import dataclass, replace

import pyarrow as pa

from topkin.config.sections import Settings, TrainSettings
from topkin.models.data.histories import PreparedHistories
from topkin.models.data.item_index import ItemIndex
from topkin.models.data.positions import PositionHistories

UNTIMED_DAYS = 28.0
"""A period of validation of interactions without times, as ``data.in_memory`` spreads them: a fifth of them."""


@dataclass(frozen=True, kw_only=True)
class TrainingContext:
    """Settings and seed of one training.

    Args:
        train: section ``[train]``.
        seed: of everything drawn at random.
        recent_days: length in days of the period called recent, ``prepare.recent_days``.
        timed: whether the times of interactions mean something; public splits have none.
        by_position: whether times stand for positions in each user's order, see ``topkin.ingest.positions``.
        sources: names of the sources that may stand beside the encoder, ``recommend.sources``.
        neighbours: theirs, ``evaluate.neighbours``.
        purchase_features: whether purchases have features, by which they may weigh.
    """

    train: TrainSettings
    seed: int
    recent_days: float
    timed: bool = True
    by_position: bool = False
    sources: tuple[str, ...] = ()
    neighbours: int = 100
    purchase_features: bool = False

    @classmethod
    def of(cls, settings: Settings, **changes: object) -> "TrainingContext":
        """The context that settings ask for, with other values of some keys of ``[train]``."""
        dims = {"feature_dim": settings.feature_dim, "user_feature_dim": settings.user_feature_dim}
        train = settings.train.changed(**{**dims, **changes})
        context = cls(
            train=train,
            seed=settings.run.seed,
            recent_days=settings.prepare.recent_days,
            sources=settings.recommend.sources if settings.recommend.baseline is None else (),
            neighbours=settings.evaluate.neighbours,
            purchase_features=bool(settings.purchases.features),
        )
        return context if settings.timed else context.positional()

    def changed(self, **values: object) -> "TrainingContext":
        """A copy with other values of some keys, see ``TrainSettings.changed``."""
        return replace(self, train=self.train.changed(**values))

    def positional(self) -> "TrainingContext":
        """For times that stand for positions: what goes by time is off, and what sells at all stands for what does now.

        Validation is by position: on each user's last one, and on those before it.
        """
        weight = self.train.recency_weight
        changed = self.untimed().changed(
            recency_weight=weight, validation_cuts=self.train.advanced.validation_cuts, validation_days=1
        )
        return replace(changed, by_position=True)

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
            validation_days=self.train.validation_days or UNTIMED_DAYS,
        )
        return replace(changed, timed=False)

    def validated(self, purchases: PreparedHistories) -> PreparedHistories:
        """The interactions as validation parts them: by their ages, or by positions of some users."""
        if not self.by_position or isinstance(purchases, PositionHistories):
            return purchases
        return PositionHistories.of(purchases, self.seed)

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
