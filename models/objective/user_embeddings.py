"""The users of training who have a row of their own, added to what their histories are pooled to.

What a user likes beyond the items bought, as in SVD++ (Koren, Factorization meets the neighborhood, KDD 2008): a sum
over the history, and a vector of the user's. Half the questions of a step see the history alone, so that it serves
users without a row as well.
"""

import numpy as np
import pyarrow as pa
import tensorflow as tf

from topkin.encoding.user_embeddings import UserRows
from topkin.models.data.histories import PreparedHistories
from topkin.models.two_tower.towers import RowTable

ALONE = 0.5  # of a step's questions


class Askers:
    """The table of users' rows, (users + 1, dim), zeros at first; users are numbered part after part.

    table: row 0 is nobody's, a user's is the number plus 1.
    """

    def __init__(self, purchases: PreparedHistories, dim: int) -> None:
        self.purchases, self._rows, end = purchases, {}, 1
        for name in purchases.names():
            start, end = end, end + len(purchases.users(name))
            self._rows[name] = np.arange(start, end, dtype=np.int32)
        self.table = RowTable(end - 1, dim, scale=0.0, name="user_rows")
        self.table.build()

    def rows(self, parts: list[str]) -> np.ndarray:
        """The rows of the table of all users of some parts, one part after another, (n,) int32."""
        return np.concatenate([self._rows[name] for name in parts])

    def drawn(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The rows that questions of these users see: 0, none, for those that see the history alone."""
        return np.where(rng.random(len(rows)) < ALONE, 0, rows).astype(np.int32)

    def learned(self, users: np.ndarray) -> np.ndarray:
        """The rows of users by number, (n, dim) float32."""
        return np.asarray(tf.gather(self.table.table.value, users + 1))

    def known(self) -> UserRows:
        """The rows of all users who were ever asked for something, by id."""
        values = np.asarray(self.table.table)[1:]
        some = values.any(axis=1)
        ids = pa.concat_arrays([chunk for name in self._rows for chunk in self.purchases.users(name).chunks])
        return UserRows(ids.filter(pa.array(some)), values[some])
