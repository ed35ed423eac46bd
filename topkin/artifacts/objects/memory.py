"""What a process remembers of object stores, so that it does not ask twice.

Always: the digests of what it wrote, small contents by their SHA-256, manifests, the tags of small objects. In a job,
while it works alone in the output folder: what it listed, read and wrote. All is bounded, and what the process writes
or deletes is forgotten.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from topkin.artifacts.objects.uri import Bucket

BYTES = 64 << 20
"""Of small objects that are kept: of inputs, and of other files by their digests, each."""
SMALL = 8 << 20
"""Bytes of the largest object that is kept."""
ABSENT = 60.0
"""Seconds for which a manifest that is not there is not asked for again."""
ENTRIES = 10_000

T = TypeVar("T")
Place = tuple[Bucket, str]
Meta = dict[str, Any]
Children = tuple[list[Meta], list[str]]
"""The objects directly in a folder, and the keys of the folders in it."""


class Memory:
    """One for a process; its methods may be called by several threads."""

    def __init__(self) -> None:
        self._lock, self._jobs, self._changes = threading.RLock(), 0, 0
        self._below: dict[Place, list[Meta]] = {}
        self._children: dict[Place, Children] = {}
        self._metas: dict[Place, Meta | None] = {}
        self._inputs: OrderedDict[Place, bytes] = OrderedDict()
        self._states: dict[Place, bytes | None] = {}
        self._written: OrderedDict[Place, dict[str, Any]] = OrderedDict()
        self._contents: OrderedDict[str, bytes] = OrderedDict()
        self._derived: OrderedDict[Place, tuple[float, Any]] = OrderedDict()
        self.tags: OrderedDict[Place, tuple[bytes, str | None]] = OrderedDict()

    @contextmanager
    def job(self) -> Iterator[None]:
        """Inside, this process works alone in the output folder and sees one state of its inputs."""
        with self._lock:
            self._jobs += 1
        try:
            yield
        finally:
            with self._lock:
                self._jobs -= 1
                if not self._jobs:
                    self.forget_seen()
                    self._inputs.clear()
                    self._metas.clear()

    def forget_seen(self) -> None:
        """Ask again: other processes wrote meanwhile."""
        with self._lock:
            self._changes += 1
            self._below.clear()
            self._children.clear()
            self._states.clear()

    def forget(self, bucket: Bucket, keys: Iterable[str]) -> None:
        """Objects that are written or deleted."""
        with self._lock:
            self._changes += 1
            for key in keys:
                place = (bucket, key)
                self._inputs.pop(place, None)
                self._metas.pop(place, None)
                self._states.pop(place, None)
                self._written.pop(place, None)
                self._derived.pop(place, None)
                for above in _above(key):
                    self._below.pop((bucket, above), None)
                    self._children.pop((bucket, above), None)

    def below(self, bucket: Bucket, key: str, ask: Callable[[], list[Meta]]) -> list[Meta]:
        """All objects below a key, of what was listed there or above where that is known."""
        with self._lock:
            for above in (key, *_above(key)):
                if (kept := self._below.get((bucket, above))) is not None:
                    return kept if above == key else [o for o in kept if o["path"].startswith(f"{key}/")]
        return self._asked(self._below, (bucket, key), ask)

    def children(self, bucket: Bucket, key: str, ask: Callable[[], Children]) -> Children:
        """What is directly in a folder, of what was listed where that is known."""
        with self._lock:
            kept = self._children.get((bucket, key))
            if kept is None and (below := self._below.get((bucket, key))) is not None:
                start = len(key) + bool(key)
                names = (o["path"][: o["path"].index("/", start)] for o in below if "/" in o["path"][start:])
                kept = [o for o in below if "/" not in o["path"][start:]], list(dict.fromkeys(names))
        return self._asked(self._children, (bucket, key), ask) if kept is None else kept

    def meta(self, place: Place, ask: Callable[[], Meta | None]) -> Meta | None:
        """What the store says of an input."""
        with self._lock:
            if place in self._metas:
                return self._metas[place]
        return self._asked(self._metas, place, ask)

    def _asked(self, held: dict[Place, T], place: Place, ask: Callable[[], T]) -> T:
        """An answer, kept in a job unless something was written meanwhile: it may be older than that."""
        with self._lock:
            before = self._changes
        answer = ask()
        with self._lock:
            if self._jobs and self._changes == before:
                held[place] = answer
        return answer

    def input(self, place: Place) -> bytes | None:
        """A small input that was read in this job."""
        with self._lock:
            return self._inputs.get(place)

    def keep_input(self, place: Place, data: bytes) -> None:
        """Keep a small input for this job."""
        with self._lock:
            if self._jobs:
                self._inputs[place] = data
                _bound(self._inputs)

    def state(self, place: Place, ask: Callable[[], bytes | None]) -> bytes | None:
        """A small file of a run, None where there is none."""
        with self._lock:
            if place in self._states:
                return self._states[place]
            before = self._changes
        data = ask()
        with self._lock:
            if self._jobs and self._changes == before and (data is None or len(data) <= SMALL):
                self._states[place] = data
        return data

    def wrote(self, place: Place, entry: dict[str, Any], data: bytes | None) -> None:
        """What was written: the entry of a manifest for it and, of a small object, its content."""
        with self._lock:
            self._written[place] = entry
            if len(self._written) > ENTRIES:
                self._written.popitem(last=False)
        if data is not None:
            self.keep(entry["sha256"], data)

    def written(self, place: Place) -> dict[str, Any] | None:
        """The entry for an object that this process wrote."""
        with self._lock:
            return self._written.get(place)

    def own(self, place: Place) -> Mapping[str, Any] | None:
        """As :meth:`written`, in a job: there nobody else writes what this process wrote."""
        with self._lock:
            return self._written.get(place) if self._jobs else None

    def keep(self, sha256: str, data: bytes) -> None:
        """Keep a small content."""
        if len(data) <= SMALL:
            with self._lock:
                self._contents[sha256] = data
                _bound(self._contents)

    def content(self, entry: Mapping[str, Any] | None) -> bytes | None:
        """The content of the digest that a manifest's entry names, if it is at hand."""
        with self._lock:
            return None if entry is None else self._contents.get(entry["sha256"])

    def derived(self, place: Place, make: Callable[[], Any]) -> Any:
        """What ``make`` makes of an object, until this process writes it; None for ABSENT seconds only."""
        with self._lock:
            until, value = self._derived.get(place, (0.0, None))
        if time.monotonic() <= until:
            return value
        value = make()
        with self._lock:
            self._derived[place] = (time.monotonic() + (ABSENT if value is None else math.inf), value)
            if len(self._derived) > ENTRIES:
                self._derived.popitem(last=False)
        return value

    def saw(self, place: Place, data: bytes | None, tag: str | None) -> None:
        """The tag of a small object as it is now, which a swap may name; ``data`` is None where there is none."""
        with self._lock:
            self._states.pop(place, None)
            self.tags.pop(place, None)
            if data is None:
                return
            self.tags[place] = (data, tag)
            if len(self.tags) > 100:
                self.tags.popitem(last=False)


def _above(key: str) -> Iterator[str]:
    """The keys of the folders above, the nearest first; the bucket's is empty."""
    while key:
        key = key.rpartition("/")[0]
        yield key


def _bound(held: OrderedDict[Any, bytes]) -> None:
    size = sum(map(len, held.values()))
    while size > BYTES:
        size -= len(held.popitem(last=False)[1])


MEMORY = Memory()
