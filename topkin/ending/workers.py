"""The worker processes that Beam's local runner started: which they are, whether they work, and their end.

Found by ``/proc``, which Linux has; elsewhere there are none to be seen.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

WORKER = b"apache_beam.runners.worker.sdk_worker_main"


class Worked(NamedTuple):
    """What a process and its descendants have done: seconds of processor time, and whether a thread of them may run."""

    seconds: float
    running: bool


def descendants(pid: int | None = None) -> list[int]:
    """The processes below one, this one by default, parents before their children."""
    children: dict[int, list[int]] = {}
    for entry in _processes():
        with suppress(OSError, IndexError, ValueError):
            parent = int(_fields(Path(f"/proc/{entry}/stat"))[1])
            children.setdefault(parent, []).append(entry)
    processes = list(children.get(os.getpid() if pid is None else pid, ()))
    for process in processes:
        processes += children.get(process, ())
    return processes


def workers() -> list[int]:
    """Beam's worker processes below this one."""
    pids = []
    for pid in descendants():
        with suppress(OSError):
            if WORKER in Path(f"/proc/{pid}/cmdline").read_bytes():
                pids.append(pid)
    return pids


def end_workers() -> None:
    """Kill Beam's worker processes below this one: what they were doing is to be done again."""
    for pid in workers():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def worked() -> Worked:
    """What this process and its descendants have done so far, but for the thread that asks."""
    ticks, running, own = 0, False, str(threading.get_native_id())
    for pid in (os.getpid(), *descendants()):
        with suppress(OSError, IndexError, ValueError):
            fields = _fields(Path(f"/proc/{pid}/stat"))
            ticks += int(fields[11]) + int(fields[12])
        with suppress(OSError, IndexError):
            for thread in set(os.listdir(f"/proc/{pid}/task")) - {own}:
                running |= _fields(Path(f"/proc/{pid}/task/{thread}/stat"))[0] in "RD"
    return Worked(ticks / os.sysconf("SC_CLK_TCK") - time.thread_time(), running)


def _processes() -> Iterator[int]:
    with suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                yield int(name)


def _fields(path: Path) -> list[str]:
    """The fields of a ``stat`` file after the name, which may hold anything: state, parent, …"""
    return path.read_text(errors="replace").rpartition(")")[2].split()
