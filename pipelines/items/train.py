"""The job ``train`` of items alone: the encoder that was trained elsewhere, with the columns that feed it."""

from typing import Any

from topkin.artifacts import storage
from topkin.config.items_run import ItemsRunSettings
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stage import Stage, StageReads
from topkin.pipelines.items.encoder import FOLDER, INPUTS, bound_to_prepared, encoder_files


def train(job: Job[ItemsRunSettings]) -> dict[str, Any]:
    """Write the encoder's folder; returns what is known of it."""
    from topkin.models.encoders.keras_files import read_model

    prepared = job.folder("prepare")
    saved = read_model(job.settings.encoder.path)
    first = storage.parquet_files(storage.join(prepared, "items"))[0]
    with storage.open_parquet(first) as file:
        schema = file.schema_arrow
    signature = bound_to_prepared(job.settings, saved, schema, storage.read_json(storage.join(prepared, INPUTS)))
    saved.write(storage.join(job.out, FOLDER), signature)
    inputs = [i.described() for i in signature.inputs]
    return {
        "dim": signature.dim,
        "encoder": signature.hash,
        "notes": [f"as given: {job.settings.encoder.path}", *inputs],
    }


STAGE = Stage(
    name="train",
    folder="model",
    sections=("run", "encoder"),
    needs=lambda settings: ("prepare",),
    reads=lambda settings: StageReads(files=encoder_files(settings.encoder.path)),
    work=train,
)
