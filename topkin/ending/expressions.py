"""The limits of an expression that a user wrote: it is interrupted, and where that does not help the process ends.

An engine looks for an interruption between blocks of rows, and counts what it buffers, not what a function makes: one
row may take hours, or all of the memory. A command then ends with the message before the kernel ends it without one.
"""

import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from topkin.ending import signals
from topkin.errors import ConfigError

LOOK_SECONDS = 0.05
LATE_SECONDS = 5.0
"""How long an interruption may take to be seen."""
OVER = 1.5
"""How much more than its memory an expression may have got before the process ends, seen or not."""


@dataclass(frozen=True)
class Limits:
    """What one expression may take over one batch of rows: seconds, and gigabytes beside the rows."""

    seconds: float = 60.0
    memory: float = 2.0

    def exceeded(self, what: str, rows: int | None = None) -> str:
        """What is told of an expression that takes more than its ``seconds`` or its ``memory``."""
        most = {
            "seconds": f"{self.seconds:g} seconds (prepare.rule_seconds)",
            "memory": f"{self.memory:g} GB (prepare.rule_memory)",
        }[what]
        over = "" if rows is None else f" over {rows:,} rows"
        return f"takes more than {most}{over}: write it simpler, or raise that key"


DEFAULT = Limits()


class ExceededError(Exception):
    """An expression took more than its limits: ``what`` is seconds or memory."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@contextmanager
def within(limits: Limits, interrupt: Callable[[], None]) -> Iterator[None]:
    """Interrupt what is done inside where it takes more than its limits, and then raise ExceededError.

    Args:
        limits: What it may take.
        interrupt: Called from another thread.
    """
    over, exceeded = threading.Event(), list[str]()
    began, at_first = time.monotonic(), _resident()

    def watch() -> None:
        since = 0.0
        while not over.wait(LOOK_SECONDS):
            passed, got = time.monotonic() - began, (_resident() - at_first) / 1e9
            if not exceeded and (passed > limits.seconds or got > limits.memory):
                exceeded.append("memory" if got > limits.memory else "seconds")
                since = passed
                interrupt()
            elif exceeded and (passed - since > LATE_SECONDS or got > OVER * limits.memory):
                signals.end_now(ConfigError(f"an expression of rules or normalise {limits.exceeded(exceeded[0])}"))

    thread = threading.Thread(target=watch, name="topkin-expression", daemon=True)
    thread.start()
    try:
        yield
    except Exception as e:
        if exceeded:
            raise ExceededError(exceeded[0]) from e
        raise
    finally:
        over.set()
        thread.join()


def _resident() -> int:
    """Bytes of memory that this process holds; 0 where it cannot be told."""
    with suppress(OSError, ValueError), open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
    return 0
