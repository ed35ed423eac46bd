"""Work in batches of one size, a size that fits in memory."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def shrinking(
    call: Callable[[int], T], size: int, too_big: tuple[type[BaseException], ...] = (MemoryError,)
) -> tuple[T, int]:
    """``call(size)``, tried again with half the size as often as it does not fit; with it, the size that fit.

    too_big: the errors that mean so. With size 1 they are raised. Raises ValueError for a size below 1.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    while True:
        try:
            return call(size), size
        except too_big:
            if size == 1:
                raise
        size //= 2  # outside the handler: the error holds the frames, and with them what filled the memory


def in_batches(call: Callable[[np.ndarray], np.ndarray], rows: int, size: int, width: int) -> np.ndarray:
    """``call`` on row numbers, ``size`` at a time, its rows stacked: (rows, width) float32."""
    out = np.zeros((rows, width), np.float32)
    for start in range(0, rows, size):
        batch = np.arange(start, min(start + size, rows))
        out[batch] = call(batch)
    return out


def prefetched(items: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """The items, made by a thread while the caller works on those before; at most ``depth`` wait.

    An error of the thread is raised here, in its place. A caller that stops early stops the thread.
    """
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(last: bool, value: object) -> bool:
        while not stopped.is_set():
            try:
                waiting.put((last, value), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(False, item):
                    return
        except BaseException as e:  # noqa: BLE001 - it is raised where the items are read
            put(True, e)
        else:
            put(True, None)

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            last, value = waiting.get()
            if not last:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        stopped.set()
        thread.join()
