"""What a run over items alone would cost: its inputs looked at, and its encoder tried on some rows."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.config.items_run import ItemsRunSettings
from topkin.encoding.columns import Rejections, read_column
from topkin.errors import InputError
from topkin.ingest.readers import INPUT
from topkin.pipelines.items.encoder import VECTOR, bound_to_prepared, choices_of
from topkin.pipelines.items.prepare import look_at
from topkin.planning.items import ItemsCounts

TRIED = 256
"""Rows that the encoder is tried on."""


def counts_of(settings: ItemsRunSettings) -> ItemsCounts:
    """How much there is, by the inputs' footers and a sample; the encoder's time is measured here and now.

    Raises InputError or ConfigError with what is wrong with the inputs, and where no row of the sample is good.
    """
    look = look_at(settings)
    if look.findings:
        raise type(look.findings[0])("\n".join(str(f) for f in look.findings))
    rows = look.good_items()
    if rows is None or not len(rows):
        raise InputError("a plan needs an item that keeps the rules, the sample has none: topkin check tells why")
    rows = rows.rename_columns([n.removeprefix(INPUT) for n in rows.column_names])
    names = [f.name for f in look.feeds]
    dim, seconds, row_bytes = _tried(settings, rows.slice(0, TRIED), {f.name: f.column for f in look.feeds})
    train = settings.train
    epochs, views = 0, 1
    if train is not None:
        from topkin.models.metric_training.trainer import EPOCHS, EPOCHS_WITHOUT_LABELS

        unsupervised = train.method == "self_supervised"
        epochs = train.epochs or (EPOCHS_WITHOUT_LABELS if unsupervised else EPOCHS)
        views = 2 if unsupervised else 1
    inputs, flips = look.inspections, train is not None and train.mirror and settings.encoder.path is None
    flips = flips and views == 1 and train is not None and "flip" in (train.augment or ["flip"])
    pictures = any(choice.kind == "image" for choice in choices_of(settings).values())
    return ItemsCounts(
        items=inputs["items"].rows,
        queries=inputs["queries"].rows if "queries" in inputs else 0,
        input_bytes=sum(file.bytes for inspection in inputs.values() for file in inspection.files),
        row_bytes=max(row_bytes, rows.select(names).nbytes // len(rows)),
        dim=dim,
        row_seconds=seconds,
        epochs=epochs,
        views=views,
        passes=2 if flips and pictures else 1,
    )


def _tried(settings: ItemsRunSettings, rows: pa.Table, fed_by: dict[str, str]) -> tuple[int, float, int]:
    """Coordinates of a vector, seconds of one core for a row, and bytes of a row's arrays."""
    if settings.items.vector is not None:
        lengths = pc.list_value_length(rows[VECTOR]).drop_null()
        dim = int(pc.mode(lengths)[0]["mode"].as_py()) if len(lengths) else 1
        return dim, 0.0, 4 * dim
    from topkin.models.encoders.image_files import decode
    from topkin.models.ops import device

    device.set_up()
    rejections = Rejections(len(rows))
    if settings.encoder.path is not None:
        from topkin.models.encoders.keras_encoder import KerasEncoder
        from topkin.models.encoders.keras_files import read_model

        saved = read_model(settings.encoder.path)
        signature = bound_to_prepared(settings, saved, rows.schema, fed_by)
        encoder = KerasEncoder(saved, signature.by_name(), batch_size=min(TRIED, len(rows)))
        feeds = encoder.read(rows, rejections)
        good = _good(rejections)
        return signature.dim, _seconds(lambda: encoder.encode(feeds), good), sum(map(_bytes, feeds.values()))
    import tensorflow as tf

    from topkin.models.metric_training.fit import DIM, DIM_WITHOUT_LABELS
    from topkin.models.metric_training.inputs import specs_of
    from topkin.models.metric_training.networks import default_network

    assert settings.train is not None  # the settings ask for one or the other
    unsupervised = settings.train.method == "self_supervised"
    specs = specs_of(rows, choices_of(settings))
    read = {s.name: read_column(rows[s.name], s, rejections, partial(decode, folder="")) for s in specs}
    good = _good(rejections)
    sample = {name: array[rejections.good] for name, array in read.items()}
    dim = settings.train.dim or (DIM_WITHOUT_LABELS if unsupervised else DIM)
    others = {s.name: sample[s.name] for s in specs if s.kind != "image"}
    network = default_network(specs, others, dim=None if unsupervised else dim, places=unsupervised)
    feeds_of = [tf.constant(sample[s.name]) for s in specs]
    taken = feeds_of[0] if len(feeds_of) == 1 else feeds_of
    return dim, _seconds(lambda: network.predict(taken, verbose=0), good), sum(map(_bytes, sample.values()))


def _good(rejections: Rejections) -> int:
    """How many rows can be given. Raises InputError for none."""
    if not rejections.good.any():
        raise InputError(
            f"a plan needs a row that the encoder takes, the first are rejected: {rejections.reasons()[0]}"
        )
    return int(rejections.good.sum())


def _bytes(array: np.ndarray) -> int:
    return int(array.nbytes // max(len(array), 1))


def _seconds(work: Callable[[], object], rows: int) -> float:
    """Of one core, for a row: the best of three after a first, which compiles."""
    work()
    taken = []
    for _ in range(3):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken) / max(rows, 1)
