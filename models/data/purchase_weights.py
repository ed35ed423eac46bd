"""What features of a purchase say of how much it tells of its user: the log of a factor of its weight in the history.

The log is a sum over the features, piecewise linear in numbers, learned with the block of features
(:mod:`topkin.models.objective.feature_step`). Plain arrays: it is read in workers that know no TensorFlow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from topkin.interactions import FEATURES, LOG_WEIGHTS
from topkin.models.data.feature_rows import FeatureRows

COLUMN = "purchase_features"
"""Of ``schemas.histories``: a list of the features of each purchase."""

MOST = 5.0
"""Bound of a log: a purchase weighs at most e**5 times what another does with nothing known."""


def flat(histories: pa.Table) -> pa.Table:
    """The features of all purchases of some histories, in their order, as a column ``features``."""
    lists = histories[COLUMN].combine_chunks()
    lists = pa.array([], lists.type) if isinstance(lists, pa.ChunkedArray) else lists
    return pa.table({"features": lists.flatten()})


def read_features(rows: FeatureRows, histories: pa.Table) -> np.ndarray:
    """``Interactions.features`` of some histories, (n_purchases, w)."""
    values, shares = rows.read(flat(histories))
    pairs = np.empty(values.shape, FEATURES)
    pairs["row"], pairs["share"] = values, shares
    return pairs


@dataclass(frozen=True)
class PurchaseWeights:
    """How features of purchases are read, and what they say.

    rows: of the features. table: (rows.size + 1,) float32, row 0 zero.
    """

    rows: FeatureRows
    table: np.ndarray

    def logs(self, features: np.ndarray) -> np.ndarray:
        """The logs of the weights' factors, (n,) float32 within MOST; 0 where nothing is known."""
        logs = np.zeros(len(features), np.float32)
        for column in range(features.shape[1]):  # a row's sum does not depend on the rows beside it
            logs += self.table[features["row"][:, column]] * features["share"][:, column]
        return np.clip(logs, -MOST, MOST)

    def added(self, histories: pa.Table) -> pa.Table:
        """Histories with a column LOG_WEIGHTS, a list of one number a purchase."""
        lists = histories["items"].combine_chunks()
        if isinstance(lists, pa.ChunkedArray):
            return histories.append_column(LOG_WEIGHTS, pa.array([], pa.list_(pa.float32())))
        ends = np.concatenate([[0], np.cumsum(np.asarray(lists.value_lengths()))]).astype(np.int32)
        logs = pa.array(self.logs(read_features(self.rows, histories)))
        return histories.append_column(LOG_WEIGHTS, pa.ListArray.from_arrays(pa.array(ends), logs))

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {"features": self.rows.to_json(), "log_weights": self.table.tolist()}

    @classmethod
    def from_signature(cls, signature: Mapping[str, Any]) -> "PurchaseWeights | None":
        """Those of an encoder with this ``signature.json``; None where it has none."""
        choices = signature.get("purchases")
        if not choices:
            return None
        return cls(FeatureRows.from_json(choices["features"]), np.asarray(choices["log_weights"], np.float32))
