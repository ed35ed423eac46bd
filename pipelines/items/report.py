"""The job ``report`` of items alone: the gates beside the live version, and the page.

Writes ``report.html`` and ``gates.json``.
"""

from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.artifacts.embeddings import ITEMS, LOOK_UPS
from topkin.artifacts.lookup import format_id
from topkin.config.items_run import ItemsRunSettings
from topkin.encoding.columns import Rejections, read_column
from topkin.encoding.signature import EncoderInput, read_signature
from topkin.gates.judge import FILE, READS, judge
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stage import Stage
from topkin.pipelines.items.encoder import FOLDER
from topkin.report.items_page import ItemsReport, LookUp, Shown, render_items, training_lines
from topkin.report.pictures import data_uri
from topkin.telemetry.secrets import masked

NEEDS = ("prepare", "train", "embed", "index", "evaluate")


def report(job: Job[ItemsRunSettings]) -> dict[str, Any]:
    """Ask the gates, then write what they found and the page; returns how many have passed, are refused, not asked."""
    judged = judge(job.settings, {stage: job.folder(stage) for stage in NEEDS}, job.earlier)
    storage.write_json(judged.to_json(), storage.join(job.out, FILE))
    metrics = storage.read_json(storage.join(job.folder("evaluate"), "metrics.json"))
    page = ItemsReport(
        run_id=job.out.rstrip("/").split("/")[-2],  # …/runs/<run_id>/<attempt>
        as_of=job.as_of,
        metrics=metrics,
        statistics=storage.read_json(storage.join(job.folder("prepare"), "statistics.json")),
        look_ups=_look_ups(job, metrics),
        training=training_lines(storage.read_json(storage.join(job.folder("train"), "training.json"))),
        gates=judged.gates,
    )
    storage.write_bytes(masked(render_items(page)).encode(), storage.join(job.out, "report.html"))
    return {f"gates {verdict}": n for verdict, n in judged.counts.items()}


def _look_ups(job: Job[ItemsRunSettings], metrics: dict[str, Any]) -> list[LookUp]:
    """The look-ups of the evaluation, with pictures where the encoder takes images, else with titles."""
    rows = storage.read_parquet(storage.join(job.folder("evaluate"), LOOK_UPS))
    judged, by = metrics["retrieval"] is not None, metrics["judged_by"]
    own, theirs = _names(job, by, pc.unique(rows["query_id"])), _names(job, ITEMS, pc.unique(rows["item_id"]))
    look_ups: dict[Any, LookUp] = {}
    for row in rows.to_pylist():
        label, item = row["query_label"], row["item_id"]
        name, picture = own[row["query_id"]]
        query = look_ups.setdefault(row["query_id"], LookUp(Shown(name, label, picture), []))
        right = row["label"] == label if judged and label is not None else None
        name, picture = theirs[item]
        query.nearest.append(Shown(name, row["label"], picture, row["score"], right))
    return list(look_ups.values())


def _names(job: Job[ItemsRunSettings], name: str, ids: pa.Array) -> dict[Any, tuple[str, str | None]]:
    """The titles, or ids without one, and the pictures of some rows of an input, by id."""
    file = "catalogue.parquet" if name == ITEMS else f"{name}.parquet"
    titles = storage.read_parquet(storage.join(job.folder("prepare"), file), ["item_id", "title"])
    at = pc.index_in(ids, value_set=titles["item_id"].combine_chunks())
    named = titles["title"].combine_chunks().take(at).to_pylist()
    pictures = _pictures(job, name, ids)
    keys = ids.to_pylist()
    return {key: (title or str(format_id(key)), pictures.get(key)) for key, title in zip(keys, named, strict=True)}


def _pictures(job: Job[ItemsRunSettings], name: str, ids: pa.Array) -> dict[Any, str]:
    """The pictures of some rows by id, as the encoder sees them; none where it takes no image."""
    spec = _image(job)
    if spec is None:
        return {}
    from topkin.models.encoders.image_files import decode

    pictures = {}
    for path in storage.parquet_files(storage.join(job.folder("prepare"), name)):
        with storage.open_parquet(path) as file:
            for group in range(file.num_row_groups):
                own = file.read_row_group(group, columns=["item_id"])["item_id"]
                wanted = pc.is_in(own, value_set=ids)
                if not pc.any(wanted).as_py():
                    continue
                values = file.read_row_group(group, columns=[spec.name])[spec.name].filter(wanted)
                keys = own.filter(wanted).to_pylist()
                rejections = Rejections(len(values))
                pixels = read_column(values, spec, rejections, partial(decode, folder=""))
                pictures.update({k: data_uri(p) for k, p, g in zip(keys, pixels, rejections.good, strict=True) if g})
    return pictures


def _image(job: Job[ItemsRunSettings]) -> EncoderInput | None:
    """The encoder's first input of images that can be shown."""
    inputs = read_signature(storage.join(job.folder("train"), FOLDER)).by_name().inputs
    images = [i for i in inputs if i.kind == "image" and (len(i.shape) == 2 or i.shape[2] in (1, 3, 4))]
    return images[0] if images else None


STAGE = Stage(
    name="report",
    folder="report",
    sections=("run", "publish"),
    needs=lambda settings: NEEDS,
    earlier=lambda settings: READS["items"],
    work=report,
)
