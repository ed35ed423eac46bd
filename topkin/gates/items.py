"""The gates of a run over items alone."""

from collections.abc import Iterator, Mapping
from typing import Any

from topkin.config.publish.settings import ItemsPublishSettings
from topkin.gates import versions
from topkin.gates.gate import Gate, asked, at_least, percent

Figures = Mapping[str, Any]


def gates(
    settings: ItemsPublishSettings, now: Figures, live: Figures, unknown: float | None, metrics: Figures
) -> Iterator[Gate]:
    """Every gate that is on.

    Args:
        settings: The limits.
        now: The figures of the version (:func:`topkin.gates.figures.of_items`).
        live: Those of the live version, empty where nothing is live.
        unknown: The share of the items that the live version does not know; None likewise.
        metrics: The content of metrics.json.
    """
    indexed, prepared = metrics["indexed"], metrics["prepared"]
    yield from versions.least(
        "items in the index", "min_items", indexed, settings.min_items, "{} items are in the index"
    )
    if settings.min_embedded is not False:
        what = f"{indexed:,} of {prepared:,} items have a vector in the index, {{}}"
        share = indexed / max(prepared, 1)
        yield at_least("items with a vector", "min_embedded", share, settings.min_embedded, what, percent)
    yield from versions.counts(settings, now, live)
    yield from versions.rejects(settings, now, live)
    yield from versions.unknown(settings, {"items": unknown}, bool(live))
    yield from versions.vectors(settings, now, live)
    yield from versions.index(settings, now)
    if settings.min_label_recall is not None:
        yield _labels(settings.min_label_recall, metrics)


def _labels(least: float, metrics: Figures) -> Gate:
    name, key, retrieval = "recall by label", "min_label_recall", metrics["retrieval"]
    if retrieval is None:
        return asked(name, key, False, f"Recall@1 was not measured: {metrics['unjudged']} (publish.{key})")
    share = retrieval["recall_any@1"]
    sentence = f"Recall@1 {share:.4f}; publish.{key} asks for {least:g}"
    return asked(name, key, share >= least, sentence, figure=share, limit=least)
