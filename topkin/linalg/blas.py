"""The number of threads of the BLAS libraries of this process."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy  # noqa: F401  its BLAS must be loaded before the controller looks for libraries
from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_inside = 0
_before: list[int] = []


@cache
def controller() -> ThreadpoolController:
    """What sets the threads of the BLAS libraries that are loaded, looked up once."""
    return ThreadpoolController().select(user_api="blas")


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let every product use one thread while several Python threads multiply.

    It holds for the whole process, so that the last one out restores what the first one in found.
    """
    global _inside
    libraries = controller().lib_controllers
    with _lock:
        if not _inside:
            _before[:] = [library.num_threads for library in libraries]
            for library in libraries:
                library.set_num_threads(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                for library, threads in zip(libraries, _before, strict=True):
                    library.set_num_threads(threads)
