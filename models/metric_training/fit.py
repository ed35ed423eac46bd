"""Train an encoder on prepared parts and write it: ``encoder/``, ``training.json`` and TensorBoard's ``logs/``."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import keras
import pyarrow as pa

from topkin.artifacts import storage
from topkin.artifacts.ids import vocabulary_hash
from topkin.config.items_train import ItemsTrainSettings
from topkin.encoding.inputs import InputChoice, by_name
from topkin.encoding.signature import EncoderInput, EncoderSignature
from topkin.models.encoders.keras_files import SavedModel, read_model, save_encoder
from topkin.models.metric_learning.layers import MetricEmbedding
from topkin.models.metric_training.inputs import specs_of
from topkin.models.metric_training.networks import default_network, mirrored
from topkin.models.metric_training.parts import unit_rows_wanted
from topkin.models.metric_training.plan import TrainingPlan, plan_of
from topkin.models.metric_training.rows import Rows, read_rows
from topkin.models.metric_training.trainer import OnEpoch, Trained, train
from topkin.models.ops import device
from topkin.models.similarity.whitening import whitened_by
from topkin.models.training.checkpoint import Checkpoint
from topkin.models.training.tensorboard import Scalars

ENCODER, TRAINING, LOGS = "encoder", "training.json", "logs"
DIM, DIM_WITHOUT_LABELS = 64, 256
SAMPLE = 20_000
WHITENING = 0.5


@device.repeatable()
def fit(
    settings: ItemsTrainSettings,
    parts: Sequence[str],
    inputs: Mapping[str, InputChoice],
    out: str,
    *,
    scratch: str = "",
    seed: int = 42,
    start_from: str | None = None,
    folder: str = "",
    on_epoch: OnEpoch | None = None,
) -> dict[str, Any]:
    """Train, and write what came of it; the same settings, parts and seed give the same weights on one machine.

    Args:
        settings: Section ``[train]``.
        parts: Parquet files with ``item_id``, ``label`` where there is one, and a column for each input by its name.
        inputs: ``[encoder.inputs]``: a column of the user's is what the written encoder reads elsewhere.
        out: Folder of the results: ``encoder`` as :func:`save_encoder` writes it, ``training.json``, ``logs``.
        scratch: Folder for the checkpoint of each epoch, and where it is local for columns that do not fit in memory.
        seed: Of everything drawn at random.
        start_from: A ``.keras`` file or an encoder's folder whose model is trained; the default network without it.
        folder: What relative paths of images begin in.
        on_epoch: Called with the record of each epoch once, those of a resumed training too.

    Returns:
        What a stage tells: method, loss or learner, epochs, validation, counts of items, ``dim`` and ``encoder`` (its
        hash), ``inputs`` in words, and ``notes``: what a person must know.

    Raises:
        InputError: Rows, labels, pairs or inputs that nothing can be learned from, or a model that is no encoder.
        ConfigError: Arguments that do not fit, or a loss that is not finite.
    """
    where = device.set_up()
    keras.utils.set_random_seed(seed)
    saved = None if start_from is None else read_model(start_from)
    specs = _specs(saved, parts, inputs)
    rows = read_rows(parts, specs, memory=int(settings.memory * 2**30), scratch=scratch, folder=folder)
    plan = plan_of(settings, rows, seed)
    encoder = _encoder(settings, saved, rows, plan, seed)
    with Scalars(storage.join(out, LOGS)) as scalars:

        def record(epoch: dict[str, Any]) -> None:
            scalars.epoch("validation", epoch)
            if on_epoch is not None:
                on_epoch(epoch)

        checkpoint = Checkpoint(scratch, _key(settings, rows, seed, saved))
        trained = train(encoder, settings, rows, plan, seed=seed, checkpoint=checkpoint, on_epoch=record)
    model = _served(settings, encoder, rows, plan, trained, start_from_nothing=saved is None)
    final = plan.final(trained.encode_with(model))
    given = by_name([s.name for s in specs], inputs)
    signature = save_encoder(
        model, storage.join(out, ENCODER), {s.name: _choice(s, given) for s in specs}, overwrite=True
    )
    summary = _summary(settings, rows, plan, trained, final, signature)
    storage.write_json({**summary, "curve": list(trained.epochs), "device": where}, storage.join(out, TRAINING))
    return summary


def _specs(
    saved: SavedModel | None, parts: Sequence[str], inputs: Mapping[str, InputChoice]
) -> tuple[EncoderInput, ...]:
    """The inputs as the prepared parts hold them: under their own names."""
    first = _first_rows(parts)
    if saved is None:
        return specs_of(first, inputs)
    here = by_name([i.name for i in saved.inputs], {name: replace(c, column=name) for name, c in inputs.items()})
    types = dict(zip(first.schema.names, first.schema.types, strict=True))
    return saved.bound(here, types.get, first.column_names).inputs


def _first_rows(parts: Sequence[str]) -> pa.Table:
    """Some rows, of the first part that has any."""
    table = None
    for path in parts:
        with storage.open_parquet(path, made_by="the stage prepare") as file:
            batch = next(file.iter_batches(1_000), None)
            if batch is not None and len(batch):
                return pa.Table.from_batches([batch])
            table = file.schema_arrow.empty_table() if table is None else table
    return table if table is not None else pa.table({})


def _encoder(
    settings: ItemsTrainSettings, saved: SavedModel | None, rows: Rows, plan: TrainingPlan, seed: int
) -> keras.Model:
    """The model that is trained."""
    unsupervised = settings.method == "self_supervised"
    unit = not unsupervised and unit_rows_wanted(settings)
    if saved is None:
        dim = None if unsupervised else settings.dim or DIM
        numbers = plan.sample(SAMPLE)
        sample = {s.name: rows.feed(s, numbers) for s in rows.specs if s.kind != "image"}
        return default_network(rows.specs, sample, dim=dim, unit=unit, places=unsupervised, seed=seed)
    model = saved.model
    if settings.dim is None or unsupervised:
        return model
    features = keras.tree.flatten(model.output)[0]
    return keras.Model(model.input, MetricEmbedding(settings.dim, seed=seed)(features), name="encoder")


def _served(
    settings: ItemsTrainSettings,
    encoder: keras.Model,
    rows: Rows,
    plan: TrainingPlan,
    trained: Trained,
    *,
    start_from_nothing: bool,
) -> keras.Model:
    """What is written: the encoder of an image and its mirror image, or whitened after a training without labels."""
    if settings.method != "self_supervised":
        flipped = settings.mirror and start_from_nothing and "flip" in plan.augmented
        return mirrored(encoder, rows.specs) if flipped else encoder
    vectors = trained.encode_with(encoder)(plan.sample(SAMPLE))
    dim = min(settings.dim or DIM_WITHOUT_LABELS, vectors.shape[1], max(2, len(vectors) - 1))
    return whitened_by(encoder, vectors, dim=dim, power=WHITENING)


def _choice(spec: EncoderInput, inputs: Mapping[str, InputChoice]) -> dict[str, Any]:
    """The input as it is written: with the column of the user's table."""
    given = inputs.get(spec.name, InputChoice())
    listed = spec.kind in ("vector", "numbers", "categories", "texts")
    choice = {
        "column": given.column or spec.name,
        "kind": spec.kind,
        "size": spec.shape[:2] if spec.kind == "image" else None,
        "length": spec.shape[0] if listed and len(spec.shape) == 1 else None,
        "missing": spec.missing,
    }
    return {name: value for name, value in choice.items() if value is not None}


def _key(settings: ItemsTrainSettings, rows: Rows, seed: int, saved: SavedModel | None) -> str:
    """The hash of all that decides a training."""
    whole = {
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "rows": len(rows),
        "ids": vocabulary_hash(rows.ids),
        "labels": hashlib.sha256(rows.labels.tobytes()).hexdigest(),
        "inputs": [asdict(s) for s in rows.specs],
        "columns": rows.fingerprint(),
        "model": None if saved is None else hashlib.sha256(saved.data).hexdigest(),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _summary(
    settings: ItemsTrainSettings,
    rows: Rows,
    plan: TrainingPlan,
    trained: Trained,
    final: Mapping[str, float],
    signature: EncoderSignature,
) -> dict[str, Any]:
    name = settings.chosen_learner if settings.method == "self_supervised" else settings.chosen_loss.name
    rejected = [f"{count:,} items are left out of training: {reason}" for reason, count in sorted(rows.rejects.items())]
    skipped = trained.skipped
    odd = [f"{skipped:,} batches of one class taught nothing and were skipped"] if skipped else []
    return {
        "method": settings.method,
        "learner" if settings.method == "self_supervised" else "loss": name,
        "epochs": len(trained.epochs),
        "best_epoch": trained.best_epoch,
        "validation": dict(final),
        **plan.counts,
        "dim": signature.dim,
        "encoder": signature.hash,
        "inputs": [i.described() for i in signature.inputs],
        "notes": [*plan.notes, *rejected, *odd, *trained.notes],
    }
