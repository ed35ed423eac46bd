"""Which settings to try, in which order: seeded draws from a space of keys, the configured ones first."""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from topkin.errors import ConfigError, nearest_name

SPACE: dict[str, tuple[Any, ...]] = {
    "temperature": (0.05, 0.07, 0.1, 0.14, 0.2, 0.28),
    "learning_rate": (0.003, 0.006, 0.01, 0.02),
    "learning_rate_decay": (0.6, 0.8, 0.9),
    "inverse_popularity": (0.25, 0.5, 0.75),
    "user_power": (0.0, 0.25, 0.5),
    "example_half_life_days": (30.0, 60.0, 120.0, 3650.0),
    "neighbours": (0, 5, 10, 20),
    "negatives": (2048, 4096, 8192),
    "id_dropout": (0.0, 0.1, 0.2),
    "svd_power": (0.5, 0.7, 0.9),
    "svd_inverse_popularity": (0.25, 0.5, 0.75),
}
"""What ``topkin tune`` draws from: keys of ``[train]`` and ``[train.advanced]`` and the values worth trying."""


def space_of(keys: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """The part of the space that some keys name; all of it without any. Raises ConfigError for another key."""
    names = [key.removeprefix("train.").removeprefix("advanced.") for key in keys]
    if unknown := [name for name in names if name not in SPACE]:
        near = nearest_name(unknown[0], SPACE)
        hint = f": did you mean {near}?" if near else ": validation chooses the others in every run, or they are yours"
        raise ConfigError(f"--key must be one of {', '.join(SPACE)}, got {', '.join(unknown)}{hint}")
    return {name: SPACE[name] for name in names or SPACE}


def draws(space: Mapping[str, Sequence[Any]], seed: int) -> Iterator[dict[str, Any]]:
    """Settings to try: none at first, then changes of a few keys at a time, each draw once, for ever new ones end.

    A draw depends on the seed and its number alone, so that a search goes on where it stopped.
    """
    yield {}
    seen: set[tuple[tuple[str, Any], ...]] = {()}
    rng = random.Random(seed)
    everything = 1
    for values in space.values():
        everything *= len(values) + 1
    for _ in range(min(50 * everything, 100_000)):
        names = rng.sample(sorted(space), min(rng.choice((1, 1, 2, 3)), len(space)))
        draw = {name: rng.choice(list(space[name])) for name in names}
        key = tuple(sorted(draw.items()))
        if key not in seen:
            seen.add(key)
            yield draw


def best_of(trials: Sequence[Mapping[str, Any]], metric: str) -> Mapping[str, Any]:
    """The trial of highest metric, the earliest of equals."""
    return max(trials, key=lambda trial: (trial[metric], -trial["number"]))
