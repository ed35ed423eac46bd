"""Parts by their names: those that a configuration gives them, ``topkin.config.metric_parts``, and no others."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from topkin.config.metric_parts import TABLES, PartSettings, faults, named, part_of

_MODULES = {"loss": "losses", "miner": "miners", "distance": "distances", "reducer": "reducers"}


def part(key: str, value: object) -> Any:
    """A part: the one that a text names, with its own defaults; what is no text as it is.

    key: "loss", "miner", "distance" or "reducer". Case and underscores of names do not count. Raises ValueError for a
    name that none has, with the nearest.
    """
    if not isinstance(value, str):
        return value
    known = named(value, TABLES[key])
    if known is None:
        raise ValueError(next(faults(key, key, PartSettings(name=value))))
    module = importlib.import_module(f"topkin.models.metric_learning.{_MODULES[key]}")
    try:
        return getattr(module, TABLES[key][known].cls)()
    except TypeError as e:
        raise ValueError(f"{key} {known!r} has no defaults, it needs arguments ({e}): make it by its class") from e


def sampler_of(choice: str | Mapping[str, Any], rows: object, labels: object) -> Any:
    """Batches of rows (n, ...) in memory and their labels (n,), by the name of a sampler or a table of its arguments.

    Raises ValueError for a name or argument that there is not, with the nearest; as the sampler.
    """
    from topkin.models.metric_learning import samplers

    settings = PartSettings.model_validate(choice if isinstance(choice, str) else dict(choice))
    wrong = next(faults("sampler", "sampler", settings), None)
    if wrong is not None:
        raise ValueError(wrong)
    cls, arguments = part_of("sampler", settings).cls, settings.arguments
    if cls == "ClassBatches":
        arguments.setdefault("classes", max(2, min(8, len(set(np.asarray(labels).tolist())))))
    return getattr(samplers, cls)(np.asarray(rows), labels, **arguments)
