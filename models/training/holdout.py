"""The encoder of the last validation period, weighed without what it will be judged by: it stands in for tonight's.

Validation makes it anyway: its computed blocks are of the purchases before the last days kept apart, and its
trained blocks saw no others. Tonight's weights were chosen on these very days, so that they cannot be judged on them.
The computed blocks are weighed on the periods before; a trained block, which only the last period has, on one half of
that period's users, and the other half judges. A trained block is taken as it is after the last epoch, not after the
chosen one: that one was chosen by those who judge, and the encoder can only be the better for it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage
from topkin.artifacts.partition import in_first_half
from topkin.models.data.histories import PreparedHistories
from topkin.models.training.assembly import finished
from topkin.models.training.block_kinds import LEARNED, taking_part, trials
from topkin.models.training.context import TrainingContext
from topkin.models.training.feature_trainer import weights_of
from topkin.models.training.lists.repurchase import choose_repurchase_weights
from topkin.models.training.lists.second import Period, Sources, choose_second_stage
from topkin.models.training.profile_trainer import user_rows
from topkin.models.training.selection import (
    DAYS,
    MIN_USERS,
    ValidationPeriods,
    weighed_blocks,
    weight_trials,
    with_trained,
)
from topkin.models.training.trainer import Trainer
from topkin.models.training.validation import BlockWeightSearch, choose
from topkin.models.two_tower import serialization
from topkin.models.two_tower.encoder import Encoder
from topkin.recommend.second.chosen import BLEND, HOLDOUT_JUDGES

NO_TIMES = "the purchases have an order and no times, so that no last days can be held out once more"


@dataclass(frozen=True)
class HeldOut:
    """An encoder of the purchases before a cut.

    Args:
        encoder: it.
        repurchase: the weights of bought items by policy, likewise chosen without what judges.
        blend: likewise, the second stage.
        cut: what came from then on it has not seen.
        days: from the cut to the as-of date.
        periods: earlier periods that weighed the computed blocks; 0 where there was none.
        users: of the last period who chose weights: they are of the first half, see ``partition.in_first_half``, and
            only the second half may judge. 0 where all may.
        as_set: blocks whose weights are those of the settings, since nobody could choose them.
        epoch: of the trained blocks; 0 without one.
    """

    encoder: Encoder
    repurchase: Mapping[str, Mapping[str, float]]
    blend: Mapping[str, Any]
    cut: datetime
    days: float
    periods: int
    users: int
    as_set: tuple[str, ...]
    epoch: int

    def to_json(self) -> dict[str, Any]:
        """What is told of it."""
        record = {name: getattr(self, name) for name in ("days", "periods", "users", "epoch")}
        return {"cut": self.cut.isoformat(), **record, "as_set": list(self.as_set), "reason": None}


def hold_out(
    sources: Sources,
    catalogue: pa.Table,
    periods: ValidationPeriods,
    trainers: Sequence[Trainer],
    *,
    epoch: int,
) -> HeldOut | str:
    """The encoder of the last period.

    Args:
        sources: those of validation, with settings, seed and all interactions before the as-of date.
        catalogue: ``schemas.catalogue``.
        periods: of validation. Their towers become the encoder's, and are changed.
        trainers: of validation, after its last epoch; likewise.
        epoch: how many that were.

    Returns:
        It, or why there is none.
    """
    context, purchases = sources.context, sources.purchases
    if context.by_position:
        return NO_TIMES
    if periods.index is None:
        return _too_few(context, periods)
    last, earlier = periods.searches[0], periods.searches[1:]
    learned, weighed = {kind.name for kind in LEARNED}, weighed_blocks(trainers, last)
    settings, tried = periods.start(context.train), trials(context)
    if earlier:
        alone = {name: setting for name, setting in settings.items() if name not in learned}
        settings |= choose(earlier, alone, tried, errors=periods.errors(earlier))[0]
        tried = []
    tried = [*(trial for trial in tried if trial.block not in weighed), *weight_trials(context, weighed)]
    users, choosing = 0, None
    if tried and (choosing := _of_first_half(with_trained(last, trainers, periods.index), purchases)):
        first = {**settings, **{name: replace(settings[name], weight=0.0) for name in weighed}}
        settings = choose([choosing], first, tried, errors=periods.errors([choosing]))[0]
        users = choosing.cut.known.n_users
    blocks = taking_part(settings)
    examples = [Period(search, periods.days * (number + 2)) for number, search in enumerate(earlier)]
    bought = examples or ([Period(choosing, periods.days)] if choosing else [])
    if choosing and (not examples or any(name in blocks for name in learned)):  # what earlier periods lack
        examples = [Period(choosing, periods.days)]
    elif any(name in blocks for name in learned):
        examples = []
    blend = choose_second_stage(sources, examples, blocks, users=HOLDOUT_JUDGES)
    repurchase = choose_repurchase_weights(sources, bought, blocks, catalogue["category"], blend["weights"])
    towers = {**periods.towers, **{trainer.name: trainer.model for trainer in trainers}}
    towers = {name: tower for name, tower in towers.items() if name in blocks}
    as_set = sorted({trial.block for trial in tried}) if not users else []
    return HeldOut(
        encoder=finished(
            *(context, towers, blocks, periods.index),
            by_sales_first=periods.by_sales,
            profiles=user_rows(trainers),
            purchases=weights_of(trainers),
        ),
        repurchase=repurchase,
        blend=blend,
        cut=purchases.as_of - timedelta(days=periods.days),
        days=periods.days,
        periods=len(earlier),
        users=users,
        as_set=tuple(as_set),
        epoch=epoch,
    )


def _too_few(context: TrainingContext, periods: ValidationPeriods) -> str:
    """Why no encoder stands in for tonight's, and how many nights would help."""
    users = periods.users
    why = (
        f"it takes {MIN_USERS} users who bought something new in the last {periods.days:.3g} days and had bought "
        f"before, {users} did"
    )
    if not 0 < users < MIN_USERS:
        return why
    nights = math.ceil(periods.span * (MIN_USERS / users - 1))  # as many more as the days that count are more
    if periods.span + nights > 4 * (context.train.validation_days or DAYS):
        return why
    return f"{why}; at this rate about {nights:,} more {'night' if nights == 1 else 'nights'} will do"


def _of_first_half(search: BlockWeightSearch, purchases: PreparedHistories) -> BlockWeightSearch | None:
    """The search over the users of the first half; None where either half has too few to choose, or to judge, by."""
    halves = [
        in_first_half(purchases.user_ids(name))[rows]
        for name, rows in zip(purchases.names(), search.cut.rows, strict=True)
    ]
    first = np.concatenate(halves)
    if min(first.sum(), (~first).sum()) < MIN_USERS:
        return None
    users = np.flatnonzero(first)
    lists = {key: best[users] for key, best in search.lists.items()}
    profiles = {name: rows[users] for name, rows in search.profiles.items()}
    return replace(search, cut=search.cut.take(users), lists=lists, profiles=profiles)


def keep(outcome: HeldOut | str, folder: str) -> dict[str, Any]:
    """Write the encoder as ``serialization.save`` does, with the weights of bought items, and say what was written."""
    if isinstance(outcome, str):
        return {"reason": outcome}
    record = outcome.to_json()
    storage.write_json(dict(outcome.repurchase), storage.join(folder, "repurchase.json"))
    storage.write_json(dict(outcome.blend), storage.join(folder, BLEND))
    saved = serialization.save(outcome.encoder, folder, {"holdout": record})
    return {**record, "encoder": saved.hash}


def is_kept(record: Mapping[str, Any], folder: str) -> bool:
    """Whether a folder holds what :func:`keep` said it wrote there."""
    if not folder:
        return not record
    if not record or record["reason"]:
        return bool(record)
    path = storage.join(folder, serialization.SIGNATURE)
    return storage.exists(path) and storage.read_json(path)["encoder"] == record["encoder"]
