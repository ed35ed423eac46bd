"""The job ``report`` of items alone: the gates beside the live version, and the page.

Writes ``report.html`` and ``gates.json``.
"""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.artifacts.embeddings import ITEMS, LOOK_UPS, vectors_of
from topkin.artifacts.lookup import format_id
from topkin.config.items_run import ItemsRunSettings
from topkin.encoding.columns import Rejections, read_column
from topkin.encoding.signature import EncoderInput, read_signature
from topkin.gates.judge import FILE, READS, judge
from topkin.interactions import encode_ids
from topkin.linalg.cosine import unit_rows
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stage import Stage
from topkin.pipelines.items.encoder import FOLDER
from topkin.report.browse.content import PageContent, Source, content
from topkin.report.browse.sample import read_neighbours, rows_of
from topkin.report.data import read_catalogue
from topkin.report.items_page import ItemsReport, LookUp, Shown, render_items, training_lines
from topkin.report.night.changes import FILE as CHANGES
from topkin.report.night.changes import changes
from topkin.report.pictures import MOST, data_uri
from topkin.telemetry.secrets import masked

NEEDS = ("prepare", "train", "embed", "index", "similar", "evaluate")
SMALL, ROOM, LIMIT = 48, 1_000_000, 2_400_000
"""Pixels of the longer side of an item that is looked up, characters of all their pictures, and bytes of all that is
looked up: the pictures of what lies next to what take up to 5 MB, and a page stays below 8."""


def report(job: Job[ItemsRunSettings]) -> dict[str, Any]:
    """Ask the gates, then write what they found and the page; returns how many have passed, are refused, not asked."""
    folders = {stage: job.folder(stage) for stage in NEEDS}
    judged = judge(job.settings, folders, job.earlier)
    storage.write_json(judged.to_json(), storage.join(job.out, FILE))
    changed = changes(folders, job.earlier, judged.to_json())
    if changed is not None:
        storage.write_json(changed, storage.join(job.out, CHANGES))
    metrics = storage.read_json(storage.join(job.folder("evaluate"), "metrics.json"))
    page = ItemsReport(
        run_id=job.out.rstrip("/").split("/")[-2],  # …/runs/<run_id>/<attempt>
        as_of=job.as_of,
        metrics=metrics,
        statistics=storage.read_json(storage.join(job.folder("prepare"), "statistics.json")),
        look_ups=_look_ups(job, metrics),
        training=training_lines(storage.read_json(storage.join(job.folder("train"), "training.json"))),
        gates=judged.gates,
        content=_content(job),
        changes=changed,
    )
    storage.write_bytes(masked(render_items(page)).encode(), storage.join(job.out, "report.html"))
    return {f"gates {verdict}": n for verdict, n in judged.counts.items()}


def _content(job: Job[ItemsRunSettings]) -> PageContent:
    """The items that can be looked up, those of the encoder's images with small pictures as far as there is room."""
    catalogue = read_catalogue(storage.join(job.folder("prepare"), "catalogue.parquet"))
    ids = catalogue["item_id"].combine_chunks()

    def vectors(rows: np.ndarray) -> np.ndarray:
        own = ids.take(pa.array(rows))
        table = rows_of(storage.join(job.folder("embed"), ITEMS), "item_id", own, ["item_id", "vector"])
        unit, at = unit_rows(vectors_of(table)), encode_ids(table["item_id"], own)
        placed = np.zeros((len(own), unit.shape[1]), unit.dtype)
        placed[at] = unit
        return placed

    def pictures(own: pa.Array) -> dict[Any, str]:
        kept, room = {}, ROOM
        shown = _pictures(job, ITEMS, own, SMALL)
        for item in own.to_pylist():
            if item in shown and (room := room - len(shown[item])) >= 0:
                kept[item] = shown[item]
        return kept

    near = partial(read_neighbours, job.folder("similar"))
    shown = pictures if _image(job) else None
    return content(Source(catalogue=catalogue, vectors=vectors, neighbours=near, pictures=shown), limit=LIMIT)


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


def _pictures(job: Job[ItemsRunSettings], name: str, ids: pa.Array, most: int = MOST) -> dict[Any, str]:
    """The pictures of some rows by id, as the encoder sees them, smaller; none where it takes no image."""
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
                shown = zip(keys, pixels, rejections.good, strict=True)
                pictures.update({key: data_uri(picture, most) for key, picture, good in shown if good})
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
