"""The job ``evaluate`` of items alone: look-ups are judged by labels, where there are some, and shown.

Writes ``metrics.json``, ``report.html`` and, where a threshold was found, ``calibration.parquet``.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.artifacts.embeddings import ITEMS, SUMMARY, read_encoded
from topkin.artifacts.lookup import format_id
from topkin.config.items_run import ItemsRunSettings
from topkin.encoding.columns import Rejections, read_column
from topkin.encoding.signature import EncoderInput, read_signature
from topkin.evaluation.retrieval import LabelledVectors, Retrieval, judge
from topkin.linalg.cosine import unit_rows
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stage import Stage
from topkin.pipelines.items.encoder import FOLDER
from topkin.report.items_page import ItemsReport, LookUp, Shown, render_items, training_lines
from topkin.report.pictures import data_uri
from topkin.telemetry.secrets import masked

SHOWN, NEAREST = 16, 8
"""Look-ups on the page, and items of each."""


def evaluate(job: Job[ItemsRunSettings]) -> dict[str, Any]:
    """Judge and show; returns the summary of the metrics."""
    settings, embedded = job.settings, storage.read_json(storage.join(job.folder("embed"), SUMMARY))
    encoder = str(embedded["encoder"])
    items = _labelled(job, ITEMS, encoder)
    asked = items if settings.queries is None else _labelled(job, "queries", encoder)
    rows, queries = asked.sample(settings.evaluate.sample, settings.run.seed)
    found = judge(queries, rows, items, settings.evaluate.k)
    index = storage.read_json(storage.join(job.folder("index"), "index.json"))
    metrics: dict[str, Any] = {
        "encoder": encoder,
        "dim": embedded["dim"],
        "items": len(items.ids),
        "indexed": index["indexed"],
        "trained_on_items": job.settings.train is not None and job.settings.queries is None,
        "prepared": storage.read_json(storage.join(job.folder("prepare"), "statistics.json"))["items"],
        "judged_by": ITEMS if settings.queries is None else "queries",
        "retrieval": found.metrics,
        "unjudged": _why_not(settings, items),
        "knn": {str(k): accuracy for k, accuracy in found.knn.items()},
        "by_label": found.by_label,
        "pairs": _pairs(queries, found, settings.run.seed),
        "match": _calibrated(job, queries, found),
        "index": {name: value for name, value in index["recall"].items() if name.startswith("recall@")},
        "rejects": _rejects(embedded),
    }
    storage.write_json(metrics, storage.join(job.out, "metrics.json"))
    _write_report(job, metrics, queries, items, found)
    whole = {} if found.metrics is None else {k: v for k, v in found.metrics.items() if isinstance(v, float)}
    notes = [] if found.metrics is not None else [f"not judged: {metrics['unjudged']}"]
    named = {"recall@1": "recall_any@1", "map@r": "map@r", "mrr": "mrr"}
    summary = {name: round(whole[key], 4) for name, key in named.items() if key in whole}
    pairs = metrics["pairs"]
    return summary | ({} if pairs is None else {"pair accuracy": round(pairs["accuracy"], 4)}) | {"notes": notes}


def _labelled(job: Job[ItemsRunSettings], name: str, encoder: str) -> LabelledVectors:
    """The embedded rows of an input with their labels."""
    is_items = name == ITEMS
    encoded = read_encoded(job.folder("embed"), encoder, ITEMS if is_items else storage.join(name, ITEMS))
    catalogue = _catalogue(job, name, ["item_id", "label"])
    at = pc.index_in(encoded.ids, value_set=catalogue["item_id"].combine_chunks())
    labels = catalogue["label"].combine_chunks().take(at)
    return LabelledVectors(encoded.ids, encoded.vectors, labels, own=is_items)


def _catalogue(job: Job[ItemsRunSettings], name: str, columns: Sequence[str]) -> pa.Table:
    file = "catalogue.parquet" if name == ITEMS else f"{name}.parquet"
    return storage.read_parquet(storage.join(job.folder("prepare"), file), columns)


def _why_not(settings: ItemsRunSettings, items: LabelledVectors) -> str:
    """Why nothing can be judged, where that is so."""
    if settings.items.label is None:
        return "items have no label; items.label names its column"
    if items.labels.null_count == len(items.labels):
        return f"no item has a {settings.items.label}"
    return "what is looked up has no label of another item; labels must come twice, or in items and queries"


def _rejects(embedded: dict[str, Any]) -> list[str]:
    """What the encoder could not take, in words."""
    counts = {name: embedded.get(f"{name}_rejected", 0) for name in (ITEMS, "queries")}
    return [f"The encoder could not take {n:,} of the prepared {name}" for name, n in counts.items() if n]


def _pairs(queries: LabelledVectors, found: Retrieval, seed: int) -> dict[str, Any] | None:
    """How often two rows are rightly called alike or not: by a threshold of their cosine, set on other such pairs."""
    from topkin.models.metric_learning.samplers.pairs import make_pairs
    from topkin.models.similarity.siamese import best_threshold, pair_accuracy

    known = pc.is_valid(queries.labels)
    labels = queries.labels.filter(known).to_pylist()
    if found.metrics is None or len(labels) < 4 or len(set(labels)) in (1, len(labels)):
        return None
    pairs, unit = make_pairs(labels, seed=seed), unit_rows(queries.vectors[np.asarray(known)])
    cosines = np.einsum("nd,nd->n", unit[pairs.first], unit[pairs.second])
    half = len(cosines) // 2
    threshold, _ = best_threshold(cosines[:half], pairs.alike[:half], larger_is_nearer=True)
    accuracy = pair_accuracy(cosines[half:], pairs.alike[half:], threshold, larger_is_nearer=True)
    return {"accuracy": accuracy, "threshold": threshold, "pairs": len(cosines) - half}


def _calibrated(job: Job[ItemsRunSettings], queries: LabelledVectors, found: Retrieval) -> dict[str, Any] | None:
    """The threshold of ``topkin match``; none where the precision that is asked for is never reached."""
    from topkin.models.similarity.calibration import calibrate

    known = found.asked & (found.nearest[0][:, 0] >= 0)
    if found.metrics is None or not known.any():
        return None
    target = job.settings.evaluate.precision
    try:
        chosen = calibrate(found.nearest[1][known, 0], found.right[known], target)
    except ValueError as e:
        return {"threshold": None, "reason": f"No threshold reaches evaluate.precision = {target:g}: {e}"}
    chosen.save(storage.join(job.out, "calibration.parquet"))
    return {name: getattr(chosen, name) for name in ("threshold", "precision", "recall", "target", "queries")}


def _write_report(
    job: Job[ItemsRunSettings],
    metrics: dict[str, Any],
    queries: LabelledVectors,
    items: LabelledVectors,
    found: Retrieval,
) -> None:
    report = ItemsReport(
        run_id=job.out.rstrip("/").split("/")[-2],
        as_of=job.as_of,
        metrics=metrics,
        statistics=storage.read_json(storage.join(job.folder("prepare"), "statistics.json")),
        look_ups=_look_ups(job, metrics["judged_by"], queries, items, found),
        training=training_lines(storage.read_json(storage.join(job.folder("train"), "training.json"))),
    )
    storage.write_bytes(masked(render_items(report)).encode(), storage.join(job.out, "report.html"))


def _chosen(found: Retrieval, seed: int) -> np.ndarray:
    """The queries that are shown: half found wrongly, half rightly, as far as there are such; ascending."""
    order = np.random.default_rng(seed).permutation(len(found.right))
    order = order[found.nearest[0][order, 0] >= 0]
    order = order[found.asked[order]] if found.metrics is not None else order
    wrong, right = order[~found.right[order]], order[found.right[order]]
    some = wrong[: max(SHOWN // 2, SHOWN - len(right))]
    return np.sort(np.concatenate([some, right[: SHOWN - len(some)]]))


def _look_ups(
    job: Job[ItemsRunSettings], by: str, queries: LabelledVectors, items: LabelledVectors, found: Retrieval
) -> list[LookUp]:
    """What the page shows of some look-ups, with pictures where the encoder takes images, else with titles."""
    chosen, judged = _chosen(found, job.settings.run.seed), found.metrics is not None
    near, cosines = found.nearest[0][chosen, :NEAREST], found.nearest[1][chosen, :NEAREST]
    distinct = np.unique(near[near >= 0])
    own = _shown(job, by, queries, chosen)
    others = dict(zip(distinct.tolist(), _shown(job, ITEMS, items, distinct), strict=True))
    look_ups = []
    for query, rows, scores in zip(own, near, cosines, strict=True):
        nearest = []
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            if row >= 0:
                item = others[row]
                right = item.label == query.label if judged and query.label is not None else None
                nearest.append(Shown(item.name, item.label, item.picture, score, right))
        look_ups.append(LookUp(query, nearest))
    return look_ups


def _shown(job: Job[ItemsRunSettings], name: str, rows: LabelledVectors, numbers: np.ndarray) -> list[Shown]:
    """Some rows as they are shown."""
    ids = rows.ids.take(pa.array(numbers))
    titles = _catalogue(job, name, ["item_id", "title"])
    at = pc.index_in(ids, value_set=titles["item_id"].combine_chunks())
    named = titles["title"].combine_chunks().take(at).to_pylist()
    pictures = _pictures(job, name, ids)
    labels = rows.labels.take(pa.array(numbers)).to_pylist()
    keys = ids.to_pylist()
    return [
        Shown(title or str(format_id(key)), label, pictures.get(key))
        for key, title, label in zip(keys, named, labels, strict=True)
    ]


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
    name="evaluate",
    folder="report",
    sections=("run", "evaluate"),
    needs=lambda settings: ("prepare", "train", "embed", "index"),
    work=evaluate,
)
