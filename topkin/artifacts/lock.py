"""One at a time: the lock of an output folder, ``<output>/lock.json``.

::

    {"what": …, "pid": …, "user": …, "host": …, "since": …, "run_id": …, "expires": …, …}

It is held while a process works there and renewed by a thread; readers do not ask for it. A lock that has expired, or
whose process on this machine is no more, is taken over by exactly one of those who want it (:func:`storage.swap`).
Hosts that share a folder need clocks that agree within a minute or so.
"""

import getpass
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from topkin.artifacts import storage
from topkin.errors import BusyError

NAME = "lock.json"
EXPIRY = 600.0
"""Seconds after its last renewal in which a lock ends by itself; attempts and scratch of that age are nobody's."""
RENEWAL = 60.0
POLL = 0.5

log = logging.getLogger(__name__)
_held: ContextVar[Mapping[str, "Lock"]] = ContextVar("held locks")


class Lock:
    """A lock that this process holds; made by :func:`hold`."""

    def __init__(self, path: str, what: str) -> None:
        self.path, self.lost = path, False
        self._about: dict[str, Any] = {
            "what": what,
            "pid": os.getpid(),
            "user": _user(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "run_id": None,
            "machine": _machine(),
            "started": _started(os.getpid()),
            "nonce": uuid.uuid4().hex,
        }
        self._bytes, self._renewed = b"", 0.0
        self._one = threading.Lock()
        self._over = threading.Event()

    def take(self) -> dict[str, Any] | None:
        """Take it if it is free, expired or of a dead process. Returns None, or what is known of its holder."""
        while True:
            seen = storage.read_if_there(self.path, fresh=True)
            holder = None if seen is None else _parse(seen)
            if holder is not None and not _over(holder):
                return holder
            mine = self._content()
            if storage.swap(self.path, seen, mine):
                self._bytes, self._renewed = mine, time.time()
                if holder is not None:
                    log.warning("took over from %s, which is no more or let its lock expire", describe(holder))
                return None

    def renew(self, **about: object) -> bool:
        """Put off its end; ``about``: what else is known by now. Returns whether it is still held."""
        with self._one:
            if self.lost:
                return False
            self._about.update(about)
            new = self._content()
            if not storage.swap(self.path, self._bytes, new):
                seen = (
                    storage.read_if_there(self.path, fresh=True) or b""
                )  # ours, where a write failed after it had been done
                ours = (_parse(seen) or {}).get("nonce") == self._about["nonce"]
                self.lost = not (ours and storage.swap(self.path, seen, new))
            self._bytes, self._renewed = new, time.time()
            return not self.lost

    def is_fresh(self) -> bool:
        """Whether it was renewed so lately that nobody can have taken it since."""
        return not self.lost and 0 <= time.time() - self._renewed < RENEWAL

    def release(self) -> None:
        """Give it back, if it is still held."""
        self._over.set()
        with self._one, suppress(OSError, BusyError):  # a disk that is gone: it ends with this process
            if not self.lost:
                self.lost = True
                storage.swap(self.path, self._bytes, None)

    def beat(self) -> None:
        """Renew it until it is given back or lost; the work of a thread."""
        while not self._over.wait(RENEWAL):
            with suppress(OSError, BusyError):  # a disk away for a moment: the next time, or it expires
                if not self.renew():
                    return

    def _content(self) -> bytes:
        return storage.json_bytes({**self._about, "expires": _iso(time.time() + EXPIRY), "beat": uuid.uuid4().hex})


@contextmanager
def hold(root: str, what: str, *, wait: float = 0.0, name: str = NAME) -> Iterator[Lock]:
    """Work in an output folder alone; within it, the same thread may hold it again.

    Args:
        root: The folder.
        what: What is done, for the others.
        wait: Seconds to wait for another's work to end.
        name: The file in the folder, where it is no output folder.

    Raises:
        BusyError: Another process is at work there still.
    """
    folder = root.rstrip("/")
    key = folder if name == NAME else storage.join(folder, name)
    held = _held.get({})
    if key in held:
        yield held[key]
        return
    lock = Lock(storage.join(folder, name), what)
    until, announced = time.monotonic() + wait, False
    while (holder := lock.take()) is not None:
        if time.monotonic() >= until:
            raise BusyError(
                f"{root} is worked in by one process at a time; at work is {describe(holder)}: let it end, or wait for "
                f"it with --wait SECONDS{' (run.wait)' * (name == NAME)}; the lock of a process that is gone ends by "
                f"itself, this one not before {holder['expires']}"
            )
        if not announced:
            log.warning("waiting up to %.0f s for %s", wait, describe(holder))
        announced = True
        time.sleep(max(0.0, min(POLL, until - time.monotonic())))
    threading.Thread(target=lock.beat, name="topkin lock", daemon=True).start()
    token = _held.set({**held, key: lock})
    try:
        yield lock
    finally:
        _held.reset(token)
        lock.release()


def check(root: str) -> None:
    """Before a write that counts: raises BusyError where the lock that this thread took on a folder was lost since."""
    lock = _held.get({}).get(root.rstrip("/"))
    if lock is None or (storage.in_place(lock.path) and lock.is_fresh()):  # a request saved
        return
    if not lock.renew():
        seen = storage.read_if_there(lock.path, fresh=True)
        holder = None if seen is None else _parse(seen)
        by = "" if holder is None else f", to {describe(holder)}"
        raise BusyError(
            f"{root} is worked in by one process at a time; this one stood still for more than {EXPIRY:.0f} s and lost "
            f"its lock{by}: nothing more was written; run again"
        )


def holder_of(root: str) -> dict[str, Any] | None:
    """What is known of the process at work in an output folder; None where there is none."""
    seen = storage.read_if_there(storage.join(root, NAME), fresh=True)
    holder = None if seen is None else _parse(seen)
    return None if holder is None or _over(holder) else holder


def describe(holder: Mapping[str, Any]) -> str:
    """``topkin run as of 2011-11-09 (run …) by ann, process 4711 on host7 since 2011-11-09T02:00:00+00:00``."""
    run = f" (run {holder['run_id']})" if holder["run_id"] else ""
    who = f"{holder['user']}, process {holder['pid']} on {holder['host']}"
    return f"{holder['what']}{run} by {who} since {holder['since']}"


def _parse(data: bytes) -> dict[str, Any] | None:
    """The content of a lock; None where it is damaged, which holds nobody up: locks are written whole."""
    try:
        value = json.loads(data)
        _over(value)
        describe(value)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return dict(value)


def _over(holder: Mapping[str, Any]) -> bool:
    expired = time.time() > datetime.fromisoformat(holder["expires"]).timestamp()
    mine = holder["machine"] == _machine()
    gone = mine and (not alive(int(holder["pid"])) or _started(int(holder["pid"])) != holder["started"])
    return expired or gone


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def _machine() -> str:
    """Where process numbers mean the same: this boot of this kernel, this container. The host's name elsewhere."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat behind the name, the state first; empty where there is no such thing."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _started(pid: int) -> str:
    """When a process started, in ticks since the boot: the same number may be another process by now."""
    return (_stat(pid) or [""] * 20)[19]


def alive(pid: int) -> bool:
    """Whether there is a process of this number on this host that has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return (_stat(pid) or ["R"])[0] not in "ZX"  # one that has ended and is not waited for yet
