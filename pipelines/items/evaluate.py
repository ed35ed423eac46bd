"""The job ``evaluate`` of items alone: look-ups are judged by labels, where there are some.

Writes ``metrics.json``, ``look_ups.parquet`` and, where a threshold was found, ``calibration.parquet``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import ITEMS, LOOK_UPS, SUMMARY, read_encoded
from topkin.config.items_run import ItemsRunSettings
from topkin.evaluation.retrieval import LabelledVectors, Retrieval, judge
from topkin.linalg.cosine import unit_rows
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stage import Stage

SHOWN, NEAREST = 16, 8
"""Look-ups that the report shows, and items of each."""


def evaluate(job: Job[ItemsRunSettings]) -> dict[str, Any]:
    """Judge; returns the summary of the metrics."""
    settings, embedded = job.settings, storage.read_json(storage.join(job.folder("embed"), SUMMARY))
    encoder = str(embedded["encoder"])
    items = _labelled(job, ITEMS, encoder)
    asked = items if settings.queries is None else _labelled(job, "queries", encoder)
    rows, queries = asked.sample(settings.evaluate.sample, settings.run.seed)
    retrieval = judge(queries, rows, items, settings.evaluate.k)
    index = storage.read_json(storage.join(job.folder("index"), "index.json"))
    metrics: dict[str, Any] = {
        "encoder": encoder,
        "dim": embedded["dim"],
        "items": len(items.ids),
        "indexed": index["indexed"],
        "trained_on_items": job.settings.train is not None and job.settings.queries is None,
        "prepared": storage.read_json(storage.join(job.folder("prepare"), "statistics.json"))["items"],
        "judged_by": ITEMS if settings.queries is None else "queries",
        "retrieval": retrieval.metrics,
        "unjudged": _why_not(settings, items),
        "knn": {str(k): accuracy for k, accuracy in retrieval.knn.items()},
        "by_label": retrieval.by_label,
        "pairs": _pairs(queries, retrieval, settings.run.seed),
        "match": _calibrated(job, queries, retrieval),
        "index": {name: value for name, value in index["recall"].items() if name.startswith("recall@")},
        "rejects": _rejects(embedded),
    }
    storage.write_json(metrics, storage.join(job.out, "metrics.json"))
    _write_look_ups(job, encoder, queries, items, retrieval)
    whole = {} if retrieval.metrics is None else {k: v for k, v in retrieval.metrics.items() if isinstance(v, float)}
    notes = [] if retrieval.metrics is not None else [f"not judged: {metrics['unjudged']}"]
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


def _pairs(queries: LabelledVectors, retrieval: Retrieval, seed: int) -> dict[str, Any] | None:
    """How often two rows are rightly called alike or not: by a threshold of their cosine, set on other such pairs."""
    from topkin.models.metric_learning.samplers.pairs import make_pairs
    from topkin.models.similarity.siamese import best_threshold, pair_accuracy

    known = pc.is_valid(queries.labels)
    labels = queries.labels.filter(known).to_pylist()
    if retrieval.metrics is None or len(labels) < 4 or len(set(labels)) in (1, len(labels)):
        return None
    pairs, unit = make_pairs(labels, seed=seed), unit_rows(queries.vectors[np.asarray(known)])
    cosines = np.einsum("nd,nd->n", unit[pairs.first], unit[pairs.second])
    half = len(cosines) // 2
    threshold, _ = best_threshold(cosines[:half], pairs.alike[:half], larger_is_nearer=True)
    accuracy = pair_accuracy(cosines[half:], pairs.alike[half:], threshold, larger_is_nearer=True)
    return {"accuracy": accuracy, "threshold": threshold, "pairs": len(cosines) - half}


def _calibrated(job: Job[ItemsRunSettings], queries: LabelledVectors, retrieval: Retrieval) -> dict[str, Any] | None:
    """The threshold of ``topkin match``; none where the precision that is asked for is never reached."""
    from topkin.models.similarity.calibration import calibrate

    known = retrieval.asked & (retrieval.nearest[0][:, 0] >= 0)
    if retrieval.metrics is None or not known.any():
        return None
    target = job.settings.evaluate.precision
    try:
        chosen = calibrate(retrieval.nearest[1][known, 0], retrieval.right[known], target)
    except ValueError as e:
        return {"threshold": None, "reason": f"No threshold reaches evaluate.precision = {target:g}: {e}"}
    chosen.save(storage.join(job.out, "calibration.parquet"))
    return {name: getattr(chosen, name) for name in ("threshold", "precision", "recall", "target", "queries")}


def _write_look_ups(
    job: Job[ItemsRunSettings], encoder: str, queries: LabelledVectors, items: LabelledVectors, retrieval: Retrieval
) -> None:
    """``look_ups.parquet``: the look-ups that the report shows, a row for each of their nearest items."""
    chosen = _chosen(retrieval, job.settings.run.seed)
    near, cosines = retrieval.nearest[0][chosen, :NEAREST], retrieval.nearest[1][chosen, :NEAREST]
    query, place = np.nonzero(near >= 0)
    asked, there = pa.array(chosen[query]), pa.array(near[query, place])
    table = pa.table(
        {
            "query_id": queries.ids.take(asked),
            "query_label": queries.labels.take(asked),
            "rank": pa.array(place + 1, pa.int32()),
            "item_id": items.ids.take(there),
            "label": items.labels.take(there),
            "score": pa.array(cosines[query, place], pa.float32()),
        }
    )
    made_by = schemas.with_encoder(table.schema, encoder)
    storage.write_parquet(table.cast(made_by), storage.join(job.out, LOOK_UPS))


def _chosen(retrieval: Retrieval, seed: int) -> np.ndarray:
    """The queries that are shown: half found wrongly, half rightly, as far as there are such; ascending."""
    order = np.random.default_rng(seed).permutation(len(retrieval.right))
    order = order[retrieval.nearest[0][order, 0] >= 0]
    order = order[retrieval.asked[order]] if retrieval.metrics is not None else order
    wrong, right = order[~retrieval.right[order]], order[retrieval.right[order]]
    some = wrong[: max(SHOWN // 2, SHOWN - len(right))]
    return np.sort(np.concatenate([some, right[: SHOWN - len(some)]]))


STAGE = Stage(
    name="evaluate",
    folder="evaluation",
    sections=("run", "evaluate"),
    needs=lambda settings: ("prepare", "train", "embed", "index"),
    dated=False,
    work=evaluate,
)
