"""What of training's choice the lists use, and where it lies."""

from collections.abc import Mapping
from typing import Any

from topkin.artifacts import storage
from topkin.baselines.registry import SOURCES, SOURCES_BY_TIME
from topkin.config.sections import RecommendSettings, Settings

BLEND = "blend.json"
"""Beside the encoder: ``tuning.Choice``."""


MOST_PURCHASES = 20_000_000
"""Up to which sources are tried without being asked for: they are fitted on all purchases in one process."""

TRIED_ON = 5_000_000
"""Purchases that sources learn from while validation chooses, about: that costs no more for a larger shop."""

KEPT = 256e6
"""Bytes of the neighbours of a period's sources that stay until the encoder that judges a night has been made too."""

HOLDOUT_JUDGES = 2_000
"""Users who choose the second stage of that encoder, at most: it stands in for tonight's."""

TRIED_DEPTH = 100
"""Candidates of each ranker while validation chooses: the first 20 of a list hardly come from further down."""

JUDGES = 50_000
"""Users who judge sources, at most, unless ``train.validation_users`` are more."""

HELD = 256e6
"""Bytes of the candidates of all of them, likewise."""

SCORED = 1.2e10
"""Their scores of items by all rankers, times the rankers that are weighed against each other, likewise."""


def judges(rankers: int, items: int, least: int) -> int:
    """How many users say whether sources help, of all periods: what these add is small, and many tell it from noise.

    As many as memory and time allow, JUDGES, HELD and SCORED, and no fewer than ``least``. rankers: the encoder and the
    sources.
    """
    return max(least, int(min(JUDGES, HELD / judge_bytes(rankers), SCORED / (rankers**2 * max(items, 1)))))


def judge_bytes(rankers: int) -> int:
    """Of the candidates of one user who judges, at most: their numbers, cosines and features."""
    return 4 * TRIED_DEPTH * rankers * (rankers + 2)


def sources_tried(settings: RecommendSettings, purchases: int, *, timed: bool) -> tuple[str, ...]:
    """The sources that stand beside the encoder if validation says so: those asked for, or the default of smaller logs.

    Args:
        settings: Of the lists; whether their sources were asked for counts.
        purchases: Known ones.
        timed: Whether they have times.
    """
    asked = "sources" in settings.model_fields_set
    if settings.baseline is not None or not (asked or purchases <= MOST_PURCHASES):
        return ()
    return SOURCES_BY_TIME if timed and not asked and settings.sources == SOURCES else settings.sources


def sources_trained(settings: Settings, purchases: int) -> tuple[str, ...]:
    """The sources that training weighs: those of any list by the encoder, which has all of ``[recommend]`` or none.

    Args:
        settings: With all lists: where a baseline makes that of ``[recommend]``, another may be the encoder's.
        purchases: Known ones.
    """
    lists = [settings.of_list(name).recommend for name in settings.list_names]
    return max((sources_tried(own, purchases, timed=settings.timed) for own in lists), key=len)


def read_blend(model: str) -> dict[str, Any]:
    """``blend.json`` of a model's folder; empty where none was chosen."""
    path = storage.join(model, BLEND)
    chosen: dict[str, Any] = storage.read_json(path) if storage.exists(path) else {}
    return chosen


def blend_of(settings: RecommendSettings, chosen: Mapping[str, Any]) -> dict[str, float] | None:
    """The weights of the encoder and of the sources by name; None where the encoder, or another model, ranks alone.

    Args:
        settings: Of the lists.
        chosen: ``blend.json``.
    """
    if settings.baseline is not None or not chosen.get("weights"):
        return None
    if not set(chosen["weights"]) - {"encoder"} <= set(settings.sources):
        return None
    return {name: float(weight) for name, weight in chosen["weights"].items()}
