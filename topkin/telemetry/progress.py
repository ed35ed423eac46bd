"""Progress of work: ``advance`` where rows are done, ``listen`` where they are shown.

Without a listener in the process (a remote worker, a test) nothing happens.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int | None], None]
_listeners: list[Listener] = []


def advance(step: str, rows: int, total: int | None = None) -> None:
    """Report ``rows`` more rows done in ``step``; ``total`` where it is known."""
    for listener in _listeners:
        listener(step, rows, total)


@contextmanager
def listen(listener: Listener) -> Iterator[None]:
    """Call ``listener(step, rows, total)`` on each report made in this process."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
