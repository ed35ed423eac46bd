"""Baselines that go by counting: what sells, what sells lately, what the user buys; and what all share."""

from dataclasses import dataclass, field, fields
from typing import Self

import numpy as np
import scipy.sparse as sp

from topkin.interactions import Interactions


class Learned:
    """Of a dataclass: the fields that are no settings are arrays, learned by ``fit``."""

    def explain(self, history: Interactions, ids: np.ndarray, most: int) -> np.ndarray:
        """See :class:`topkin.baselines.registry.Baseline`: nothing, unless a baseline says otherwise."""
        return np.full((*ids.shape, most), -1, np.int32)

    def sparse_scores(self, history: Interactions) -> sp.csr_array | None:
        """See :class:`topkin.baselines.registry.Baseline`: none, unless a baseline says otherwise."""
        return None

    def common_scores(self) -> np.ndarray | None:
        """See :class:`topkin.baselines.registry.Baseline`: none, unless a baseline says otherwise."""
        return None

    def state(self) -> dict[str, np.ndarray]:
        """See :class:`topkin.baselines.registry.Baseline`."""
        return {f.name: getattr(self, f.name) for f in fields(self) if not f.init}  # type: ignore[arg-type]

    def restore(self, state: dict[str, np.ndarray]) -> Self:
        """See :class:`topkin.baselines.registry.Baseline`."""
        for name, values in state.items():
            setattr(self, name, values)
        return self


def popularity(history: Interactions) -> np.ndarray:
    """The number of distinct buyers of each item, (n_items,) float32."""
    return np.bincount(history.distinct().items, minlength=history.n_items).astype(np.float32)


def recent_popularity(history: Interactions, days: float = 7.0, most: float = 1.5) -> np.ndarray:
    """How much each item sells lately, (n_items,) float32: the sum of ``exp(-age / days)`` over its purchases.

    One user adds at most ``most`` to an item, so that nobody makes an item popular alone.
    """
    total = np.zeros(history.n_items)
    for first, end in history.row_blocks():
        some = history.take(np.arange(first, end))
        weights = np.exp(-np.maximum(some.ages, 0).astype(np.float64) / days)
        by_user = sp.coo_array((weights, (some.users, some.items)), (some.n_users, some.n_items)).tocsr()
        np.add.at(total, by_user.indices, np.minimum(by_user.data, most))  # in the order of users, whatever the blocks
    return total.astype(np.float32)


def _dense_rank(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """The rank, from 0, by ``first`` and within it by ``then``; equal pairs get equal ranks. (n,) float32."""
    order = np.lexsort((then, first))
    rises = (np.diff(first[order]) != 0) | (np.diff(then[order]) != 0)
    ranks = np.empty(len(order), np.float32)
    ranks[order] = np.concatenate([[0], np.cumsum(rises)])[: len(order)]
    return ranks


def _told_apart(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """``first``, (n,) float32 of at least 0; what is equal is told apart by next to nothing, as ``then`` orders it."""
    order = np.lexsort((then, first))
    values, rises = first[order], np.diff(then[order], prepend=0) != 0
    starts = np.flatnonzero(np.diff(values, prepend=-1) != 0)
    steps = np.cumsum(rises)
    steps -= np.repeat(steps[starts], np.diff(np.append(starts, len(values))))
    rises |= np.diff(values, prepend=-1) != 0
    values = values + steps.astype(np.float32) * np.spacing(values)
    for place in np.flatnonzero((values[1:] < values[:-1]) | (rises[1:] & (values[1:] == values[:-1]))) + 1:
        while place < len(values):  # as far as what was raised reaches beyond what follows
            least = np.nextafter(values[place - 1], np.float32(np.inf)) if rises[place] else values[place - 1]
            if values[place] >= least:
                break
            values[place] = least
            place += 1
    apart = np.empty(len(order), np.float32)
    apart[order] = values
    return apart


@dataclass
class Popularity(Learned):
    """Items by their number of distinct buyers, the same for every user."""

    values: np.ndarray = field(init=False, repr=False)

    def fit(self, history: Interactions) -> Self:
        """Count each item's buyers."""
        self.values = popularity(history)
        return self

    def scores(self, history: Interactions) -> np.ndarray:
        """See :class:`topkin.baselines.registry.Baseline`."""
        return np.repeat(self.values[None], history.n_users, axis=0)

    def common_scores(self) -> np.ndarray:
        """See :class:`topkin.baselines.registry.Baseline`."""
        return self.values


@dataclass
class RecentPopularity(Popularity):
    """Items by :func:`recent_popularity`, ties by distinct buyers, the same for every user."""

    days: float = 7.0

    def fit(self, history: Interactions) -> Self:
        """Weigh each item's purchases by their age."""
        self.values = _told_apart(recent_popularity(history, self.days), popularity(history))
        return self


@dataclass
class OwnFrequency(Learned):
    """The user's own items by how many times they were bought, ties and all others by distinct buyers.

    Lines of one moment, such as those of one basket, are one time.
    """

    values: np.ndarray = field(init=False, repr=False)

    def fit(self, history: Interactions) -> Self:
        """Count each item's buyers."""
        whole = popularity(history)
        self.values = _dense_rank(whole, whole)
        return self

    def scores(self, history: Interactions) -> np.ndarray:
        """See :class:`topkin.baselines.registry.Baseline`."""
        users = history.users
        order = np.lexsort((history.ages, history.items, users))
        parts = users[order], history.items[order], history.ages[order]
        new = np.ones(len(order), bool)
        new[1:] = np.any([p[1:] != p[:-1] for p in parts], axis=0)
        cells = parts[0][new], parts[1][new]
        ones = np.ones(len(cells[0]), np.float32)
        times = sp.coo_array((ones, cells), (history.n_users, history.n_items)).toarray()
        return np.asarray(times * (self.values.max(initial=0) + 1) + self.values)
