"""Which users may get an item: those whose value the item's column holds."""

from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.config.shop.rules import ListRules
from topkin.linalg.csr import Csr
from topkin.recommend.rules.columns import codes, label_lists, labels, rows_of


@dataclass(frozen=True)
class Held:
    """What one rule's column of items holds.

    user: the users' column. labels: (m,) string. items: of each label, m rows. free: (n_items,) bool, those that hold
    none, which are for all users.
    """

    key: str
    user: str
    labels: pa.Array
    items: Csr
    free: np.ndarray

    @classmethod
    def of(cls, catalogue: pa.Table, key: str, user: str, item: str) -> "Held":
        """Of a column of the catalogue. Raises ConfigError where it holds no labels."""
        rows, values = label_lists(catalogue, item, f"{key}.item")
        coded = values.dictionary_encode()
        free = np.ones(len(catalogue), bool)
        free[rows] = False
        items = Csr.of_pairs(codes(coded), rows, len(coded.dictionary), len(catalogue))
        return cls(key, user, coded.dictionary, items, free)

    def users(self, histories: pa.Table) -> np.ndarray:
        """The number of each user's label, (n,) int32; -1 for a user without one, or with one that no item holds."""
        coded = labels(histories, self.user, f"{self.key}.user")
        names = (
            coded.dictionary if pa.types.is_string(coded.dictionary.type) else pc.cast(coded.dictionary, pa.string())
        )
        known = np.asarray(pc.fill_null(pc.index_in(names, value_set=self.labels), -1))
        return np.append(known, -1)[codes(coded)].astype(np.int32)

    def mask(self, label: int) -> np.ndarray:
        """The items for users with a label, (n_items,) bool."""
        mask = self.free.copy()
        if label >= 0:
            mask[self.items.indices[self.items.indptr[label] : self.items.indptr[label + 1]]] = True
        return mask


class Audience(NamedTuple):
    """Users by what they may get: the group of each, (n,) int64, and each group's label in every rule, (g, rules)."""

    group: np.ndarray
    labels: np.ndarray
    rules: tuple[Held, ...]

    @classmethod
    def of(cls, rules: tuple[Held, ...], histories: pa.Table) -> "Audience":
        """Of the users of some histories."""
        of_groups, group = rows_of([rule.users(histories) for rule in rules])
        return cls(group, of_groups, rules)

    def take(self, rows: np.ndarray) -> "Audience":
        """Some users, in the order of ``rows``."""
        return self._replace(group=self.group[rows])

    def groups(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The rows of each group's users, ascending, and what they may get, (n_items,) bool."""
        order = np.argsort(self.group, kind="stable")
        numbers, starts = np.unique(self.group[order], return_index=True)
        parts = np.split(order, starts[1:]) if len(order) else []
        return [(rows, self.mask(int(group))) for group, rows in zip(numbers, parts, strict=True)]

    def mask(self, group: int) -> np.ndarray:
        """What a group's users may get, (n_items,) bool."""
        masks = (rule.mask(int(label)) for rule, label in zip(self.rules, self.labels[group], strict=True))
        return reduce(np.logical_and, masks)


def held(rules: ListRules, catalogue: pa.Table) -> tuple[Held, ...]:
    """What the columns of ``[recommend.eligible]`` hold. Raises ConfigError where one holds no labels."""
    return tuple(
        Held.of(catalogue, f"recommend.eligible.{name}", rule.user, rule.item) for name, rule in rules.eligible.items()
    )
