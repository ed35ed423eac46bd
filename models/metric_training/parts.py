"""From names of the configuration to objects of the library: losses, miners, distances, reducers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from topkin.config.items_train import ItemsTrainSettings
from topkin.config.metric_parts import TABLES, PartSettings, inner_parts, part_of
from topkin.errors import ConfigError
from topkin.models.metric_learning import distances, losses, miners, reducers
from topkin.models.metric_learning.distances import Distance
from topkin.models.metric_learning.losses.base import Loss

_MODULES: Mapping[str, Any] = {
    "loss": losses,
    "losses": losses,
    "miner": miners,
    "distance": distances,
    "reducer": reducers,
}
FREE = ("BPR", "Center", "NPair", "SoftNearestNeighbour")
"""Losses whose papers leave the rows' lengths free; the others read rows of length 1."""


def loss_of(settings: ItemsTrainSettings, *, counts: np.ndarray, dim: int, seed: int) -> Loss:
    """The loss of some settings.

    Args:
        settings: Section ``[train]``.
        counts: (classes,), how often each label occurs, for parts that correct for it.
        dim: Coordinates of a vector, for parts that remember some.
        seed: Of what is drawn.

    Raises:
        ConfigError: An argument of another type, or out of its range.
    """
    part = settings.chosen_loss
    beside = {key: getattr(settings, key) for key in ("miner", "distance") if getattr(settings, key) is not None}
    if set(beside) == {"distance"} and part_of("loss", part).reads == "pairs":
        beside = {}
    given = {"counts": counts, "dim": dim, "seed": seed}
    loss: Loss = _instance("train.loss", "loss", part, given, {k: v.model_dump() for k, v in beside.items()})
    return loss


def distance_of(settings: ItemsTrainSettings) -> Distance:
    """The distance by which pairs made beforehand are compared, the Euclidean where none is named."""
    if settings.distance is None:
        return distances.Euclidean()
    instance: Distance = _instance("train.distance", "distance", settings.distance, {}, {})
    return instance


def unit_rows_wanted(settings: ItemsTrainSettings) -> bool:
    """Whether the loss reads rows of length 1."""
    return part_of("loss", settings.chosen_loss).cls not in FREE


def _instance(place: str, key: str, settings: PartSettings, given: Mapping[str, Any], beside: Mapping[str, Any]) -> Any:
    """A part, those inside it first. given: what the training knows. beside: arguments from keys of their own."""
    part = part_of(key, settings)
    arguments = {**settings.arguments, **beside}
    for name, value in arguments.items():
        if name in TABLES:
            inside = [_instance(f"{place}.{name}", name, p, given, {}) for p in inner_parts(name, value)]
            arguments[name] = inside if name == "losses" else inside[0]
    cls = getattr(_MODULES[key], part.cls)
    known = {name: given[name] for name in ("counts", "dim", "seed") if name in given and name in cls.options()}
    try:
        return cls(**arguments, **known)
    except (TypeError, ValueError) as e:
        raise ConfigError(f"{place} = {settings.name!r}: {e}") from e
