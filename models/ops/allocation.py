"""Keeping freed memory for the next step instead of handing it back to the kernel, where the C library can.

A training step allocates the same tens of megabytes again and again. By default glibc asks the kernel for each large
array and gives it back at once, so that every page of it is cleared and mapped anew: nearly half of a step's time.
"""

import ctypes
import platform
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc refuses more


@cache
def keep_freed_memory(most: int = 1 << 30) -> bool:
    """Let the process keep freed memory: of each arena up to ``most`` bytes; says whether the C library could be told.

    For the whole process, from now on. Elsewhere than with glibc (musl, macOS, Windows) nothing is done.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    tell = ctypes.CDLL(None).mallopt
    return bool(tell(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and tell(_TRIM_THRESHOLD, min(most, 2**31 - 1)))
