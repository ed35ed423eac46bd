"""What users are known by beside their purchases: their features as vectors, the user tower of the block ``profile``.

A profile is the sum of the rows of a user's labels and numbers, and of a row that all profiles share, which ranks items
by how well they sell. Plain arrays: it is read in workers that know no TensorFlow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage
from topkin.artifacts.embeddings import vector_column, vectors_of
from topkin.encoding.blocks import PROFILE
from topkin.models.data.feature_rows import FeatureRows

FILE = "profiles.parquet"
"""Beside the encoder, whose hash its rows have part in."""


@dataclass(frozen=True)
class Profiles:
    """How users' features are read and what they say.

    rows: of the features. table: (rows.size + 2, d) float32, row 0 zero, the last one that of all.
    """

    rows: FeatureRows
    table: np.ndarray

    def of(self, users: pa.Table) -> np.ndarray:
        """The profiles of rows of ``schemas.histories``, (n, d) float32; zero where no feature is known.

        Raises ArtifactError where the table lacks a feature.
        """
        values, shares = self.rows.read(users)
        out = np.zeros((len(users), self.table.shape[1]), np.float32)
        for column in range(values.shape[1]):  # a row's sum does not depend on the rows beside it
            out += self.table[values[:, column]] * shares[:, column, None]
        known = np.asarray((values > 0).any(axis=1), np.float32)
        return out + known[:, None] * self.table[-1]

    def write(self, folder: str) -> None:
        """Into an encoder's folder."""
        storage.write_parquet(pa.table({"vector": vector_column(self.table)}), storage.join(folder, FILE))

    @classmethod
    def read(cls, folder: str, signature: Mapping[str, Any]) -> "Profiles | None":
        """Those of the encoder in a folder with this ``signature.json``; None where it has none."""
        if all(block["name"] != PROFILE for block in signature["blocks"]):
            return None
        table = vectors_of(storage.read_parquet(storage.join(folder, FILE)))
        return cls(FeatureRows.from_json(signature["profiles"]), table)
