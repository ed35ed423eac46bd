"""The training of the block ``profile``, :mod:`topkin.models.objective.profile_step`: its batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa

from topkin.config.sections import TrainSettings
from topkin.encoding.blocks import PROFILE
from topkin.interactions import Interactions
from topkin.linalg.csr import entries_of
from topkin.models.data.feature_rows import FeatureRows
from topkin.models.data.histories import PreparedHistories
from topkin.models.data.item_index import ItemIndex
from topkin.models.data.profiles import Profiles
from topkin.models.objective.profile_step import ProfileStep
from topkin.models.objective.step import Step
from topkin.models.training.batches import example_weights, shared_negatives
from topkin.models.training.context import TrainingContext
from topkin.models.training.feature_trainer import SCALE, FeatureTrainer
from topkin.models.training.trainer import Trainer
from topkin.models.two_tower.towers import TwoTower


@dataclass
class ProfileTrainer(FeatureTrainer):
    """One training of the block of profiles on the purchases before a cut; each is an example."""

    rows: FeatureRows = field(init=False)
    name: ClassVar[str] = PROFILE

    @classmethod
    def of(
        cls, context: TrainingContext, purchases: PreparedHistories, phase: str, index: ItemIndex
    ) -> "ProfileTrainer":
        """See :class:`FeatureTrainer`."""
        counts = replace(index.counts, targets=index.counts.buyers)
        trainer = super().of(context, purchases, phase, replace(index, counts=counts))
        assert isinstance(trainer, cls)
        return trainer

    def users(self, names: list[str]) -> pa.Table:
        """The rows of some parts' users that features are read of, in their order."""
        return pa.concat_tables([self.purchases.user_features(name) for name in names])

    def profiles(self) -> Profiles:
        """What users' features say by now."""
        return Profiles(self.rows, np.asarray(self.model.profiles[0].table))

    def profiles_of(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """The profiles of some rows of each part in order, (n, d) float32."""
        names, profiles = self.purchases.names(), self.profiles()
        taken = [self.users([name]).take(pa.array(some)) for name, some in zip(names, rows, strict=True)]
        return profiles.of(pa.concat_tables(taken))

    def _tower(self) -> TwoTower:
        self.rows = FeatureRows.of(self.users(self.purchases.names()))
        dim = (self.train.user_feature_dim or 0) + 1
        return self._tower_of(dim=dim, unit_out=False, content_scale=SCALE, profile_rows=self.rows.size + 1)

    def _step(self) -> Step:
        rates, log_exposure = self._rates()
        train = self.train
        return ProfileStep(self.model, self.features, train, self._log_q(), rates=rates, log_exposure=log_exposure)

    def batches(self, epoch: int) -> Iterator[dict[str, np.ndarray]]:
        """See :class:`Trainer`."""
        rng = np.random.default_rng([self.context.seed, epoch])
        has_content, dropout = self.features.has_content, self.train.advanced.id_dropout
        cumulative = np.cumsum(self._chances)
        for names, group in self.purchases.named_groups(rng):
            features = self.rows.read(self.users(names))
            drawn = profile_batches(
                *(group, *features, self.train, rng),
                batch_size=self.batch_size,
                cumulative=cumulative,
                negatives=self._draws,
            )
            for batch in drawn:
                items = batch["candidates"]
                unseen = has_content[items] & (rng.random(len(items)) < dropout)
                yield {**batch, "candidates_rows": np.where(unseen, 0, self.features.id_rows[items])}


def user_rows(trainers: Sequence[Trainer]) -> FeatureRows | None:
    """How users' features are read by the one of some trainers that reads them; None where none does."""
    return next((trainer.rows for trainer in trainers if isinstance(trainer, ProfileTrainer)), None)


def profile_batches(
    history: Interactions,
    values: np.ndarray,
    shares: np.ndarray,
    train: TrainSettings,
    rng: np.random.Generator,
    *,
    batch_size: int,
    cumulative: np.ndarray,
    negatives: int,
) -> Iterator[dict[str, np.ndarray]]:
    """One epoch: every distinct purchase is asked for once, all those of a user in one batch, in random order of users.

    A batch has about ``batch_size`` purchases. values, shares: (n_users, w) of ``FeatureRows.read``. The rest, and the
    arrays of a batch, are as of ``batches.batches``; a question is a user, with ``values`` and ``shares`` (q, w).
    """
    distinct = history.distinct()
    lengths = np.diff(distinct.indptr)
    order = rng.permutation(np.flatnonzero(lengths))
    weights = example_weights(distinct, train)
    weights /= max(float(weights.mean()), 1e-30) if len(weights) else 1.0
    ends = np.cumsum(lengths[order])
    number = (ends - 1) // max(batch_size, 1) if len(ends) else ends
    place = np.zeros(distinct.n_items, np.int32)
    for users in np.split(order, np.flatnonzero(np.diff(number)) + 1) if len(order) else []:
        indptr, entries = entries_of(distinct.indptr, users)
        items = distinct.items[entries]
        candidates = np.unique(np.concatenate([items, shared_negatives(cumulative, negatives, rng)]))
        place[candidates] = np.arange(len(candidates), dtype=np.int32)
        question = np.repeat(np.arange(len(users), dtype=np.int32), np.diff(indptr))
        yield {
            "candidates": candidates,
            "target": place[items],
            "question": question,
            "weights": weights[entries],
            "bought": np.column_stack([question, place[items]]),
            "values": values[users],
            "shares": shares[users],
        }
