"""Memory that is free within this process goes back to the system, where another step is about to need as much."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_BY_C_LIBRARY = "TF_ONEDNN_USE_SYSTEM_ALLOCATOR"
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # of malloc.h
_REUSED, _KEPT = 32 << 20, 256 << 20  # bytes of an array up to which its memory is, and of what is kept for others


def give_back() -> None:
    """Give back what the C library and Arrow keep for later: a few milliseconds; the C library's on Linux alone."""
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()
    _of_c_library("malloc_trim", 0)


@contextmanager
def tensors_by_c_library() -> Iterator[None]:
    """A TensorFlow that this process, or a worker that it starts, first uses within has its memory of the C library.

    On a processor TensorFlow's oneDNN otherwise keeps whatever it ever held for its own next arrays. Convolutions want
    that, whose outputs are large and of one size. Products and tables do not, and what comes after them in the process
    has no use of it. So that a step of training does not ask the system for the same pages each time, the C library
    keeps some memory of this process until it is given back. What the environment says already stays.
    """
    if _BY_C_LIBRARY in os.environ:
        yield
        return
    os.environ[_BY_C_LIBRARY] = "1"
    _of_c_library("mallopt", _M_MMAP_THRESHOLD, _REUSED)
    _of_c_library("mallopt", _M_TRIM_THRESHOLD, _KEPT)
    try:
        yield
    finally:
        os.environ.pop(_BY_C_LIBRARY, None)


def _of_c_library(name: str, *values: int) -> None:
    """Call a function of the GNU C library, where that is what this process runs on."""
    function = getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
    if function is not None:
        function(*values)
