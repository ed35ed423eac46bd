"""Ends a stage that would never end by itself: over its time, with a worker that died, or with nothing that works.

Beam's local runner waits for ever for a worker process that was killed: its thread that waits for the process raises,
and nobody hears it. Here somebody does.
"""

import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from topkin.ending import signals, workers
from topkin.ending.shortage import explained
from topkin.errors import ResourceError

IDLE_SECONDS = 40.0
"""How long a pipeline in local processes may do nothing at all: no processor time, no thread that may run."""
BUSY = 0.02
"""Share of a core below which threads only look whether there is work."""
_EXIT = re.compile(r"Worker subprocess exited with return code (-?\d+)")


@contextmanager
def watched(stage: str, output: str, seconds: float | None = None) -> Iterator[None]:
    """A stage: ended by a ResourceError where it takes longer than so many seconds, or something runs out.

    Args:
        stage: Its name, for messages.
        output: ``run.output``.
        seconds: ``run.timeout``; None for no limit.
    """
    try:
        with signals.job(), _heard(stage), _limited(stage, seconds):
            yield
    except Exception as e:
        if (short := explained(e, {"run.output": output})) is None:
            raise
        raise ResourceError(f"{stage} cannot go on: {short}") from e


@contextmanager
def _limited(stage: str, seconds: float | None) -> Iterator[None]:
    if seconds is None:
        yield
        return
    cure = "raise run.timeout, or give it fewer rows or more cores"
    timer = threading.Timer(
        seconds,
        lambda: signals.end(ResourceError(f"{stage} took longer than run.timeout, {spelled(seconds)}: {cure}")),
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def spelled(seconds: float) -> str:
    """A span as the configuration has it: ``90m``, ``6h``."""
    return f"{seconds / 3600:g}h" if seconds >= 3600 else f"{seconds / 60:g}m"


@contextmanager
def _heard(stage: str) -> Iterator[None]:
    """Hear of threads that die."""
    killed_before = _killed_for_memory()
    thread_hook, unraisable_hook = threading.excepthook, sys.unraisablehook

    def dies(error: BaseException | None, otherwise: Callable[[], object]) -> None:
        why = _why(error, killed_before)
        if why is None:
            otherwise()
        else:
            signals.end(ResourceError(f"{stage} cannot go on: {why}"))

    threading.excepthook = lambda args: dies(args.exc_value, lambda: thread_hook(args))
    sys.unraisablehook = lambda args: dies(args.exc_value, lambda: unraisable_hook(args))
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = thread_hook, unraisable_hook


def _why(error: BaseException | None, killed_before: int) -> str | None:
    """What the death of a thread means; None where it is no shortage of ours to tell."""
    text = str(error)
    if (code := _EXIT.search(text)) is not None:
        return _of_worker(int(code[1]), killed_before)
    if isinstance(error, MemoryError | RuntimeError | OSError) and (short := explained(error, {})) is not None:
        return str(short)
    return None


def _of_worker(code: int, killed_before: int) -> str:
    """What the exit code of a worker means, a shell's 128 and the signal's number too."""
    number = -code if code < 0 else code - 128
    if number not in set(signal.Signals):
        return f"a worker process ended with exit code {code}: its lines above say why"
    name = f"a worker process was ended by {signal.Signals(number).name}"
    if number != signal.SIGKILL:
        return f"{name}: run again, with fewer of --direct_num_workers if memory is short"
    by = "by the kernel, for memory" if _killed_for_memory() > killed_before else "as the kernel does for memory"
    return f"{name}, {by}: give fewer of --direct_num_workers, more of run.parts, or the machine more memory"


def _killed_for_memory() -> int:
    """How many processes the kernel has killed for memory here, as far as it tells."""
    for path, key in (("/sys/fs/cgroup/memory.events", "oom_kill"), ("/proc/vmstat", "oom_kill")):
        with suppress(OSError, ValueError):
            fields = Path(path).read_text().split()
            return int(fields[fields.index(key) + 1])
    return 0


@contextmanager
def never_idle(what: str, seconds: float = IDLE_SECONDS) -> Iterator[None]:
    """Work in local processes over local files: ended by a ResourceError where nothing happens for so many seconds."""
    over = threading.Event()

    def watch() -> None:
        last, since, looks, running = workers.worked(), time.monotonic(), 0, 0
        while not over.wait(seconds / 20):
            now = workers.worked()
            passed = time.monotonic() - since
            looks, running = looks + 1, running + now.running  # a thread that looks for work may run just now
            if now.seconds - last.seconds > 0.05 + BUSY * passed or (passed >= seconds and 2 * running > looks):
                last, since, looks, running = now, time.monotonic(), 0, 0
            elif passed >= seconds:
                processes = "".join(f" {pid}" for pid in workers.workers())
                of = f", nor have its worker processes{processes}" if processes else ""
                signals.end(
                    ResourceError(
                        f"{what} has done nothing for {seconds:g} seconds{of}: a thread waits for one that is gone or "
                        "stopped; run again, with one process if it had several"
                    )
                )
                return

    thread = threading.Thread(target=watch, name="topkin-idle", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
