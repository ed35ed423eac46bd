"""Tables on pages of 2 MB: rows read at random from pages of 4 kB take longer to be found than to be read."""

import ctypes

import numpy as np
import tensorflow as tf

_PAGE = 1 << 21
_HUGEPAGE, _COLLAPSE = 14, 25  # of madvise: let the kernel take huge pages, and take them now (Linux 6.1)


def whole_pages(address: int, size: int) -> tuple[int, int]:
    """Address and size in bytes of the whole pages of 2 MB within some memory."""
    first, end = -(-address // _PAGE) * _PAGE, (address + size) // _PAGE * _PAGE
    return first, max(end - first, 0)


def on_huge_pages(tensor: tf.Tensor) -> bool:
    """Move what a tensor, or a variable just read, holds to pages of 2 MB; whether the system did so.

    Nothing changes but the time to reach it: not on a GPU, nor where the system has no such pages.
    """
    advise = getattr(ctypes.CDLL(None), "madvise", None)
    if advise is None or "CPU" not in tensor.device:
        return False
    array = np.asarray(memoryview(tensor))  # the tensor's own memory, not a copy
    first, size = whole_pages(array.ctypes.data, array.nbytes)
    where = ctypes.c_void_p(first), ctypes.c_size_t(size)
    return bool(size) and [advise(*where, how) for how in (_HUGEPAGE, _COLLAPSE)][-1] == 0
