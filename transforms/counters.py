"""Beam counters of every step: rows and bytes of its tables, milliseconds that it worked.

The tables are those that it gave; of a step that gives none, those that it got.

They lie in the namespace ``topkin`` under the step's own name, whatever the runner. Counts that a stage tells go
through its tables of counts instead, which are the same for any number of retries.
"""

import functools
import inspect
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput

from topkin.artifacts import storage
from topkin.telemetry.counters import sum_counts
from topkin.telemetry.profiling import COUNTED

F = TypeVar("F", bound=Callable[..., Any])
_ROWS, _BYTES, _MILLISECONDS = (Metrics.counter("topkin", name) for name in COUNTED)


def counted(call: F) -> F:
    """A function or method of a step, its tables counted; for a decorator.

    Time spent downstream between two yields is not the step's, and what one counted function spends in another
    counts once.
    """

    @functools.wraps(call)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with _clock():
            given = call(*args, **kwargs)
        if inspect.isgenerator(given):
            return _each(given, args)
        _count(given if _size(given)[0] else args)
        return given

    return timed  # type: ignore[return-value]


def _each(given: Iterator[Any], got: tuple[Any, ...]) -> Iterator[Any]:
    while True:
        with _clock():
            value = next(given, _END)
        if value is _END:
            _count(got)
            return
        _count(value)
        got = () if _size(value)[0] else got
        yield value


_END = object()
_running = threading.local()


@contextmanager
def _clock() -> Iterator[None]:
    """Add the time spent inside to the step's, unless a clock runs around it."""
    if getattr(_running, "clock", False):
        yield
        return
    began, _running.clock = time.perf_counter(), True
    try:
        yield
    finally:
        _running.clock = False
        _MILLISECONDS.inc(round(1000 * (time.perf_counter() - began)))


def _count(value: Any) -> None:
    rows, size = _size(value)
    if rows:
        _ROWS.inc(rows)
        _BYTES.inc(size)


def _size(value: Any) -> tuple[int, int]:
    """Rows and bytes of the tables in a value."""
    if isinstance(value, pa.Table):
        return len(value), value.nbytes
    inner: Any = ()
    if isinstance(value, TaggedOutput):
        inner = (value.value,)
    elif isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, tuple):
        inner = value
    sizes = [_size(v) for v in inner]
    return sum(rows for rows, _ in sizes), sum(size for _, size in sizes)


@dataclass
class WriteTally(beam.PTransform):
    """Tables of ``telemetry.counters.SCHEMA``, summed, to a JSON file kind -> name -> count; gives its path."""

    path: str

    def _write(self, _: int, tables: Iterable[pa.Table]) -> str:
        storage.write_json(sum_counts(tables), self.path)
        return self.path

    def expand(self, tables: PCollection) -> PCollection:
        return (
            tables
            | "OneKey" >> beam.Map(lambda table: (0, table)).with_output_types(tuple[int, pa.Table])
            | "Group" >> beam.GroupByKey()
            | "Write" >> beam.MapTuple(self._write).with_output_types(str)
        )
