"""The stages of the run published before that a night reads."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage
from topkin.artifacts.embeddings import StoredItems, read_users
from topkin.config.sections import RecommendSettings
from topkin.interactions import LOG_WEIGHTS
from topkin.recommend.explain import VectorRows
from topkin.recommend.rules.eligibility import allowed_of
from topkin.recommend.unchanged.rows import numbers_of, same_rows

ROWS = 1 << 16
"""Items whose vectors are compared at a time."""


@dataclass(frozen=True, kw_only=True)
class Before:
    """Folders of finished stages of the run published before, and its encoder, which is tonight's.

    folder: of the stage that reads the others.
    """

    prepared: str
    embeddings: str
    folder: str
    encoder: str
    parts: int

    def part(self, table: str, part: int) -> pa.Table:
        """A part of a table of the stage itself."""
        return storage.read_parquet(storage.join(self.folder, table, storage.part_name(part, self.parts)))

    def same_users(self, part: int, histories: pa.Table, vectors: np.ndarray) -> np.ndarray:
        """The users of a part whose history and vector are what they were, (n,) bool.

        histories, vectors: tonight's, of the same users in the same order. What the encoder says of features of
        purchases follows from these, and may be there.
        """
        histories = histories.select([name for name in histories.column_names if name != LOG_WEIGHTS])
        name = storage.part_name(part, self.parts)
        earlier = storage.read_parquet(storage.join(self.prepared, "histories", name))
        same = same_rows(histories, earlier, "user_id")
        ids, old = read_users(self.embeddings, part, self.parts, self.encoder)
        if ids.type != histories["user_id"].type:
            return np.zeros(len(histories), bool)
        row = numbers_of(histories["user_id"].combine_chunks(), ids.combine_chunks())
        same &= row >= 0
        places = np.flatnonzero(same)
        same[places] = (vectors[places] == old[row[places]]).all(axis=1)
        return same

    def same_items(
        self, ids: pa.Array, vectors: VectorRows, in_vectors: VectorRows, allowed: np.ndarray, rules: RecommendSettings
    ) -> tuple[np.ndarray, np.ndarray]:
        """The items whose vectors are what they were, and those that may be listed as before, (n,) bool each.

        Some rows of before are in memory at a time.
        """
        stored = StoredItems(self.embeddings, self.encoder)
        catalogue = storage.read_parquet(storage.join(self.prepared, "catalogue.parquet"), ["item_id", "available"])
        same, might, names = np.zeros(len(ids), bool), np.zeros(len(ids), bool), stored.ids()
        if names.type != ids.type:
            return same, might
        row = numbers_of(ids, names)
        places = np.flatnonzero(row >= 0)
        might[places] = allowed_of(rules, catalogue).mask[row[places]]
        for start in range(0, len(places), ROWS):
            some = places[start : start + ROWS]  # ascending, and so are their rows of before
            same[some] = (vectors[some] == stored.read("vector", row[some])).all(axis=1)
            same[some] &= (in_vectors[some] == stored.read("in_vector", row[some])).all(axis=1)
        return same, might == allowed
