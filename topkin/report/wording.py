"""The words and number formats of the report."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from topkin.baselines.registry import BASELINES

T = TypeVar("T")

MODEL_NAMES = {"model": "This model", **{name: entry.label for name, entry in BASELINES.items()}}
METRIC_NAMES = {
    "recall": "Recall",
    "precision": "Precision",
    "ndcg": "NDCG",
    "map": "MAP",
    "mrr": "MRR",
    "hit_rate": "Hit rate",
    "coverage": "Coverage",
}
PROTOCOL_NAMES = {"novel": "Items new to the user", "all": "All items, bought ones too"}
SOURCE_NAMES = {
    "model": "the model",
    "segment_recent_popularity": "recent popularity in the user's segment",
    "recent_popularity": "recent popularity",
    "popularity": "popularity",
}


def in_order(by_model: Mapping[str, T]) -> list[tuple[str, T]]:
    """What is known of each model, in the order of MODEL_NAMES: JSON files have theirs by name."""
    return [(name, by_model[name]) for name in MODEL_NAMES if name in by_model]


def count(value: float | None) -> str:
    """A count with thousands apart; a dash for none."""
    return "–" if value is None else f"{value:,.0f}"


def plural(value: int, one: str, many: str = "") -> str:
    """A count with its noun."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def day(value: Any) -> str:
    """9 Nov 2011, and the time of day where it is not midnight."""
    if value is None:
        return "–"
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    text = f"{value.day} {value:%b %Y}"
    return f"{text}, {value:%H:%M}" if isinstance(value, datetime) and (value.hour or value.minute) else text


def share(part: float, whole: float) -> str:
    """A share in per cent; never 0 % of something, nor 100 % of not all."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if part and percent < 0.1:
        return "< 0.1 %"
    if part != whole and percent > 99.9:
        return "> 99.9 %"
    return f"{percent:.1f} %" if 0 < percent < 100 else f"{percent:.0f} %"


def score(value: float, source: str) -> str:
    """A cosine with three decimals; the popular items' scores are counts."""
    return f"{value:.3f}" if source == "model" else f"{value:,.0f}"


def signed(value: float) -> str:
    """A difference with its sign and four decimals."""
    return f"{value:+.4f}".replace("-", "−")


def metric_name(name: str) -> str:
    """``ndcg@10`` as ``NDCG@10``."""
    kind, _, k = name.partition("@")
    return f"{METRIC_NAMES[kind]}@{k}"
