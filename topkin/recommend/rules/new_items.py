"""Which items are new, and how many of them a list has at least."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from topkin.config.shop.rules import ListRules
from topkin.recommend.rules.columns import times


@dataclass(frozen=True)
class Quota:
    """At least so many new items in a list. new: (n_items,) bool."""

    at_least: int
    new: np.ndarray

    @classmethod
    def of(cls, rules: ListRules, catalogue: pa.Table, as_of: datetime) -> "Quota | None":
        """None where no list has a quota. catalogue: with events, first_sale and the column that the rule names."""
        if (asked := rules.new_items) is None:
            return None
        since, never_sold = (
            np.datetime64(as_of - timedelta(days=asked.days), "us"),
            np.asarray(catalogue["events"]) == 0,
        )
        first = np.asarray(catalogue["first_sale"]).astype("datetime64[us]")
        first = first if asked.column is None else times(catalogue, asked.column)
        return cls(asked.at_least, np.where(np.isnat(first), never_sold, first >= since))

    def count(self, ids: np.ndarray) -> np.ndarray:
        """How many new items each list has, (n,) int. ids: (n, k) int32 padded -1."""
        return np.asarray((self.new[ids] & (ids >= 0)).sum(axis=1))
