"""The job ``embed`` of items alone: the encoder run over the prepared items, and over the queries."""

import time
from typing import Any

import pyarrow as pa

from topkin.artifacts import storage
from topkin.artifacts.embeddings import ITEMS, SUMMARY, read_encoded
from topkin.config.items_run import ItemsRunSettings
from topkin.encoding.signature import EncoderSignature, read_signature
from topkin.errors import InputError
from topkin.ingest.files import File
from topkin.pipelines.encode.table import pace
from topkin.pipelines.engine.job import Job, run_pipeline
from topkin.pipelines.engine.stage import Stage
from topkin.pipelines.items.encoder import FOLDER
from topkin.pipelines.items.unchanged import READS, Unchanged, unchanged


def embed(job: Job[ItemsRunSettings]) -> dict[str, Any]:
    """Embed the items and the queries, and write ``vectors.json``.

    Raises InputError where the encoder takes no item.
    """
    signature = read_signature(storage.join(job.folder("train"), FOLDER))
    summary: dict[str, Any] = {"encoder": signature.hash, "dim": signature.dim}
    notes: list[str] = []
    known = unchanged(job, signature)
    for name in [ITEMS, *(["queries"] if job.settings.queries is not None else [])]:
        began = time.perf_counter()
        folder = storage.join(job.folder("prepare"), name)
        if known is not None and name == ITEMS:
            counts = _embed_changed(job, known, signature)
            notes.append(f"items: {known.rows:,} have their vector of the version published before")
        else:
            counts = _embed(job, name, folder, storage.join(job.out, *([] if name == ITEMS else [name])), signature)
        rejects = dict(sorted(counts.get("rejects", {}).items(), key=lambda r: (-r[1], r[0])))
        read, embedded = counts["items"]["read"], counts["items"]["embedded"]
        if not embedded:
            most, rows = next(iter(rejects.items()))
            raise InputError(
                f"{name} must hold a row that the encoder takes, all {read:,} were rejected, {rows:,} for: {most}; "
                "mend the column, or name another input"
            )
        summary |= {name: embedded, f"{name}_rejected": read - embedded}
        notes += [f"{name}: {n:,} without a vector, for {reason}" for reason, n in rejects.items()]
        if counts["device"]:
            work = counts["items"]["padded"], counts["worked"]["items"], " and ".join(sorted(counts["device"]))
            fresh = read - (known.rows if known is not None and name == ITEMS else 0)
            notes.append(f"{name}: {pace(fresh, time.perf_counter() - began, *work)}")
    storage.write_json({**summary, "precision": job.settings.encoder.precision}, storage.join(job.out, SUMMARY))
    return {**summary, "notes": notes}


def _embed_changed(job: Job[ItemsRunSettings], known: Unchanged, signature: EncoderSignature) -> dict[str, Any]:
    """Embed the items that are new or have changed, and write them beside those that have not; what was counted."""
    new_vectors = storage.join(job.scratch, "made")
    storage.remove_folder(new_vectors)  # of an attempt that died
    counts: dict[str, Any] = {"items": {"read": 0, "padded": 0}, "worked": {"items": 0}, "device": {}}
    fresh = None
    if storage.files(known.changed):
        counts = _embed(job, ITEMS, known.changed, new_vectors, signature)
        fresh = read_encoded(new_vectors, signature.hash)
        known.write_rejects(new_vectors, storage.join(job.folder("prepare"), ITEMS), job.out)
    embedded = known.write(fresh, job.out, signature)
    counts["items"] |= {"read": counts["items"]["read"] + known.rows, "embedded": embedded}
    return counts


def _embed(job: Job[ItemsRunSettings], name: str, folder: str, out: str, signature: EncoderSignature) -> dict[str, Any]:
    """Run the encoder over the prepared rows of a folder into another; what was counted."""
    from topkin.transforms.encode import EncodeInputs, EncodeTable

    encoder, tally = storage.join(job.folder("train"), FOLDER), storage.join(job.scratch, f"{name}.json")
    files, id_type = _files(folder)
    inputs = EncodeInputs(
        encoder=encoder,
        files=files,
        id_column="item_id",
        id_type=id_type,
        columns=["item_id", *(i.name for i in signature.inputs)],
        batch_size=job.settings.embed.batch_size,
        jit_compile=job.settings.encoder.jit_compile,
        precision=job.settings.encoder.precision,
        by_name=True,
    )
    run_pipeline(EncodeTable(inputs, out, tally), job.beam)
    return dict(storage.read_json(tally))


def _files(folder: str) -> tuple[tuple[File, ...], pa.DataType]:
    """The prepared files with rows, and the type of their ids."""
    files, id_type = [], pa.null()
    for path in storage.parquet_files(folder, made_by="topkin prepare"):
        with storage.open_parquet(path, made_by="topkin prepare") as file:
            id_type = file.schema_arrow.field("item_id").type
            if file.metadata.num_rows:
                files.append(File(path, storage.size(path), rows=file.metadata.num_rows))
    return tuple(files), id_type


STAGE = Stage(
    name="embed",
    folder="embeddings",
    sections=("run", "embed", "encoder"),
    needs=lambda settings: ("prepare", "train"),
    earlier=lambda settings: READS if settings.index.growth == "delta" else (),
    dated=False,
    work=embed,
)
