"""The shape of ``metrics.json`` and ``training.json``, as far as the report shows them."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

Scores = Mapping[str, float]
"""Values by metric, such as ``ndcg@10``."""
ByModel = Mapping[str, Scores]
Intervals = Mapping[str, Mapping[str, tuple[float, float, float]]]
"""Low end, mean and high end of an interval, by model and metric."""


class Verdict(TypedDict):
    """Whether the model is good, by which metric of which protocol; None and the reason where it was not measured."""

    protocol: str
    metric: str
    good: bool | None
    reason: str | None


Group = TypedDict("Group", {"name": str, "from": int, "to": int, "users": int, "pairs": int, "metrics": ByModel})
"""A kind of users, or items by their sales: least and greatest number of purchases, and each model's scores."""


class ColdItems(TypedDict):
    """How well new and rare items are found, in lists of all items and of cold ones alone."""

    days: int
    sales: int
    items: int
    users: int
    pairs: int
    of_all: ByModel
    among_cold: ByModel


class Published(TypedDict):
    """The published lists under their own rule on bought items."""

    policy: str
    users: int
    metrics: Scores
    coverage: Scores
    reason: str | None
    rules_cost: NotRequired[Mapping[str, Mapping[str, Any]]]


class HoldOut(TypedDict):
    """What stood in for the run's encoder where the last days were held out: see ``models.training.holdout``."""

    cut: str
    days: float
    periods: int
    users: int
    as_set: list[str]
    night: NotRequired[str]


class Metrics(TypedDict):
    """``metrics.json``; what is by protocol is empty where nothing was held out."""

    k: Sequence[int]
    models: Sequence[str]
    left_out: Mapping[str, str]
    heldout: Mapping[str, int]
    all: ByModel
    novel: ByModel
    differences: Mapping[str, Intervals]
    intervals: Mapping[str, Intervals]
    p: Mapping[str, ByModel]
    coverage: Mapping[str, ByModel]
    lists: Mapping[str, ByModel]
    segments: Mapping[str, Mapping[str, Sequence[Group]]]
    cold_items: ColdItems
    published: Published
    beats: Mapping[str, bool]
    verdict: Verdict
    holdout: HoldOut | None
    made_by: NotRequired[str]
    resamples: NotRequired[int]
    sampled: NotRequired[Mapping[str, float] | None]
    validation: NotRequired[Mapping[str, Any]]
    doubts: NotRequired[Sequence[str]]
    promise: NotRequired[Mapping[str, Any] | None]


class TrainingRecord(TypedDict, total=False):
    """``training.json``: a row for each epoch without the last days (``epochs``) and over all purchases (``refit``)."""

    epochs: Sequence[Mapping[str, float]]
    refit: Sequence[Mapping[str, float]]
    stopped: str
    best_epoch: int
    given: str


def protocol_scores(metrics: Metrics, protocol: str) -> ByModel:
    """Each model's scores under a protocol."""
    return {"all": metrics["all"], "novel": metrics["novel"]}[protocol]
