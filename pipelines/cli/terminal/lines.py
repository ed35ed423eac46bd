"""What goes on, for who has no terminal: lines of text, or one JSON object a line (``--log-format json``).

Of JSON each line has ``time`` (UTC) and ``event``, and by that ``stage_started`` (stage, estimate), ``progress`` (step,
rows, total, rows_per_second, seconds_left), ``stage_finished`` (stage, reused, seconds, summary), ``note`` (message),
``log`` (level, message) and ``run_finished`` (what the webhook is sent).
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topkin.pipelines.engine.stages import Event

EVERY_SECONDS = 30.0
"""Between two lines about one step of work."""


@dataclass(frozen=True)
class Progress:
    """How far a step of work is; ``total`` and ``seconds_left`` are None where they are not known."""

    step: str
    rows: int
    total: int | None
    rows_per_second: float
    seconds_left: float | None


@dataclass
class Steps:
    """Adds up what steps report, and tells of each step no more than once in ``every`` seconds.

    tell: called with a step that is not done. clock: seconds.
    """

    tell: Callable[[Progress], None]
    every: float = EVERY_SECONDS
    clock: Callable[[], float] = time.monotonic
    _steps: dict[str, tuple[int, float, float]] = field(default_factory=dict)  # rows, when begun, when told last
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, step: str, rows: int, total: int | None) -> None:
        """A listener of ``telemetry.progress``; stages report from their own threads."""
        with self._lock:
            now = self.clock()
            done, began, shown = self._steps.get(step, (0, now, now))
            done += rows
            due = now - shown >= self.every
            self._steps[step] = done, began, now if due else shown
            if not due or (total is not None and done >= total):
                return
            rate = done / (now - began)
            left = (total - done) / rate if total is not None and rate else None
            self.tell(Progress(step, done, total, rate, left))


def in_words(progress: Progress) -> str:
    """``train: epoch 3   12,000 of 50,000 rows, 4,000/s, 10 s left``."""
    from topkin.planning.estimate import duration

    of = f" of {progress.total:,}" if progress.total is not None else ""
    left = f", {duration(progress.seconds_left)} left" if progress.seconds_left is not None else ""
    return f"{progress.step}   {progress.rows:,}{of} rows, {progress.rows_per_second:,.0f}/s{left}"


def estimate_of(event: "Event") -> dict[str, Any]:
    """What the plan says of a stage: rows, seconds, bytes of memory of a worker; empty where it has not said."""
    cost = event.cost
    if cost is None:
        return {}
    return {"rows": cost.rows, "seconds": round(cost.seconds, 3), "memory_bytes": round(cost.memory)}


def started(event: "Event") -> str:
    """A line for a stage that begins, with the plan's estimate."""
    from topkin.planning.estimate import duration, size

    cost = event.cost
    planned = "" if cost is None else f", by the plan {cost.rows:,} rows, {duration(cost.seconds)}, {size(cost.memory)}"
    return f"{event.stage:<10} {'begins':>9}{planned}"


def emit(event: str, **fields: Any) -> None:
    """Print one object on stderr."""
    value = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
    print(json.dumps(value, default=str), file=sys.stderr, flush=True)


def emit_event(event: "Event") -> None:
    """Print what the engine reports."""
    if event.state == "started":
        emit("stage_started", stage=event.stage, estimate=estimate_of(event) or None)
        return
    summary: Mapping[str, Any] = event.summary or {}
    if event.state == "submitted":
        emit("stage_submitted", stage=event.stage, **summary)
        return
    reused = event.state == "reused"
    emit("stage_finished", stage=event.stage, reused=reused, seconds=round(event.seconds, 3), summary=summary)


def emit_progress(progress: Progress) -> None:
    """Print how far a step is."""
    left = None if progress.seconds_left is None else round(progress.seconds_left, 1)
    emit(
        "progress",
        step=progress.step,
        rows=progress.rows,
        total=progress.total,
        rows_per_second=round(progress.rows_per_second, 1),
        seconds_left=left,
    )


class LogLines(logging.Formatter):
    """What topkin or a library logs, as an object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {"time": stamp, "event": "log", "level": record.levelname.lower(), "message": record.getMessage()}
        return json.dumps(fields)


def log_as_json() -> None:
    """Have every handler of the root logger write objects, warnings of Python too."""
    logging.captureWarnings(True)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(LogLines())
