"""Making the encoder: what its blocks are worth is read off validation, then all purchases count.

First the last ``validation_days`` are kept apart. The closed form and the prior are weighed on several such
periods, one before the other; the trained blocks are judged after each epoch on the last one, beside them. What
does not raise validation is left out. Then each block is made anew from everything.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import vocabulary_hash
from topkin.encoding.blocks import NEXT_ITEM, RECENCY, SEQUENCE, SVD, TRAINED, Block, rotation
from topkin.encoding.user_embeddings import UserRows
from topkin.errors import ConfigError
from topkin.models.data.histories import PreparedHistories
from topkin.models.data.item_index import ItemIndex
from topkin.models.objective.offsets import LogitOffset
from topkin.models.training.checkpoint import Checkpoint, restore
from topkin.models.training.sequence import SequenceTrainer
from topkin.models.training.trainer import Plan, Trainer
from topkin.models.training.validation import (
    HALF_LIVES,
    METRIC,
    RECENCY_LIFTS,
    WEIGHTS,
    BlockHyperparameters,
    BlockWeightSearch,
    choose,
    repurchase_case,
    sample,
)
from topkin.models.two_tower.encoder import Encoder, Sides, assembled, encode_features
from topkin.models.two_tower.recency_prior import fitted, recency_lift
from topkin.models.two_tower.svd_block import computed_towers
from topkin.models.two_tower.towers import SequenceTower, Towers, TwoTower
from topkin.recommend.repurchase import tuning as repurchase

_BATCH = 4096
CLOSE = 0.02


@dataclass
class Progress:
    """What training has found out so far; ``training.json`` in the end.

    blocks: the setting of each block that takes part, by name. closed: the validation metric without a trained
    block, on the last period. repurchase: the weights of bought items by policy, see
    ``topkin.recommend.repurchase``; empty
    without a validation. stopped: why the epochs ended. left_out: why a block that was asked for is not there.
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    refit: list[dict[str, Any]] = field(default_factory=list)
    blocks: dict[str, dict[str, Any]] = field(default_factory=dict)
    without_training: dict[str, Any] = field(default_factory=dict)
    repurchase: dict[str, dict[str, float]] = field(default_factory=dict)
    stopped: str = ""
    left_out: str = ""

    @property
    def best(self) -> dict[str, Any] | None:
        """The last epoch whose validation metric is no more than ``CLOSE`` below the highest.

        Steps get smaller from one epoch to the next, so that later epochs even noise out; a validation of some
        thousand users tells no smaller differences.
        """
        measured = [e for e in self.epochs if f"validation_{METRIC}" in e]
        highest = max((e[f"validation_{METRIC}"] for e in measured), default=0.0)
        close = [e for e in measured if e[f"validation_{METRIC}"] >= (1 - CLOSE) * highest]
        return close[-1] if close else None

    @property
    def reached(self) -> float | None:
        """The validation metric of the encoder that was chosen, if there was a validation."""
        if {TRAINED, SEQUENCE} & set(self.blocks) and self.best:
            return float(self.best[f"validation_{METRIC}"])
        return self.without_training.get(METRIC)

    def to_json(self) -> dict[str, Any]:
        """With ``best_epoch`` beside the fields."""
        return {**asdict(self), "best_epoch": self.best["epoch"] if self.best else len(self.refit)}


def fit(
    plan: Plan,
    purchases: PreparedHistories,
    catalogue: pa.Table,
    *,
    scratch: str = "",
    on_epoch: Callable[[str, dict[str, Any]], None] = lambda phase, epoch: None,
) -> tuple[Encoder, Progress]:
    """Make an encoder; the same plan, purchases and catalogue give the same weights on one machine.

    purchases: all before the as-of date (``days`` 0). catalogue: ``schemas.catalogue``. scratch: a folder for
    the checkpoint of each epoch; what one finds there of the same training goes on. on_epoch is told every
    epoch once, those of a resumed training too. Raises InputError where no user has two different items.
    """
    checkpoint = Checkpoint(scratch, _key(plan, purchases, catalogue))
    found = checkpoint.read()
    state, values = found if found is not None else ({"phase": "validation"}, [])
    done = Progress(**state.get("progress", {}))
    for phase, epochs in (("validation", done.epochs), ("refit", done.refit)):
        for epoch in epochs:
            on_epoch(phase, epoch)
    if state["phase"] == "validation":
        _validate(plan, purchases, catalogue, done, values, checkpoint, on_epoch)
        values = []
    everything = replace(purchases, days=0.0)
    known = plan.known(everything, catalogue)
    towers: dict[str, TwoTower] = {}
    if {SVD, NEXT_ITEM} & set(done.blocks):
        computed = computed_towers(plan, everything, known)
        towers = {name: tower for name, tower in computed.items() if name in done.blocks}
    beside = {SVD, TRAINED} <= set(done.blocks)
    closed = encode_features(towers[SVD], known.features, _BATCH) if beside else None
    trainers = _trainers(plan, everything, "refit", known, closed, done.blocks)
    _restore(trainers, values)
    wanted = done.best["epoch"] if done.best else _most_epochs(plan)
    while trainers and len(done.refit) < min(wanted, max(t.epochs for t in trainers)):
        done.refit.append(_epoch(trainers, len(done.refit) + 1))
        on_epoch("refit", done.refit[-1])
        checkpoint.write({"phase": "refit", "progress": asdict(done)}, _variables(trainers))
    towers |= {trainer.name: trainer.model for trainer in trainers}
    users = next((trainer.askers.known() for trainer in trainers if trainer.askers is not None), None)
    return finished(
        plan, towers, {name: BlockHyperparameters(**s) for name, s in done.blocks.items()}, known, users
    ), done


def judge(plan: Plan, purchases: PreparedHistories, catalogue: pa.Table) -> Progress:
    """What :func:`fit` finds out on validation, without making the encoder: for comparing plans."""
    done = Progress()
    _validate(plan, purchases, catalogue, done, [], Checkpoint("", ""), lambda phase, epoch: None)
    return done


def finished(
    plan: Plan,
    towers: dict[str, TwoTower],
    settings: dict[str, BlockHyperparameters],
    known: ItemIndex,
    users: UserRows | None = None,
) -> Encoder:
    """The encoder of some blocks: rotated, so that coordinates do not covary, with their variances over what sold.

    users: rows of users' own, where the trained block has some.
    """
    counts = known.counts
    sold = counts.events > 0
    prior, lately = fitted(counts.recent, counts.events), recency_lift(counts.recent, counts.events)
    blocks, sides = [], []
    for name, tower in towers.items():
        setting = settings[name]
        lengths = (lately**setting.recency_lift).astype(np.float32)[:, None]
        out, _ = encode_features(tower, known.features, _BATCH)
        turned = rotation((out * lengths)[sold])[0]
        tower.rotate(turned)
        if name == TRAINED and users is not None:
            users = users.turned(turned)
        sides.append(encode_features(tower, known.features, _BATCH))
        spread = (sides[-1][0] * lengths)[sold].var(axis=0, dtype=np.float64)
        blocks.append(
            Block(
                name=name,
                dim=tower.dim,
                weight=setting.weight,
                inverse_popularity=_inverse_popularities(plan)[name],
                half_life_days=setting.half_life_days,
                recency_lift=setting.recency_lift,
                spread=tuple(spread.tolist()),
            )
        )
    if RECENCY in settings:
        spread = prior.scaled(counts.recent, counts.events)[sold].var(dtype=np.float64)
        weight = settings[RECENCY].weight
        blocks.append(
            Block(
                name=RECENCY, dim=1, weight=weight, inverse_popularity=0, half_life_days=None, spread=(float(spread),)
            )
        )
    out, _ = assembled(sides, blocks, prior, counts.recent.astype(float), counts.events.astype(float))
    meaning = {
        "blocks": [block.to_json() for block in blocks],
        "recency": prior.to_json(),
        "reach": max(float(np.linalg.norm(out.astype(np.float64), axis=1).max(initial=0)), 1e-9),
        "categories": list(known.categories),
        "vocabulary": vocabulary_hash(known.ids),
    }
    if users is not None:
        meaning["user_rows"] = users.sha256
    model = Towers(list(towers.values()), meaning=meaning, name="encoder")
    model.build()
    return Encoder(model, known.ids, users=users)


def _validate(
    plan: Plan,
    purchases: PreparedHistories,
    catalogue: pa.Table,
    done: Progress,
    values: list[Any],
    checkpoint: Checkpoint,
    on_epoch: Callable[[str, dict[str, Any]], None],
) -> None:
    """Fill in ``done``: the blocks and their settings, and how many epochs."""
    settings = _start(plan)
    if not plan.timed and set(settings) == {SVD, RECENCY}:
        done.stopped = "no validation: a closed form without times leaves nothing to choose"
        done.blocks = {SVD: asdict(settings[SVD])}
        return
    days = min(plan.validation_days, _span(purchases, catalogue) / 4)
    contests, knowns = [], []
    closed_form = {SVD, NEXT_ITEM} & set(settings)
    for number in range(plan.validation_cuts if closed_form else 1):
        if days * (number + 2) > max(_span(purchases, catalogue), 2 * days):
            break
        before = replace(purchases, days=days * (number + 1))
        known = plan.known(before, catalogue)
        cut = sample(before, known.counts, plan.validation_users, plan.seed, until=days * number)
        if cut is None or known.counts.examples == 0:
            break
        sides = {}
        if closed_form:
            for name, tower in computed_towers(plan, before, known).items():
                sides[name] = encode_features(tower, known.features, _BATCH)
        contests.append(BlockWeightSearch(cut, sides, _inverse_popularities(plan)))
        knowns.append(known)
    if not contests:
        done.stopped = "no validation: too little was bought before and in the last train.validation_days"
        done.blocks = {name: asdict(setting) for name, setting in settings.items()}
        return
    tried = _tried(plan)
    if closed_form:
        alone = {name: setting for name, setting in settings.items() if name not in (TRAINED, SEQUENCE)}
        chosen, _ = choose(contests, alone, tried)
        settings = {**settings, **chosen}
        done.without_training = {METRIC: contests[0].value(chosen), "periods": len(contests)}
    if {TRAINED, SEQUENCE} & set(settings):
        settings = _validate_training(
            plan, replace(purchases, days=days), knowns[0], contests[0], settings, done, values, checkpoint, on_epoch
        )
    done.blocks = {name: asdict(setting) for name, setting in settings.items() if setting.weight > 0}
    # What a user buys again hardly depends on the encoder: the blocks that every cut has are enough beside it.
    cases = [repurchase_case(contest, settings, catalogue["category"]) for contest in contests]
    if found := [case for case in cases if case is not None]:
        done.repurchase = repurchase.chosen(found)


def _validate_training(
    plan: Plan,
    purchases: PreparedHistories,
    known: ItemIndex,
    contest: BlockWeightSearch,
    settings: dict[str, BlockHyperparameters],
    done: Progress,
    values: list[Any],
    checkpoint: Checkpoint,
    on_epoch: Callable[[str, dict[str, Any]], None],
) -> dict[str, BlockHyperparameters]:
    """Train until validation has seen enough; returns the settings at the best epoch."""
    trainers = _trainers(plan, purchases, "validation", known, contest.sides.get(SVD), settings)
    _restore(trainers, values)
    # Beside a closed form all that was found there stays; alone, the first block is what others are weighed against.
    beside = bool({SVD, NEXT_ITEM} & set(settings))
    weighed = [trainer.name for trainer in trainers[0 if beside else 1 :]]
    tried = [*([] if beside else _tried(plan)), *((name, "weight", WEIGHTS) for name in weighed)]
    start = {**settings, **{name: replace(settings[name], weight=0.0) for name in weighed}}
    while not (stopped := _stopped(plan, done)):
        epoch = _epoch(trainers, len(done.epochs) + 1)
        began = time.perf_counter()
        sides: dict[str, Sides] = {t.name: encode_features(t.model, known.features, _BATCH) for t in trainers}
        network = next((t.model.network for t in trainers if isinstance(t.model, SequenceTower)), None)
        own = next((t.askers.learned(contest.cut.users) for t in trainers if t.askers is not None), None)
        both = {**contest.sides, **sides}
        judge = BlockWeightSearch(
            contest.cut, both, contest.inverse_popularity, network, own, lists=dict(contest.lists)
        )
        chosen, value = choose([judge], start, tried)
        epoch |= {f"validation_{METRIC}": value, "blocks": {name: asdict(s) for name, s in chosen.items()}}
        epoch["validation_seconds"] = round(time.perf_counter() - began, 3)
        done.epochs.append(epoch)
        on_epoch("validation", {k: v for k, v in epoch.items() if k != "blocks"})
        checkpoint.write({"phase": "validation", "progress": asdict(done)}, _variables(trainers))
    done.stopped = stopped
    best = done.best
    if best is None:
        return settings
    done.left_out = "; ".join(
        f"the {name} block did not raise the validation's {METRIC}: it is left out"
        for name in weighed
        if best["blocks"][name]["weight"] == 0
    )
    return {name: BlockHyperparameters(**setting) for name, setting in best["blocks"].items()}


def _start(plan: Plan) -> dict[str, BlockHyperparameters]:
    """The blocks that the plan asks for, in the order of their coordinates, as they are without a validation."""
    settings = {}
    if plan.svd_dim:
        settings[SVD] = BlockHyperparameters()
    if plan.next_item_dim:
        settings[NEXT_ITEM] = BlockHyperparameters(half_life_days=plan.next_item_half_life_days)
    if plan.epochs:
        settings[TRAINED] = BlockHyperparameters(half_life_days=plan.half_life_days)
    if plan.sequence_dim:
        settings[SEQUENCE] = BlockHyperparameters()
    return {**settings, RECENCY: BlockHyperparameters(weight=plan.recency_weight or 0.0)}


def _tried(plan: Plan) -> list[tuple[str, str, Any]]:
    """What validation may change, and to which values."""
    tried: list[tuple[str, str, Any]] = []
    if plan.svd_dim:
        tried += [(SVD, "half_life_days", HALF_LIVES if plan.timed else (None,)), (NEXT_ITEM, "weight", WEIGHTS)]
    if plan.recency_weight is None:
        tried += [(SVD, "recency_lift", RECENCY_LIFTS), (RECENCY, "weight", WEIGHTS)]
    return tried


def _trainers(
    plan: Plan, purchases: PreparedHistories, phase: str, known: ItemIndex, closed: Sides | None, names: Iterable[str]
) -> list[Trainer]:
    """One for each block among the names that is trained: all go through an epoch before the next one."""
    made: list[Trainer] = []
    if TRAINED in names:
        made.append(Trainer(plan, purchases, phase, known, _base(plan, closed, known)))
    if SEQUENCE in names:
        made.append(SequenceTrainer(plan, purchases, phase, known))
    return made


def _base(plan: Plan, closed: Sides | None, known: ItemIndex) -> LogitOffset | None:
    """What the trained block learns beside, or None without a closed form."""
    return (
        LogitOffset.of(*closed, known.counts.buyers, inverse_popularity=plan.svd_inverse_popularity)
        if closed is not None
        else None
    )


def _inverse_popularities(plan: Plan) -> dict[str, float]:
    return {
        SVD: plan.svd_inverse_popularity,
        NEXT_ITEM: plan.svd_inverse_popularity,
        TRAINED: plan.inverse_popularity,
        SEQUENCE: 0.0,
    }


def _span(purchases: PreparedHistories, catalogue: pa.Table) -> float:
    """Days from the first sale to the as-of date."""
    first = pc.min(catalogue["first_sale"]).as_py()
    return (purchases.as_of - first) / timedelta(days=1) if first is not None else 0.0


def _stopped(plan: Plan, done: Progress) -> str:
    """Why validation has seen enough, or the empty string."""
    if done.best and len(done.epochs) - done.best["epoch"] >= plan.patience:
        return "patience"
    return "epochs" if len(done.epochs) >= _most_epochs(plan) else ""


def _most_epochs(plan: Plan) -> int:
    return max(plan.epochs, plan.sequence_epochs if plan.sequence_dim else 0)


def _epoch(trainers: Sequence[Trainer], number: int) -> dict[str, Any]:
    """An epoch of each block that has not had all of its own: their losses, ``loss`` that of the trained block."""
    began, losses = time.perf_counter(), {}
    for trainer in trainers:
        if number > trainer.epochs:
            continue
        loss = trainer.run_epoch(number)
        if not math.isfinite(loss):
            raise ConfigError(
                f"the loss must stay finite, got {loss} in epoch {number}: lower train.learning_rate, "
                f"which is {trainer.plan.learning_rate}, or raise train.temperature"
            )
        losses["loss" if trainer.name == TRAINED else f"{trainer.name}_loss"] = loss
    return {"epoch": number, **losses, "seconds": round(time.perf_counter() - began, 3)}


def _variables(trainers: Sequence[Trainer]) -> list[Any]:
    return [variable for trainer in trainers for variable in trainer.variables()]


def _restore(trainers: Sequence[Trainer], values: list[Any]) -> None:
    if values:
        restore(_variables(trainers), values)


def _key(plan: Plan, purchases: PreparedHistories, catalogue: pa.Table) -> str:
    value = [asdict(plan), purchases.as_of.isoformat(), purchases.names(), len(catalogue)]
    ids = catalogue["item_id"].combine_chunks()
    events = vocabulary_hash(catalogue["events"].combine_chunks())
    return hashlib.sha256(json.dumps([*value, vocabulary_hash(ids), events]).encode()).hexdigest()
