"""The kinds of block that an encoder may have: what each starts from, what validation tries, how it is made.

A new kind is a class here and an entry in :data:`KINDS`, with its arithmetic in a module of its own; nothing else
tells kinds apart by name. See ``docs/contributing/block.md``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from topkin.config.sections import TrainSettings
from topkin.encoding.blocks import FEATURES, NEXT_ITEM, PROFILE, RECENCY, SVD, TRAINED
from topkin.models.data.histories import PreparedHistories
from topkin.models.data.item_index import ItemIndex
from topkin.models.objective.offsets import LogitOffset
from topkin.models.training.context import TrainingContext
from topkin.models.training.feature_trainer import FeatureTrainer
from topkin.models.training.profile_trainer import ProfileTrainer
from topkin.models.training.trainer import Trainer
from topkin.models.two_tower.encoder import Sides
from topkin.models.two_tower.svd_block import Decomposition, next_item_tower, svd_tower
from topkin.models.two_tower.towers import TwoTower

WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.75, 1.0, 1.4, 2.0, 3.0, 5.0, 8.0, 12.0, 18.0, 27.0, 40.0)
RECENCY_LIFTS = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8)
HALF_LIVES = (None, 180.0, 90.0, 45.0)
HALF_LIVES_BY_POSITION = (None, 20.0, 10.0, 5.0, 2.0)
GATES = (0.0, 1.0)
PRIOR_PURCHASES = (None, 30.0, 10.0, 3.0, 1.0)

Values = Sequence[float | None]


@dataclass(frozen=True)
class BlockHyperparameters:
    """How a block takes part: its weight, the power of recent sales in its lengths, the half-life of its histories.

    And of a profile the purchases beside which it counts half; the power of what purchases' features say, ``gate``.
    """

    weight: float = 1.0
    recency_lift: float = 0.0
    half_life_days: float | None = None
    prior_purchases: float | None = None
    gate: float = 0.0


class Trial(NamedTuple):
    """What validation may change: a block, a field of :class:`BlockHyperparameters`, the values tried."""

    block: str
    field: str
    values: Values


class BlockKind:
    """One kind of block.

    Attributes:
        name: of the block, in files and messages.
        candidate_lifts: powers of recency by which the block's best items become candidates of validation.
        level: whether the last coordinate of its towers is the same for all users, before any rotation.
    """

    name: ClassVar[str]
    candidate_lifts: ClassVar[tuple[float, ...]] = (0.0,)
    level: ClassVar[bool] = False

    def wanted(self, train: TrainSettings) -> bool:
        """Whether the settings ask for this block."""
        raise NotImplementedError

    def start(self, train: TrainSettings) -> BlockHyperparameters:
        """What it starts from, and keeps without a validation."""
        return BlockHyperparameters()

    def tried(self, context: TrainingContext) -> Sequence[tuple[str, Values]]:
        """Field and values that validation tries, before any block's :meth:`tried_recency`."""
        return ()

    def tried_recency(self, context: TrainingContext) -> Sequence[tuple[str, Values]]:
        """Field and values of what recent sales decide; tried only where ``train.recency_weight`` is open."""
        return ()

    def inverse_popularity(self, train: TrainSettings) -> float:
        """The exponent by which the block's histories are weighed."""
        return 0.0


class ComputedBlock(BlockKind):
    """A block computed from one decomposition of the interactions."""

    def tower(self, source: Decomposition) -> TwoTower:
        """Its tables."""
        raise NotImplementedError

    def inverse_popularity(self, train: TrainSettings) -> float:
        """See :class:`BlockKind`."""
        return train.advanced.svd_inverse_popularity


class SvdBlock(ComputedBlock):
    """A truncated singular value decomposition: ``topkin.encoding.svd``."""

    name = SVD
    candidate_lifts = (0.0, 0.65)

    def wanted(self, train: TrainSettings) -> bool:
        """See :class:`BlockKind`."""
        return train.svd_dim > 0

    def tried(self, context: TrainingContext) -> Sequence[tuple[str, Values]]:
        """Half-lives of histories, where there are times or positions."""
        if context.by_position:
            return [("half_life_days", HALF_LIVES_BY_POSITION)]
        return [("half_life_days", HALF_LIVES)] if context.timed else []

    def tried_recency(self, context: TrainingContext) -> Sequence[tuple[str, Values]]:
        """Powers of the recency lift, where there are times."""
        return [("recency_lift", RECENCY_LIFTS)] if context.timed else []

    def tower(self, source: Decomposition) -> TwoTower:
        """See :class:`ComputedBlock`."""
        return svd_tower(source)


class NextItemBlock(ComputedBlock):
    """A ridge regression of the items bought next: ``topkin.models.two_tower.next_item_ridge``."""

    name = NEXT_ITEM

    def wanted(self, train: TrainSettings) -> bool:
        """See :class:`BlockKind`."""
        return train.next_item_dim > 0

    def start(self, train: TrainSettings) -> BlockHyperparameters:
        """See :class:`BlockKind`."""
        return BlockHyperparameters(half_life_days=train.advanced.next_item_half_life_days)

    def tried(self, context: TrainingContext) -> Sequence[tuple[str, Values]]:
        """Weights beside the SVD block; alone it is what others are weighed against."""
        return [("weight", WEIGHTS)] if context.train.svd_dim else []

    def tower(self, source: Decomposition) -> TwoTower:
        """See :class:`ComputedBlock`."""
        return next_item_tower(source)


class TrainedBlock(BlockKind):
    """The two-tower network, learned by gradient descent beside the blocks that :attr:`beside` names."""

    name = TRAINED
    beside: ClassVar[tuple[str, ...]] = (SVD,)

    def wanted(self, train: TrainSettings) -> bool:
        """See :class:`BlockKind`."""
        return train.epochs > 0

    def start(self, train: TrainSettings) -> BlockHyperparameters:
        """See :class:`BlockKind`."""
        return BlockHyperparameters(half_life_days=train.half_life_days)

    def inverse_popularity(self, train: TrainSettings) -> float:
        """See :class:`BlockKind`."""
        return train.advanced.inverse_popularity

    def trainer(
        self,
        context: TrainingContext,
        purchases: PreparedHistories,
        phase: str,
        index: ItemIndex,
        sides: Mapping[str, Sides],
    ) -> Trainer:
        """What trains it. sides: of the blocks that it learns beside, where they are there."""
        exponent = context.train.advanced.svd_inverse_popularity
        base = [
            LogitOffset.of(*sides[name], index.counts.buyers, inverse_popularity=exponent)
            for name in self.beside
            if name in sides
        ]
        return Trainer(context, purchases, phase, index, base[0] if base else None)


class FeaturesBlock(TrainedBlock):
    """What items of such features are bought with, and how well each sells: ``topkin.models.training.feature_trainer``.

    It is learned by itself, for it knows no item but by its content and its rate of sales.
    """

    name = FEATURES
    learns: ClassVar[type[FeatureTrainer]] = FeatureTrainer
    beside: ClassVar[tuple[str, ...]] = ()
    level = True

    def wanted(self, train: TrainSettings) -> bool:
        """See :class:`BlockKind`"""
        return train.epochs > 0 and bool(train.feature_dim)

    def start(self, train: TrainSettings) -> BlockHyperparameters:
        """With what purchases' features say, if they have any: it is learned so."""
        return replace(super().start(train), gate=1.0)

    def inverse_popularity(self, train: TrainSettings) -> float:
        """See :class:`BlockKind`"""
        return 0.0

    def trainer(
        self,
        context: TrainingContext,
        purchases: PreparedHistories,
        phase: str,
        index: ItemIndex,
        sides: Mapping[str, Sides],
    ) -> Trainer:
        """See :class:`TrainedBlock`"""
        return self.learns.of(context, purchases, phase, index)


class ProfileBlock(FeaturesBlock):
    """What users of such features buy: ``topkin.models.training.profile_trainer``. It reads no history."""

    name = PROFILE
    learns = ProfileTrainer

    def wanted(self, train: TrainSettings) -> bool:
        """See :class:`BlockKind`"""
        return train.epochs > 0 and bool(train.user_feature_dim)

    def start(self, train: TrainSettings) -> BlockHyperparameters:
        """See :class:`BlockKind`."""
        return BlockHyperparameters(prior_purchases=10.0)

    def tried(self, context: TrainingContext) -> Sequence[tuple[str, Values]]:
        """How soon purchases outweigh it."""
        return [("prior_purchases", PRIOR_PURCHASES)]


class RecencyBlock(BlockKind):
    """What sells now, the same for every user: ``topkin.models.two_tower.recency_prior``."""

    name = RECENCY

    def wanted(self, train: TrainSettings) -> bool:
        """Always: its weight may be 0."""
        return True

    def start(self, train: TrainSettings) -> BlockHyperparameters:
        """See :class:`BlockKind`."""
        return BlockHyperparameters(weight=train.recency_weight or 0.0)

    def tried_recency(self, context: TrainingContext) -> Sequence[tuple[str, Values]]:
        """Weights."""
        return [("weight", WEIGHTS)]


KINDS: tuple[BlockKind, ...] = (
    SvdBlock(),
    NextItemBlock(),
    TrainedBlock(),
    FeaturesBlock(),
    ProfileBlock(),
    RecencyBlock(),
)
"""Every kind, in the order of a vector's coordinates."""
COMPUTED = tuple(kind for kind in KINDS if isinstance(kind, ComputedBlock))
LEARNED = tuple(kind for kind in KINDS if isinstance(kind, TrainedBlock))


def start(train: TrainSettings) -> dict[str, BlockHyperparameters]:
    """The blocks that the settings ask for, as they are without a validation."""
    return {kind.name: kind.start(train) for kind in KINDS if kind.wanted(train)}


def trials(context: TrainingContext) -> list[Trial]:
    """All that validation may change, in the order in which it is tried."""
    wanted = [kind for kind in KINDS if kind.wanted(context.train)]
    tried = [Trial(kind.name, *trial) for kind in wanted for trial in kind.tried(context)]
    if context.train.recency_weight is None:
        tried += [Trial(kind.name, *trial) for kind in wanted for trial in kind.tried_recency(context)]
    return tried


def gate_trials(context: TrainingContext) -> list[Trial]:
    """Whether what features of purchases say, which the features block learns, counts in other blocks too."""
    if not context.purchase_features or not FeaturesBlock().wanted(context.train):
        return []
    pooled = [kind for kind in KINDS if kind.name not in (FEATURES, PROFILE, RECENCY) and kind.wanted(context.train)]
    return [Trial(kind.name, "gate", GATES) for kind in pooled]


def taking_part(settings: Mapping[str, BlockHyperparameters]) -> dict[str, BlockHyperparameters]:
    """Those of a weight; without the features block nothing says what purchases' features weigh."""
    blocks = {name: setting for name, setting in settings.items() if setting.weight > 0}
    if FEATURES in blocks:
        return blocks
    return {name: replace(setting, gate=0.0) if setting.gate else setting for name, setting in blocks.items()}


def inverse_popularities(train: TrainSettings) -> dict[str, float]:
    """The exponent of each kind by name."""
    return {kind.name: kind.inverse_popularity(train) for kind in KINDS}
