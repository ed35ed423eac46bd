"""Which of a test's many parameters are quick: the others are slow, and as well tried by ``make slow``."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def some(values: Iterable[Any], every: int, *, name: Callable[[Any], str] = str) -> list[Any]:
    """Parameters of which one of each ``every`` is quick, from the first on. name: what a value is called."""
    slow = pytest.mark.slow
    return [pytest.param(v, id=name(v), marks=(slow,) if n % every else ()) for n, v in enumerate(values)]
