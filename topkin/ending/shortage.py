"""What ran out, when a library says that something failed: a disk, a quota, the memory, the threads of a process."""

import errno
import os
import re
import resource
import tempfile
from collections.abc import Mapping
from contextlib import suppress

from topkin.errors import ResourceError, TopkinError, chain

LEAST_ADDRESSES = 2 << 30
"""Of a process that does a stage; Arrow, DuckDB and Beam map files and stacks of threads, and do not touch them all."""
OF_TENSORFLOW = 9 << 29
"""Of a process that runs TensorFlow, which aborts with fewer once it works."""
FULL = 1 << 20
"""Free bytes below which a disk is taken as full, where a library does not say why it could not write."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK = re.compile(r"No space left on device|Disk quota exceeded|File too large|\[Errno (?:28|122|27)\]")
_MEMORY = re.compile(
    r"MemoryError|std::bad_alloc|Cannot allocate memory|Out of Memory Error|malloc of size \d+ failed|\[Errno 12\]"
    r"|Unable to allocate|OOM when allocating|[Oo]ut of memory|failed to allocate|failed to map segment"
)
_THREADS = re.compile(r"can't start new thread|Resource temporarily unavailable|pthread_create")
_ASKED = re.compile(
    r"Unable to allocate [\d.]+ \w+|malloc of size \d+ failed|failed to allocate data of size [\d.]+ \w+"
    r"|OOM when allocating tensor with shape\[[\d,]*\]"
)


def check_addresses(least: int = LEAST_ADDRESSES) -> None:
    """Raise ResourceError where ``ulimit -v`` leaves fewer addresses than the libraries of a job take.

    Some of them end the process by a signal where they get no memory for threads or tables, and say nothing.
    """
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most != resource.RLIM_INFINITY and most < least:
        raise ResourceError(
            f"the libraries of a job need {least:,} bytes of addresses at least, ulimit -v allows {most:,}: raise it"
        )


def full_disk(path: str, written: int, error: OSError) -> ResourceError | None:
    """The error that says that a file could not be written for want of space; None where that is not why.

    Args:
        path: The file.
        written: Bytes of it that were written.
        error: What came.
    """
    if error.errno not in _NO_SPACE and not _DISK.search(str(error)):
        return None
    folder = os.path.dirname(os.path.abspath(path))
    why = "its disk is full"
    if error.errno == errno.EDQUOT:
        why = "the quota of its disk is used up"
    elif error.errno == errno.EFBIG:
        why = (
            f"it would be larger than a file may be, {resource.getrlimit(resource.RLIMIT_FSIZE)[0]:,} bytes (ulimit -f)"
        )
    return ResourceError(
        f"{path} cannot be written after {written:,} bytes, {why}, {free_bytes(folder):,} bytes are free in {folder}: "
        "make room there, or set run.output to a larger disk"
    )


def explained(error: BaseException, places: Mapping[str, str]) -> ResourceError | None:
    """The error that says what ran out behind an exception, or its worker's; None where it is another failure.

    Args:
        error: What came, maybe from a worker, as a text.
        places: The setting that names a disk, to a path on it: ``run.output`` for one; ``TMPDIR`` is added.
    """
    links = list(chain(error))
    if any(isinstance(link, TopkinError) for link in links):
        return None
    text = "\n".join(f"{type(link).__name__}: {link}" for link in links)
    places = {**places, "TMPDIR": tempfile.gettempdir()}
    full = [setting for setting, path in places.items() if free_bytes(path) < FULL]
    spaceless = any(isinstance(link, OSError) and link.errno in _NO_SPACE for link in links) or _DISK.search(text)
    named = [str(link.filename) for link in links if isinstance(link, OSError) and link.filename]
    if spaceless or (full and any(isinstance(link, OSError | RuntimeError) for link in links)):
        setting = _setting(full, named, places)
        place = places[setting]
        what = f"{named[0]} cannot be written, the" if named else "the"
        return ResourceError(
            f"{what} disk of {setting} is full, {free_bytes(place):,} bytes are free in {place}: make room there, or "
            f"set {setting} to a folder on a larger disk"
        )
    if any(isinstance(link, MemoryError) for link in links) or _MEMORY.search(text):
        return ResourceError(memory_is_full(text))
    if _THREADS.search(text):
        most = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        return ResourceError(
            f"no more threads may be started, {_limit(most)} processes and threads are allowed: raise ulimit -u, or "
            "the container's limit, or give fewer of --direct_num_workers"
        )
    return None


def memory_is_full(text: str = "") -> str:
    """What is told where the memory is full; ``text`` is what the library says."""
    asked = _ASKED.search(text)
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    limit = f", of {most:,} that are allowed (ulimit -v)" if most != resource.RLIM_INFINITY else ""
    return (
        f"the memory is full{f' ({asked[0]})' if asked else ''}, {_used():,} bytes are in use{limit}: raise run.parts, "
        "give fewer of --direct_num_workers, or more memory; run.worker_memory has a run refused that does not fit"
    )


def free_bytes(path: str) -> int:
    """The bytes that may still be written where a local path is or would be; of a URI a great many."""
    if "://" in path:
        return 1 << 62
    while path and not os.path.exists(path):
        path = os.path.dirname(path)
    with suppress(OSError):
        stat = os.statvfs(path or ".")
        return stat.f_bavail * stat.f_frsize
    return 1 << 62


def _setting(full: list[str], named: list[str], places: Mapping[str, str]) -> str:
    """The setting that names the full disk: whose folder the file is in, else the first that is full."""
    for name in named:
        inside = [
            s for s, path in places.items() if f"{os.path.abspath(name)}/".startswith(f"{os.path.abspath(path)}/")
        ]
        if inside:
            return inside[0]
    return full[0] if full else next(iter(places))


def _used() -> int:
    """Bytes of memory that this process has asked for, as its limit counts them; the resident ones elsewhere."""
    with suppress(OSError, ValueError), open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _limit(most: int) -> str:
    return "any number of" if most == resource.RLIM_INFINITY else f"{most:,}"
