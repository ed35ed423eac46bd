"""Training in two steps: :func:`topkin.models.training.selection.select`, then :func:`refit` from everything."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from topkin.artifacts.ids import vocabulary_hash
from topkin.linalg.blas import one_blas_thread
from topkin.models.data.histories import PreparedHistories
from topkin.models.training import holdout
from topkin.models.training.assembly import finished
from topkin.models.training.block_kinds import LEARNED
from topkin.models.training.checkpoint import Checkpoint, restore
from topkin.models.training.context import TrainingContext
from topkin.models.training.feature_trainer import weights_of
from topkin.models.training.lists.repurchase import choose_repurchase_weights
from topkin.models.training.lists.second import Sources, choose_second_stage, dated, judges_of
from topkin.models.training.profile_trainer import user_rows
from topkin.models.training.selection import (
    BATCH,
    REFIT,
    VALIDATION,
    Epoch,
    OnEpoch,
    Selection,
    best_epoch,
    computed_towers,
    numbers_of,
    run_epoch,
    select,
    silent,
    trainers_of,
    validation_periods,
    validation_trainers,
    variables_of,
)
from topkin.models.two_tower.encoder import Encoder, encode_features


@dataclass(frozen=True)
class Training:
    """A training that is done.

    Args:
        encoder: what it made.
        selection: what validation chose.
        repurchase: the weights of bought items by policy, see ``topkin.recommend.repurchase``; empty without a
            validation.
        blend: what validation says of a second stage, see ``topkin.recommend.second.tuning``.
        epochs: the record of each epoch from everything.
        holdout: what :mod:`topkin.models.training.holdout` kept of validation, or why it kept nothing; empty where it
            was not asked.
    """

    encoder: Encoder
    selection: Selection
    repurchase: Mapping[str, Mapping[str, float]]
    blend: Mapping[str, Any]
    epochs: tuple[Epoch, ...]
    holdout: Mapping[str, Any]

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


@one_blas_thread()  # its threads wait by spinning, which takes a third of all processors' time
def fit(
    context: TrainingContext,
    purchases: PreparedHistories,
    catalogue: pa.Table,
    *,
    scratch: str = "",
    holdout_folder: str = "",
    on_epoch: OnEpoch = silent,
) -> Training:
    """Select and refit; the same context, interactions and catalogue give the same weights on one machine.

    Args:
        context: settings and seed.
        purchases: all interactions before the as-of date (``days`` 0).
        catalogue: ``schemas.catalogue``.
        scratch: folder for the checkpoint of each epoch; what one finds there of the same training goes on.
        holdout_folder: where the encoder of the last validation period is kept, beside the scratch folder that a
            training goes on from; no such encoder is made without it.
        on_epoch: called with phase and record of every epoch once, those of a resumed training too.

    Raises:
        InputError: no user has two different items.
        ConfigError: the loss is not finite.
    """
    purchases = context.validated(purchases)
    checkpoint = Checkpoint(scratch, _key(context, purchases, catalogue))
    state, _ = checkpoint.read() or ({"phase": VALIDATION}, [])
    held: Mapping[str, Any] = {}
    if state["phase"] == REFIT and holdout.is_kept(state["holdout"], holdout_folder):
        selection, repurchase = Selection.from_json(state["selection"]), state["repurchase"]
        held, blend = state["holdout"], state["blend"]
        for epoch in selection.curve:
            on_epoch(VALIDATION, numbers_of(epoch))
    else:
        periods = validation_periods(context, purchases, catalogue)
        trainers = validation_trainers(context, purchases, periods)
        selection = select(context, purchases, catalogue, periods, trainers, checkpoint=checkpoint, on_epoch=on_epoch)
        blocks = selection.blocks
        sources = Sources(context, purchases)
        blend = choose_second_stage(sources, judges_of(sources, periods, blocks, trainers), blocks)
        repurchase = choose_repurchase_weights(sources, dated(periods), blocks, catalogue["category"], blend["weights"])
        if holdout_folder:
            outcome = holdout.hold_out(sources, catalogue, periods, trainers, epoch=len(selection.curve))
            held = holdout.keep(outcome, holdout_folder)
            del outcome
        del periods, trainers, sources
    epochs: list[Epoch] = []

    def record(phase: str, epoch: Epoch) -> None:
        epochs.append(epoch)
        on_epoch(phase, epoch)

    kept = {"phase": REFIT, "selection": selection.to_json(), "repurchase": repurchase, "blend": blend, "holdout": held}
    encoder = refit(selection, context, purchases, catalogue, checkpoint=checkpoint, kept=kept, on_epoch=record)
    return Training(encoder, selection, repurchase, blend, tuple(epochs), held)


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
    by_sales, rows = selection.by_sales, user_rows(trainers)
    weights = weights_of(trainers)
    return finished(context, towers, selection.blocks, index, by_sales_first=by_sales, profiles=rows, purchases=weights)


def _key(context: TrainingContext, purchases: PreparedHistories, catalogue: pa.Table) -> str:
    """Hash of all that decides a training."""
    settings = {**vars(context), "train": context.train.model_dump()}
    ids = vocabulary_hash(catalogue["item_id"].combine_chunks())
    events = vocabulary_hash(catalogue["events"].combine_chunks())
    value = [settings, purchases.as_of.isoformat(), purchases.names(), len(catalogue), ids, events]
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
