"""Progress of work: ``advance`` where rows are done, ``note`` where things happen, ``listen`` and ``hear`` to show.

Without a listener in the process (a remote worker, a test) nothing happens.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int | None], None]
_listeners: list[Listener] = []
_hearers: list[Callable[[str], None]] = []


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


def note(line: str) -> None:
    """Tell a line of what goes on, such as the state of a job elsewhere."""
    for hearer in _hearers:
        hearer(line)


@contextmanager
def hear(hearer: Callable[[str], None]) -> Iterator[None]:
    """Call ``hearer(line)`` on each line that is told in this process."""
    _hearers.append(hearer)
    try:
        yield
    finally:
        _hearers.remove(hearer)
