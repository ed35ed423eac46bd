"""Training in two steps: :func:`topkin.models.training.selection.select`, then :func:`refit` from everything."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from topkin.artifacts.ids import vocabulary_hash
from topkin.encoding.blocks import RECENCY, Block, rotation
from topkin.models.data.histories import PreparedHistories
from topkin.models.data.item_index import ItemIndex
from topkin.models.training.block_kinds import KINDS, LEARNED, BlockHyperparameters, inverse_popularities
from topkin.models.training.checkpoint import Checkpoint, restore
from topkin.models.training.context import TrainingContext
from topkin.models.training.repurchase import choose_repurchase_weights
from topkin.models.training.selection import (
    BATCH,
    REFIT,
    VALIDATION,
    Epoch,
    OnEpoch,
    Selection,
    best_epoch,
    computed_towers,
    run_epoch,
    select,
    silent,
    trainers_of,
    validation_periods,
    variables_of,
)
from topkin.models.two_tower.encoder import Encoder, assembled, encode_features
from topkin.models.two_tower.recency_prior import by_sales, fitted, recency_lift
from topkin.models.two_tower.towers import Towers, TwoTower


@dataclass(frozen=True)
class Training:
    """A training that is done.

    Args:
        encoder: what it made.
        selection: what validation chose.
        repurchase: the weights of bought items by policy, see ``topkin.recommend.repurchase``; empty without a
            validation.
        epochs: the record of each epoch from everything.
    """

    encoder: Encoder
    selection: Selection
    repurchase: Mapping[str, Mapping[str, float]]
    epochs: tuple[Epoch, ...]

    def to_json(self) -> dict[str, Any]:
        """``training.json``."""
        selection = self.selection.to_json()
        best = best_epoch(self.selection.curve)
        return {
            "epochs": selection.pop("curve"),
            "refit": list(self.epochs),
            "best_epoch": best["epoch"] if best else len(self.epochs),
            **{name: value for name, value in selection.items() if name != "epochs"},
        }


def fit(
    context: TrainingContext,
    purchases: PreparedHistories,
    catalogue: pa.Table,
    *,
    scratch: str = "",
    on_epoch: OnEpoch = silent,
) -> Training:
    """Select and refit; the same context, interactions and catalogue give the same weights on one machine.

    Args:
        context: settings and seed.
        purchases: all interactions before the as-of date (``days`` 0).
        catalogue: ``schemas.catalogue``.
        scratch: folder for the checkpoint of each epoch; what one finds there of the same training goes on.
        on_epoch: called with phase and record of every epoch once, those of a resumed training too.

    Raises:
        InputError: no user has two different items.
        ConfigError: the loss is not finite.
    """
    purchases = context.validated(purchases)
    checkpoint = Checkpoint(scratch, _key(context, purchases, catalogue))
    state, _ = checkpoint.read() or ({"phase": VALIDATION}, [])
    if state["phase"] == REFIT:
        selection, repurchase = Selection.from_json(state["selection"]), state["repurchase"]
        for epoch in selection.curve:
            on_epoch(VALIDATION, {k: v for k, v in epoch.items() if k != "blocks"})
    else:
        periods = validation_periods(context, purchases, catalogue)
        selection = select(context, purchases, catalogue, periods, checkpoint=checkpoint, on_epoch=on_epoch)
        repurchase = choose_repurchase_weights(periods.searches, selection.blocks, catalogue["category"])
        del periods
    epochs: list[Epoch] = []

    def record(phase: str, epoch: Epoch) -> None:
        epochs.append(epoch)
        on_epoch(phase, epoch)

    kept = {"phase": REFIT, "selection": selection.to_json(), "repurchase": repurchase}
    encoder = refit(selection, context, purchases, catalogue, checkpoint=checkpoint, kept=kept, on_epoch=record)
    return Training(encoder, selection, repurchase, tuple(epochs))


def refit(
    selection: Selection,
    context: TrainingContext,
    purchases: PreparedHistories,
    catalogue: pa.Table,
    *,
    checkpoint: Checkpoint | None = None,
    kept: Mapping[str, Any] | None = None,
    on_epoch: OnEpoch = silent,
) -> Encoder:
    """Make each block of a selection anew from all interactions.

    Args:
        selection: what :func:`select` chose.
        context: the settings and seed that it was chosen with.
        purchases: all interactions before the as-of date.
        catalogue: ``schemas.catalogue``.
        checkpoint: where each epoch is kept; one of the same training is gone on from.
        kept: what the checkpoint holds besides.
        on_epoch: called with every epoch's record, those of a resumed training too.
    """
    checkpoint = checkpoint or Checkpoint("", "")
    everything = replace(purchases, days=0.0)
    index = context.index(everything, catalogue)
    towers = computed_towers(context, everything, index, list(selection.blocks))
    beside = {name for kind in LEARNED if kind.name in selection.blocks for name in kind.beside if name in towers}
    sides = {name: encode_features(towers[name], index.features, BATCH) for name in beside}
    trainers = trainers_of(context, everything, REFIT, index, sides, selection.blocks)
    state, values = checkpoint.read() or ({"phase": VALIDATION}, [])
    epochs: list[Epoch] = []
    if state["phase"] == REFIT:
        epochs += state["epochs"]
        restore(variables_of(trainers), values)
        for epoch in epochs:
            on_epoch(REFIT, epoch)
    while trainers and len(epochs) < selection.epochs:
        epochs.append(run_epoch(trainers, len(epochs) + 1))
        on_epoch(REFIT, epochs[-1])
        checkpoint.write({**(kept or {}), "phase": REFIT, "epochs": epochs}, variables_of(trainers))
    towers |= {trainer.name: trainer.model for trainer in trainers}
    return finished(context, towers, selection.blocks, index, by_sales_first=selection.by_sales)


def finished(
    context: TrainingContext,
    towers: Mapping[str, TwoTower],
    settings: Mapping[str, BlockHyperparameters],
    index: ItemIndex,
    *,
    by_sales_first: bool = False,
) -> Encoder:
    """The encoder of some blocks: rotated, so that coordinates do not covary, with their variances over what sold.

    by_sales_first: see ``Selection.by_sales``.
    """
    counts = index.counts
    sold = counts.events > 0
    prior = (by_sales if by_sales_first else fitted)(counts.recent, counts.events)
    lift = recency_lift(counts.recent, counts.events)
    exponents, levelled = inverse_popularities(context.train), {kind.name for kind in KINDS if kind.level}
    blocks, sides = [], []
    for name, tower in towers.items():
        setting = settings[name]
        lengths = (lift**setting.recency_lift).astype(np.float32)[:, None]
        out, _ = encode_features(tower, index.features, BATCH)
        turned, _ = rotation((out * lengths)[sold])
        tower.rotate(turned)
        sides.append(encode_features(tower, index.features, BATCH))
        spread = (sides[-1][0] * lengths)[sold].var(axis=0, dtype=np.float64)
        blocks.append(
            Block(
                name=name,
                dim=tower.dim,
                inverse_popularity=exponents[name],
                spread=tuple(spread.tolist()),
                level=tuple(turned[-1].tolist()) if name in levelled else (),
                **asdict(setting),
            )
        )
    if RECENCY in settings:
        spread = prior.scaled(counts.recent, counts.events)[sold].var(dtype=np.float64)
        block = Block.unscaled(RECENCY, 1, 0, None)
        blocks.append(replace(block, weight=settings[RECENCY].weight, spread=(float(spread),)))
    out, _ = assembled(sides, blocks, prior, counts.recent.astype(float), counts.events.astype(float))
    meaning = {
        "blocks": [block.to_json() for block in blocks],
        "recency": prior.to_json(),
        "reach": max(float(np.linalg.norm(out.astype(np.float64), axis=1).max(initial=0)), 1e-9),
        "categories": list(index.categories),
        "features": index.rows.to_json(),
        "vocabulary": vocabulary_hash(index.ids),
    }
    model = Towers(list(towers.values()), meaning=meaning, name="encoder")
    model.build()
    return Encoder(model, index.ids)


def _key(context: TrainingContext, purchases: PreparedHistories, catalogue: pa.Table) -> str:
    """Hash of all that decides a training."""
    settings = {**vars(context), "train": context.train.model_dump()}
    ids = vocabulary_hash(catalogue["item_id"].combine_chunks())
    events = vocabulary_hash(catalogue["events"].combine_chunks())
    value = [settings, purchases.as_of.isoformat(), purchases.names(), len(catalogue), ids, events]
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
