"""The first step of training: which blocks, how they weigh and how many epochs, read off validation.

A stretch before the as-of date is kept apart, a month or as much as leaves most of the log. The computed blocks and the
prior are weighed on several such periods, one before the other; a trained block is judged after each epoch on the last
one, beside them. What does not raise validation by more than its noise is left out.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.config.sections import TrainSettings
from topkin.encoding.blocks import RECENCY
from topkin.errors import ConfigError
from topkin.models.data.histories import ItemCounts, PreparedHistories
from topkin.models.data.item_index import ItemIndex
from topkin.models.training.block_kinds import (
    COMPUTED,
    LEARNED,
    WEIGHTS,
    BlockHyperparameters,
    Trial,
    gate_trials,
    inverse_popularities,
    start,
    taking_part,
    trials,
)
from topkin.models.training.checkpoint import Checkpoint, restore
from topkin.models.training.context import TrainingContext
from topkin.models.training.feature_trainer import weights_of
from topkin.models.training.profile_trainer import ProfileTrainer
from topkin.models.training.trainer import Trainer
from topkin.models.training.validation import (
    METRIC,
    Blocks,
    BlockWeightSearch,
    choose,
    is_better,
    mean_and_error,
    rises,
    sample,
)
from topkin.models.two_tower.encoder import Sides, encode_features
from topkin.models.two_tower.svd_block import decomposition
from topkin.models.two_tower.towers import TwoTower
from topkin.telemetry.freed import give_back

BATCH = 4096  # items encoded at a time
MIN_USERS, SURE_USERS = 20, 100  # fewer of a period choose by chance; fewer who choose must be as sure as INTERVAL
DAYS = 28.0  # of a period of validation, where it leaves enough
LEFT = 0.8  # share of purchases, and of users, that a period chosen here leaves to learn from
LEFT_EARLIER = 0.5  # and all periods together, of purchases
INTERVAL = 1.96  # standard errors of a 95 % interval
BESIDE = 1.0  # weight of what sells beside blocks that nothing could validate
FIRST = 40.0  # weight of recent sales that decides before every other block, the highest that validation tries
VALIDATION, REFIT = "validation", "refit"

Epoch = dict[str, Any]
"""One epoch's record: its number, losses, seconds, and in validation the metric and the blocks."""
OnEpoch = Callable[[str, Epoch], None]


def silent(phase: str, epoch: Epoch) -> None:
    """An :data:`OnEpoch` that does nothing."""


@dataclass(frozen=True)
class Selection:
    """What validation chose.

    Args:
        blocks: hyperparameters of each block that takes part, by name, in the order of the coordinates.
        epochs: passes of the trained block when it is made anew from everything; 0 without one.
        curve: the record of each epoch of validation.
        without_training: the metric on the last period of the computed blocks alone, and the number of periods; of
            positions also the users of the last one.
        stopped: why the epochs of validation ended, or why there was no validation.
        left_out: why a block that was asked for is not there.
        by_sales: the recency block ranks by sales, all and recent, and not by what sells more than it used to.
        interval: 95 % interval over users of the metric of what was chosen; None without a validation.
        judges: what that validation was: its ``users`` and ``days``, or positions.
        by_position: it held out positions.
    """

    blocks: Mapping[str, BlockHyperparameters]
    epochs: int = 0
    curve: tuple[Epoch, ...] = ()
    without_training: Mapping[str, float] = field(default_factory=dict)
    stopped: str = ""
    left_out: str = ""
    by_sales: bool = False
    interval: tuple[float, float] | None = None
    judges: Mapping[str, float] = field(default_factory=dict)
    by_position: bool = False

    @property
    def validation(self) -> float | None:
        """The validation metric of what was chosen; None without a validation."""
        best = best_epoch(self.curve)
        if best and any(kind.name in self.blocks for kind in LEARNED):
            return float(best[f"validation_{METRIC}"])
        return self.without_training.get(METRIC)

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Selection":
        """From :meth:`to_json`."""
        blocks = {name: BlockHyperparameters(**setting) for name, setting in value["blocks"].items()}
        interval = value["interval"] and tuple(value["interval"])
        return cls(**{**value, "blocks": blocks, "curve": tuple(value["curve"]), "interval": interval})


@dataclass(frozen=True)
class ValidationPeriods:
    """The periods that validation judges on, the last first.

    Args:
        days: length of each.
        searches: the computed blocks over each, ready to be weighed.
        index: the items as they were before the last one; None without periods.
        towers: the computed blocks of the last one, by name.
        span: days from the first sale to the as-of date.
        users: whom the last days have to judge by, too few or not, at most ``train.validation_users``.
        by_sales: see :class:`Selection`.
        sparse: hardly an item is bought with another, so that what sells leads unless the whole interval of validation
            says otherwise.
    """

    days: float
    searches: Sequence[BlockWeightSearch]
    index: ItemIndex | None
    towers: Mapping[str, TwoTower] = field(default_factory=dict)
    span: float = 0.0
    users: int = 0
    by_sales: bool = False
    sparse: bool = False

    def errors(self, searches: Sequence[BlockWeightSearch]) -> float:
        """By how many standard errors the users of some must say that a setting is better than a simpler one."""
        users = sum(search.cut.known.n_users for search in searches)
        return INTERVAL if self.sparse or users < SURE_USERS else 1.0

    def start(self, train: TrainSettings) -> dict[str, BlockHyperparameters]:
        """What validation starts from, and what it keeps unless it knows better."""
        settings = start(train)
        return settings | {RECENCY: replace(settings[RECENCY], weight=FIRST)} if self.sparse else settings


def computed_towers(
    context: TrainingContext, purchases: PreparedHistories, index: ItemIndex, names: Sequence[str] | None = None
) -> dict[str, TwoTower]:
    """The towers of the computed blocks that the settings ask for, of the interactions before the cut, by name.

    names: only those of them.
    """
    wanted = [k for k in COMPUTED if k.wanted(context.train) and (names is None or k.name in names)]
    if not wanted:
        return {}
    give_back()
    source = decomposition(context.train, purchases, index, seed=context.seed)
    return {kind.name: kind.tower(source) for kind in wanted}


def validation_periods(
    context: TrainingContext, purchases: PreparedHistories, catalogue: pa.Table
) -> ValidationPeriods:
    """The periods with users to judge by, at most ``validation_cuts``; none where there is nothing to choose."""
    train, purchases = context.train, context.validated(purchases)
    span = _span(purchases, catalogue)
    known = int(pc.sum(catalogue["events"]).as_py() or 0)
    days = train.validation_days or 0.0
    if not context.by_position:
        days = min(days, span / 4) if days else validation_days(purchases, span)
    searches: list[BlockWeightSearch] = []
    last: ItemIndex | None = None
    towers_of_last: dict[str, TwoTower] = {}
    users, sparse = 0, False
    if not nothing_to_choose(context):
        computed = any(kind.wanted(train) for kind in COMPUTED)
        for number in range(train.advanced.validation_cuts if computed else 1):
            if days * (number + 2) > max(span, 2 * days):
                break
            before = replace(purchases, days=days * (number + 1))
            index = context.index(before, catalogue)
            if number and index.counts.events.sum() < LEFT_EARLIER * known:
                break
            cut = sample(before, index.counts, train.validation_users, context.seed, until=days * number)
            users = users if number else cut.known.n_users if cut else 0
            if cut is None or cut.known.n_users < MIN_USERS or index.counts.examples == 0:
                break
            sparse = sparse if number else hardly_together(context, index.counts)
            towers = computed_towers(context, before, index)
            many, by_sales = purchases.workers is not None, context.by_position or sparse
            sides = {n: encode_features(tower, index.features, BATCH, disk=many) for n, tower in towers.items()}
            searches.append(BlockWeightSearch(cut, sides, inverse_popularities(train), by_sales=by_sales))
            if last is None:
                last, towers_of_last = index, towers
    return ValidationPeriods(days, searches, last, towers_of_last, span, users, context.by_position or sparse, sparse)


def hardly_together(context: TrainingContext, counts: ItemCounts) -> bool:
    """Whether fewer than half of the purchases stand beside another item of their user; see docs/decisions.

    Then what a few users bought together would lead the lists of all, where ``train.recency_weight`` leaves it open.
    """
    computed = any(kind.wanted(context.train) for kind in COMPUTED)
    few = bool(counts.examples < 0.5 * counts.buyers.sum())
    return few and computed and context.train.recency_weight is None


def validation_days(purchases: PreparedHistories, span: float) -> float:
    """How long a period of validation is where no setting says so: ``DAYS``, or as many as leave enough.

    That is a quarter of the time at most, and no more than leaves LEFT of the purchases, and of the users one purchase
    each; to the hour.

    Args:
        purchases: all interactions before the as-of date.
        span: days from the first one to that date.
    """
    most = min(DAYS, span / 4)
    hours = np.arange(int(most * 24) + 1)
    bought, came = np.zeros(len(hours) + 1, np.int64), np.zeros(len(hours) + 1, np.int64)
    for name in purchases.names():
        part = purchases.part(name)
        at = np.minimum(np.maximum(part.ages, 0) * 24, len(hours)).astype(np.int64)
        bought += np.bincount(at, minlength=len(bought))
        first = part.indptr[:-1][np.diff(part.indptr) > 0]  # of each user, for histories are in the order of time
        came += np.bincount(at[first], minlength=len(came))
    enough = [np.cumsum(counts)[:-1] <= (1 - LEFT) * max(counts.sum(), 1) for counts in (bought, came)]
    fits = int((enough[0] & enough[1]).sum())  # so many first hours leave enough
    return most if fits == len(hours) else max(fits, 1) / 24


def validation_trainers(
    context: TrainingContext, purchases: PreparedHistories, periods: ValidationPeriods
) -> list[Trainer]:
    """What trains the blocks that the settings ask for on all but the last period; none without periods."""
    if periods.index is None:
        return []
    before = replace(context.validated(purchases), days=periods.days)
    return trainers_of(context, before, VALIDATION, periods.index, periods.searches[0].sides, start(context.train))


def nothing_to_choose(context: TrainingContext) -> bool:
    """Whether the settings leave one encoder: computed, of interactions without times."""
    learned = any(kind.wanted(context.train) for kind in LEARNED)
    return not context.timed and not learned and not trials(context)


def select(
    context: TrainingContext,
    purchases: PreparedHistories,
    catalogue: pa.Table,
    periods: ValidationPeriods | None = None,
    trainers: Sequence[Trainer] | None = None,
    *,
    checkpoint: Checkpoint | None = None,
    on_epoch: OnEpoch = silent,
) -> Selection:
    """Choose blocks, their hyperparameters and the epochs on validation.

    Args:
        context: settings and seed; with the data they decide the selection.
        purchases: all interactions before the as-of date (``days`` 0).
        catalogue: ``schemas.catalogue``.
        periods: of :func:`validation_periods`, where the caller has them.
        trainers: of :func:`validation_trainers`, likewise; they are left as they are after the last epoch.
        checkpoint: where each epoch is kept; one of the same training is gone on from.
        on_epoch: called with each new epoch's record.

    Raises:
        InputError: no user has two different items.
        ConfigError: the loss is not finite.
    """
    settings, purchases = start(context.train), context.validated(purchases)
    if nothing_to_choose(context):
        stopped = "no validation: a closed form without times leaves nothing to choose"
        return Selection({name: setting for name, setting in settings.items() if setting.weight}, stopped=stopped)
    periods = periods or validation_periods(context, purchases, catalogue)
    if periods.index is None:
        return _unvalidated(context, purchases, catalogue)
    settings, last, tried = periods.start(context.train), periods.searches[0], trials(context)
    without_training: dict[str, float] = {}
    if last.sides:
        learned = {kind.name for kind in LEARNED}
        alone = {name: setting for name, setting in settings.items() if name not in learned}
        chosen, _ = choose(periods.searches, alone, tried, errors=periods.errors(periods.searches))
        settings = {**settings, **chosen}
        value, error = mean_and_error([last.values(chosen)])
        without_training = {METRIC: value, "error": error, "periods": len(periods.searches)}
    curve: list[Epoch] = []
    stopped = left_out = ""
    if any(kind.wanted(context.train) for kind in LEARNED):
        if trainers is None:
            trainers = validation_trainers(context, purchases, periods)
        weighed = weighed_blocks(trainers, last)
        tried = [*([] if last.sides else tried), *weight_trials(context, weighed)]
        first = {**settings, **{name: replace(settings[name], weight=0.0) for name in weighed}}
        judge = _Judge(periods.index, last, first, tried, periods.errors([last]))
        stopped = _train(context, trainers, judge, curve, checkpoint or Checkpoint("", ""), on_epoch)
        if best := best_epoch(curve):
            settings = {name: BlockHyperparameters(**setting) for name, setting in best["blocks"].items()}
            left_out = "; ".join(
                f"the {name} block did not raise the validation's {METRIC} by more than its noise: it is left out"
                for name in weighed
                if not settings[name].weight
            )
    blocks = taking_part(settings)
    best, trained = best_epoch(curve), any(kind.name in blocks for kind in LEARNED)
    value, error = without_training.get(METRIC, 0.0), without_training.get("error", 0.0)
    if best and (trained or not without_training):
        value, error = best[f"validation_{METRIC}"], best["validation_error"]
    return Selection(
        blocks,
        best["epoch"] if best and trained else 0,
        tuple(curve),
        without_training,
        stopped,
        left_out,
        by_sales=periods.by_sales,
        interval=(max(value - INTERVAL * error, 0.0), value + INTERVAL * error),
        judges={"users": last.cut.known.n_users, "days": periods.days},
        by_position=context.by_position,
    )


def _unvalidated(context: TrainingContext, purchases: PreparedHistories, catalogue: pa.Table) -> Selection:
    """What is safe where nothing can be validated: nothing is trained, what sells counts as much as the closed form.

    Where hardly an item is bought with another what sells comes first; see docs/decisions. ``train.recency_weight`` set
    by hand keeps all settings as they are.
    """
    settings, counts = start(context.train), context.index(replace(purchases, days=0.0), catalogue).counts
    last = "at their last position" if context.by_position else "in the last days (train.validation_days)"
    stopped = f"no validation: fewer than {MIN_USERS} users bought before and something new {last}"
    computed = {kind.name: settings[kind.name] for kind in COMPUTED if kind.name in settings}
    if not computed or (counts.examples and context.train.recency_weight is not None):
        return Selection(settings, epochs=context.train.epochs, stopped=stopped, by_sales=context.by_position)
    if hardly_together(context, counts) or not counts.examples:
        weight, left_out = FIRST, "hardly an item is bought with another, so that the lists are led by what sells"
    else:
        weight, left_out = BESIDE, "nothing is trained, and what sells counts as much as who bought what"
    safe = {**computed, RECENCY: replace(settings[RECENCY], weight=weight)}
    return Selection(safe, stopped=stopped, left_out=left_out, by_sales=True)


def weighed_blocks(trainers: Sequence[Trainer], search: BlockWeightSearch) -> list[str]:
    """The trained blocks that get a weight beside others.

    Computed blocks keep their settings beside trained ones; without any, the first trained one is what others weigh
    against.
    """
    return [trainer.name for trainer in (trainers if search.sides else trainers[1:])]


def weight_trials(context: TrainingContext, names: Sequence[str]) -> list[Trial]:
    """What validation tries of trained blocks beside others: their weights, then what else is theirs alone."""
    own = [trial for trial in trials(context) if trial.block in names]
    return [*(Trial(name, "weight", WEIGHTS) for name in names), *own, *gate_trials(context)]


def with_trained(blocks: Blocks, trainers: Sequence[Trainer], index: ItemIndex) -> Blocks:
    """The same users and computed blocks, with the trained blocks as they are now."""
    sides = {t.name: encode_features(t.model, index.features, BATCH) for t in trainers}
    profiles = {t.name: t.profiles_of(blocks.cut.rows) for t in trainers if isinstance(t, ProfileTrainer)}
    cut, weights = blocks.cut, weights_of(trainers)
    if weights is not None and cut.known.features is not None:
        cut = replace(cut, known=replace(cut.known, log_weights=weights.logs(cut.known.features)))
    return replace(blocks, cut=cut, sides={**blocks.sides, **sides}, profiles=profiles)


@dataclass(frozen=True)
class _Judge:
    """What a state of the trained blocks is worth beside the computed ones on the last period."""

    index: ItemIndex
    search: BlockWeightSearch
    first: Mapping[str, BlockHyperparameters]
    tried: Sequence[Trial]
    errors: float

    def __call__(self, trainers: Sequence[Trainer]) -> tuple[Epoch, np.ndarray]:
        """What is recorded of it, and the metric of each user by the best weights: simpler ones move by chance."""
        began = time.perf_counter()
        search = with_trained(self.search, trainers, self.index)
        chosen, (best,) = choose([search], self.first, self.tried, errors=self.errors)
        value, error = mean_and_error([search.values(chosen)])
        epoch = {
            f"validation_{METRIC}": value,
            "validation_error": error,
            f"best_{METRIC}": float(best.mean()),
            "blocks": {name: asdict(setting) for name, setting in chosen.items()},
            "validation_seconds": round(time.perf_counter() - began, 3),
        }
        return epoch, best


def _train(
    context: TrainingContext,
    trainers: Sequence[Trainer],
    judge: _Judge,
    curve: list[Epoch],
    checkpoint: Checkpoint,
    on_epoch: OnEpoch,
) -> str:
    """Train until validation has seen enough; fills in the curve, returns why it ended."""
    state, values = checkpoint.read() or ({"phase": VALIDATION, "curve": []}, [])
    best = np.zeros(0)
    if state["phase"] == VALIDATION and values:
        curve += state["curve"]
        best = np.array(state["best"])
        restore(variables_of(trainers), values)
        for epoch in curve:
            on_epoch(VALIDATION, numbers_of(epoch))
    while not (stopped := _stopped(context, curve)):
        epoch = run_epoch(trainers, len(curve) + 1)
        judged, own = judge(trainers)
        better = is_better(own, best) if curve else True
        best = own if better else best
        curve.append({**epoch, **judged, "better": better})
        on_epoch(VALIDATION, numbers_of(epoch))
        checkpoint.write({"phase": VALIDATION, "curve": curve, "best": best.tolist()}, variables_of(trainers))
    return stopped


def numbers_of(epoch: Epoch) -> Epoch:
    """What of an epoch's record is a number."""
    return {name: value for name, value in epoch.items() if name not in ("blocks", "better")}


def best_epoch(curve: Sequence[Epoch]) -> Epoch | None:
    """The last epoch that was better than the best one before it by more than its noise; None without one.

    Users are compared one by one with themselves, so that the noise is that of the difference. A training that is flat
    from its first epoch on is over after it.
    """
    return next((epoch for epoch in reversed(curve) if epoch["better"]), None)


def _stopped(context: TrainingContext, curve: Sequence[Epoch]) -> str:
    """Why validation has seen enough, or the empty string: patience ends no curve that rises since its best."""
    best = best_epoch(curve)
    since = curve[best["epoch"] - 1 :] if best else ()
    if len(since) > context.train.patience and not rises([epoch[f"best_{METRIC}"] for epoch in since]):
        return "patience"
    return "epochs" if len(curve) >= context.train.epochs else ""


def trainers_of(
    context: TrainingContext,
    purchases: PreparedHistories,
    phase: str,
    index: ItemIndex,
    sides: Mapping[str, Sides],
    names: Mapping[str, BlockHyperparameters],
) -> list[Trainer]:
    """One for each block among the names that is trained: all go through an epoch before the next one."""
    return [kind.trainer(context, purchases, phase, index, sides) for kind in LEARNED if kind.name in names]


def run_epoch(trainers: Sequence[Trainer], number: int) -> Epoch:
    """An epoch of each block: its number, the losses (``loss`` that of the first block) and seconds.

    Raises:
        ConfigError: a loss is not finite.
    """
    began, losses = time.perf_counter(), {}
    for place, trainer in enumerate(trainers):
        loss = trainer.run_epoch(number)
        if not math.isfinite(loss):
            raise ConfigError(
                f"the loss must stay finite, got {loss} in epoch {number}: lower train.learning_rate, "
                f"which is {trainer.train.learning_rate}, or raise train.advanced.temperature"
            )
        losses[f"{trainer.name}_loss" if place else "loss"] = loss
    return {"epoch": number, **losses, "seconds": round(time.perf_counter() - began, 3)}


def variables_of(trainers: Sequence[Trainer]) -> list[keras.Variable]:
    """What a checkpoint keeps of them."""
    return [variable for trainer in trainers for variable in trainer.variables()]


def _span(purchases: PreparedHistories, catalogue: pa.Table) -> float:
    """Days from the first sale to the as-of date."""
    first = pc.min(catalogue["first_sale"]).as_py()
    return float((purchases.as_of - first) / timedelta(days=1)) if first is not None else 0.0
