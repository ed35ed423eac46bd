"""Gauges in Prometheus' text format, as node_exporter's textfile collector reads it."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
Sample = tuple[Mapping[str, str], float]
"""Labels and a value."""


@dataclass(frozen=True)
class Gauge:
    """A metric: its name, what it tells in a line, its samples."""

    name: str
    help: str
    samples: Sequence[Sample]


def text(gauges: Sequence[Gauge]) -> str:
    """The gauges that have samples, in the text format 0.0.4. Raises ValueError for a name that it does not take."""
    lines: list[str] = []
    for gauge in gauges:
        for name in (gauge.name, *(label for labels, _ in gauge.samples for label in labels)):
            if not _NAME.fullmatch(name):
                raise ValueError(f"a name must match {_NAME.pattern}, got {name!r}")
        if gauge.samples:
            words = gauge.help.replace("\\", r"\\").replace("\n", r"\n")
            lines += [f"# HELP {gauge.name} {words}", f"# TYPE {gauge.name} gauge"]
        for labels, value in gauge.samples:
            named = ",".join(f'{name}="{_escaped(one)}"' for name, one in labels.items())
            lines.append(f"{gauge.name}{{{named}}} {_number(value)}" if named else f"{gauge.name} {_number(value)}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
