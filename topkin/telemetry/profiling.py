"""What work costs: wall-clock and CPU seconds, bytes read and written, peak memory; and each Beam step's counters.

Linux counts the bytes and lets the peak be reset; elsewhere the bytes are 0 and the peak is the process's own
since it began. Processes that the work started and waited for are counted.
"""

import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from topkin.telemetry.freed import give_back

COUNTED = ("rows", "bytes", "milliseconds")
"""What a step of a pipeline counts, in Beam's namespace ``topkin``: of what it gave, and for how long it worked."""


@dataclass(eq=False)
class Usage:
    """What a piece of work cost; filled when it ends. steps: a mapping of step and COUNTED for each Beam step."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    peak_bytes: int = 0
    steps: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


_open: list[Usage] = []


@contextmanager
def measure_usage() -> Iterator[Usage]:
    """Measure what is done inside, failures too."""
    usage = Usage()
    _reset_peak()
    began, cpu, (read, written) = time.perf_counter(), _cpu_seconds(), _bytes()
    _open.append(usage)
    try:
        yield usage
    finally:
        _open.remove(usage)
        usage.seconds = round(time.perf_counter() - began, 3)
        usage.cpu_seconds = round(_cpu_seconds() - cpu, 3)
        now_read, now_written = _bytes()
        usage.bytes_read, usage.bytes_written = now_read - read, now_written - written
        usage.peak_bytes = _peak()


def record_steps(steps: Iterable[Mapping[str, str | int]]) -> None:
    """Add a pipeline's steps to what is being measured in this process."""
    for usage in _open:
        usage.steps.extend(dict(step) for step in steps)


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in usages)


def _bytes() -> tuple[int, int]:
    """Bytes that this process and those it waited for have read and written, from caches too."""
    try:
        lines = Path("/proc/self/io").read_text().split()
    except OSError:
        return 0, 0
    values = dict(zip(lines[::2], lines[1::2], strict=True))
    return int(values["rchar:"]), int(values["wchar:"])


def _reset_peak() -> None:
    give_back()  # or what an earlier stage freed counts as this one's
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """The largest resident memory of this process since it was reset, or of one that it ever waited for."""
    unit = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    try:
        status = Path("/proc/self/status").read_text()
        own = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return max(own, children)


def machine_memory() -> int:
    """Bytes of memory that a process may use here: the machine's, or its container's where that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            memory = min(memory, int(Path(limit).read_text()))
        except (OSError, ValueError):
            continue
    return memory


def machine_cores() -> int:
    """Cores that a process may use here."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
