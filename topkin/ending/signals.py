"""How a job ends before its time: by a signal, or because something that it needs ran out.

The end is asked for by a signal or by :func:`end`, and comes as an exception in the thread of the job. Where that
thread is inside a library and does not come back, a thread of ours removes what is half made, tells why, and ends the
process. A second signal ends it at once.
"""

import atexit
import ctypes
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType

from topkin.errors import TopkinError
from topkin.telemetry.secrets import masked

GRACE_SECONDS = 10.0
"""How long the job's thread may take to come back and clear up."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(KeyboardInterrupt):
    """What is raised in a job that is to end: no Exception, which a library would take for a failure of its own."""


@dataclass
class _State:
    """What is known in this process of the job and its end."""

    signal: int | None = None
    error: TopkinError | None = None
    done: list[str] = field(default_factory=list)
    part: str | None = None
    half_made: list[Callable[[], None]] = field(default_factory=list)


_state = _State()
_one = threading.Lock()


def asked() -> bool:
    """Whether the job was asked to end."""
    return _state.signal is not None or _state.error is not None


def goes_on_after(what: str) -> None:
    """Note a piece of work that is kept, which the same command will not do again."""
    _state.part = None
    if what not in _state.done:
        _state.done.append(what)


def goes_on_after_part(what: str) -> None:
    """Note what is kept of a piece of work that is not done yet."""
    _state.part = what


def cause() -> tuple[str, int]:
    """Why the job ends, and the exit code: of a reason of ours its own, of a signal 128 and its number."""
    kept = [*_state.done, *([_state.part] if _state.part else [])]
    after = f": the same command goes on after {', '.join(kept)}" if kept else ""
    if _state.error is not None:
        return f"{_state.error}{after}", _state.error.exit_code
    number = signal.SIGINT if _state.signal is None else _state.signal
    return f"stopped by {'Ctrl-C' if number == signal.SIGINT else signal.Signals(number).name}{after}", 128 + number


@contextmanager
def half_made(remove: Callable[[], None]) -> Iterator[None]:
    """What is removed where the process has to end inside, and where it fails."""
    _state.half_made.append(remove)
    try:
        yield
    except BaseException:
        remove()
        raise
    finally:
        _state.half_made.remove(remove)


def at_end(remove: Callable[[], None]) -> None:
    """What is removed when the process ends, of itself or by :func:`leave`, which calls nothing of ``atexit``."""
    _state.half_made.append(remove)
    atexit.register(remove)


@contextmanager
def job() -> Iterator[None]:
    """A job that :func:`end` may end: in the thread that is in here the error is raised."""
    own = threading.get_ident()
    _jobs.append(own)
    try:
        yield
    except KeyboardInterrupt as e:
        if _state.error is None:
            raise
        error = _state.error
        if not _installed:  # a program of somebody's goes on
            _state.error = None
        raise error from e
    finally:
        _jobs.remove(own)
        if not _jobs and not _installed:  # an end that came too late is not the next job's
            _state.error = None


_jobs: list[int] = []
_installed: list[int] = []


def end(error: TopkinError) -> None:
    """End the job for a reason, from any thread; only the first reason counts, and nothing is ended without a job."""
    with _one:
        if asked() or not _jobs:
            return
        _state.error = error
        thread = _jobs[-1]
    taken = signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, signal.SIG_DFL, None)  # a shell's & ignores it
    if thread == threading.main_thread().ident and taken:
        signal.pthread_kill(thread, signal.SIGINT)  # a wait for a lock comes back for a signal, and for nothing else
    else:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Stopped))


def because(error: TopkinError) -> None:
    """Give a better reason for the end of a job that :func:`end` asked for; one that a signal asked for stays so."""
    if _state.error is not None:
        _state.error = error


def end_now(error: TopkinError) -> None:
    """End this process for a reason, if it is ours alone: what it is at cannot be waited for."""
    if _installed:
        leave(str(error), error.exit_code)


@contextmanager
def by_signals(grace: float = GRACE_SECONDS) -> Iterator[None]:
    """Take SIGTERM as Ctrl-C inside, and end the process where its main thread does not; for a process of ours alone.

    Outside of the main thread, and inside another such block, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread() or _installed:
        yield
        return
    _state.signal, _state.error, _state.done, _state.part = None, None, [], None
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    _installed.append(reading)
    before = {number: signal.signal(number, _raise) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(reading, grace, over), name="topkin-stopping", daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(writing, b"\0")
        watch.join()
        os.close(reading)
        os.close(writing)
        _installed.clear()


def _raise(number: int, frame: FrameType | None) -> None:
    """The handler, which Python calls when the main thread is back in its own code."""
    if _state.error is None and _state.signal is None:
        _state.signal = number
    raise Stopped


def _watch(reading: int, grace: float, over: threading.Event) -> None:
    """Told of each signal when it comes, whatever the main thread does."""
    limit: float | None = None
    while not over.is_set():
        if not select.select([reading], [], [], limit)[0]:
            leave(*cause())
        for number in os.read(reading, 64):
            if number in tuple(SIGNALS):
                if limit is not None:  # the second
                    os._exit(cause()[1])
                if _state.error is None and _state.signal is None:
                    _state.signal = number
                limit = grace


def end_of_command(code: int) -> None:
    """End the process of a command that is through, whatever threads of libraries still do.

    Where Python ends itself, a thread of Arrow's that then lets go of a Python file aborts the process, after all was
    done: https://github.com/python/cpython/issues/87135.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    leave("", code)


def leave(message: str, code: int) -> None:
    """Remove what is half made, say why on stderr, and end the process with threads and all."""
    for remove in reversed(_state.half_made):
        with suppress(Exception):
            remove()
    with suppress(OSError):
        os.write(2, f"topkin: {masked(message)}\n".encode(errors="backslashreplace") if message else b"")
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)
