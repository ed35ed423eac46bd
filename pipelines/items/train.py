"""The job ``train`` of items alone: an encoder is trained by metric learning, or taken as it was trained elsewhere."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.config.items_run import ItemsRunSettings
from topkin.config.items_train import ItemsTrainSettings
from topkin.errors import InputError
from topkin.ingest.files import find
from topkin.pipelines.engine.job import Job, input_files
from topkin.pipelines.engine.stage import Stage, StageReads
from topkin.pipelines.items.encoder import FOLDER, INPUTS, VECTOR, bound_to_prepared, choices_of, encoder_files
from topkin.telemetry.progress import advance


def reads(settings: ItemsRunSettings) -> StageReads:
    """The encoder that is there, and the files of pairs."""
    pairs = settings.train.pairs if settings.train is not None else None
    files = [] if pairs is None else find("train.pairs.path", pairs.path, input_files(pairs.path)).files
    versions = [[f.path, f.bytes, f.modified] for f in files]
    return StageReads(files=[*encoder_files(settings.encoder.path), *versions])


def train(job: Job[ItemsRunSettings]) -> dict[str, Any]:
    """Write the encoder's folder and ``training.json``; returns what is known of it."""
    settings = job.settings.train
    if job.settings.items.vector is not None:
        return _their_own(job, job.settings.items.vector)
    return _given(job) if settings is None else _trained(job, settings)


def _their_own(job: Job[ItemsRunSettings], column: str) -> dict[str, Any]:
    """An encoder that gives the vectors back which the items bring."""
    import keras

    from topkin.models.encoders.keras_files import save_encoder

    lengths = pa.concat_arrays([_lengths(path) for path in _parts(job)])
    if not len(lengths):
        raise InputError(f"items.vector: no item has a {column}: name a column of lists of numbers")
    dim = int(pc.mode(lengths)[0]["mode"].as_py())
    given = keras.Input((dim,), name=VECTOR)
    model = keras.Model(given, keras.layers.Identity()(given))
    signature = save_encoder(model, storage.join(job.out, FOLDER), {VECTOR: {"column": column, "kind": "vector"}})
    notes = [f"the vectors that the items bring, {column}"]
    storage.write_json({"dim": dim, "notes": notes}, storage.join(job.out, "training.json"))
    return {"dim": dim, "encoder": signature.hash, "notes": notes}


def _lengths(path: str) -> pa.Array:
    """The lengths of the vectors of a prepared file that are not empty."""
    with storage.open_parquet(path) as file:
        batches = [pc.list_value_length(batch[VECTOR]) for batch in file.iter_batches(columns=[VECTOR])]
    lengths = pa.concat_arrays([pa.array([], pa.int64()), *(batch.cast(pa.int64()) for batch in batches)])
    return lengths.filter(pc.greater(lengths, 0))


def _parts(job: Job[ItemsRunSettings]) -> list[str]:
    return storage.parquet_files(storage.join(job.folder("prepare"), "items"), made_by="topkin prepare")


def _given(job: Job[ItemsRunSettings]) -> dict[str, Any]:
    from topkin.models.encoders.keras_files import read_model

    prepared, path = job.folder("prepare"), job.settings.encoder.path
    assert path is not None  # the settings ask for one
    saved = read_model(path)
    with storage.open_parquet(_parts(job)[0]) as file:
        schema = file.schema_arrow
    signature = bound_to_prepared(job.settings, saved, schema, storage.read_json(storage.join(prepared, INPUTS)))
    saved.write(storage.join(job.out, FOLDER), signature)
    summary = {"dim": signature.dim, "encoder": signature.hash}
    notes = [f"as given: {path}", *(i.described() for i in signature.inputs)]
    storage.write_json({**summary, "notes": notes}, storage.join(job.out, "training.json"))
    return {**summary, "notes": notes}


def _trained(job: Job[ItemsRunSettings], settings: ItemsTrainSettings) -> dict[str, Any]:
    from topkin.models.metric_training.fit import fit

    summary = fit(
        settings,
        _parts(job),
        choices_of(job.settings),
        job.out,
        scratch=job.scratch,
        seed=job.settings.run.seed,
        start_from=job.settings.encoder.path,
        on_epoch=lambda epoch: advance("train epochs", 1),
    )
    validation = {f"validation_{name}": value for name, value in summary["validation"].items()}
    notes = [f"by {settings.method}, {summary.get('loss', summary.get('learner'))}", *summary["notes"]]
    return {"epochs": summary["epochs"], **validation, "dim": summary["dim"], "notes": notes}


STAGE = Stage(
    name="train",
    folder="model",
    sections=("run", "items", "encoder", "train"),
    needs=lambda settings: ("prepare",),
    reads=reads,
    dated=False,
    work=train,
)
