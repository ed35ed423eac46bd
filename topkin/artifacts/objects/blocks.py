"""A larger object as a file to read, one request for a block."""

import io
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from topkin.artifacts.objects.digests import BLOCK

HELD = 3
"""Blocks that are held: the first, that with a footer, and one that is worked on."""


class Blocks(io.RawIOBase):
    """A file of ``size`` bytes whose first block is there; ``fetch`` gives the bytes from a place to another."""

    def __init__(self, fetch: Callable[[int, int], bytes], first: bytes, size: int) -> None:
        self._fetch, self._size, self._at = fetch, size, 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict({0: first})

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes, all that are left without a number."""
        end = self._size if size is None or size < 0 else min(self._at + size, self._size)
        parts = []
        while self._at < end:
            number, start = divmod(self._at, BLOCK)
            part = self._block(number)[start : start + end - self._at]
            parts.append(part)
            self._at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readall(self) -> bytes:
        """All that is left."""
        return self.read()

    def readinto(self, buffer: Any) -> int:
        """As :meth:`read`, into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            start = number * BLOCK
            self._blocks[number] = self._fetch(start, min(start + BLOCK, self._size))
            while len(self._blocks) > HELD:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]
