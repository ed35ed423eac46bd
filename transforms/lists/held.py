"""What a process keeps of the parts of users that it worked on last."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa

from topkin.planning.estimate import HELD_BYTES
from topkin.recommend.searchers import UserQueries

Held = TypeVar("Held")

PartTables = tuple[pa.Table, np.ndarray]
"""The histories of a part's users, and their vectors."""


class HeldParts(Generic[Held]):
    """What was made of parts last, of HELD_BYTES in all and one more, for whoever asks for them again.

    size: bytes of one.
    """

    def __init__(self, size: Callable[[Held], int]) -> None:
        self._parts: OrderedDict[int, Held] = OrderedDict()
        self._size, self._lock = size, threading.Lock()

    def get(self, part: int, make: Callable[[], Held]) -> Held:
        """Of a part what is held, or what is made."""
        with self._lock:
            held = self._parts.pop(part, None)
            while held is None and sum(map(self._size, self._parts.values())) > HELD_BYTES:
                self._parts.popitem(last=False)
        held = make() if held is None else held
        with self._lock:
            self._parts[part] = held
        return held


def bytes_of_tables(held: PartTables) -> int:
    """Of histories and vectors."""
    return held[0].nbytes + held[1].nbytes


def bytes_of_queries(held: UserQueries) -> int:
    """Beside the vectors, which are held with the tables."""
    known = (one for one in (held.history, held.history.inputs) if one is not None)
    arrays = [array for one in known for array in (one.indptr, one.items, one.ages, one.weights)]
    return sum(array.nbytes for array in (*arrays, *held.exclude))
