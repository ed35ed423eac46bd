"""Memory that is free within this process goes back to the system, where another step is about to need as much."""

import ctypes
import sys


def give_back() -> None:
    """Give back what the C library and Arrow keep for later: a few milliseconds; the C library's on Linux alone."""
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
