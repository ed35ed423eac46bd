"""Items in no more lists than there are pieces: all users' candidates, the highest score first.

The lists are those of one greedy pass over all pairs of a user and an item: by score, highest first, ties by the users'
hashes, then in the order of the user's own candidates; a pair is taken if the user's list is not full, the item is not
given out, and no cap breaks. They are found without going pair by pair, as Blelloch, Fineman and Shun do for greedy
matchings (Greedy sequential maximal independent set and matching are parallel on average, SPAA 2012): a pair that has
room even if all before it were taken is taken, one that has no room is not, and both are settled at once, in rounds.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from topkin.linalg.sort_keys import keys_of
from topkin.recommend.rules.greedy import Caps


class CandidatePairs(NamedTuple):
    """Candidates of all users, (p,) each, by user, ascending, then in the user's own order, in which scores never rise.

    user: int32. item: int32. score: float32. place: int32, where the user's candidates have it.
    """

    user: np.ndarray
    item: np.ndarray
    score: np.ndarray
    place: np.ndarray

    def keep(self, some: np.ndarray) -> "CandidatePairs":
        """Some of them, a mask, (p,) bool, or their places, (m,) int."""
        return CandidatePairs(*(values[some] for values in self))


class _Limit:
    """One kind of constraint: of each group of pairs so many may be taken, the first in the pairs' order.

    group: (p,) int, of each pair, -1 for none. left: (n_groups,) int. order: (p',) of the pairs in a group, by group,
    then as they are to be taken; None where they are so already and all are in a group.
    """

    def __init__(self, group: np.ndarray, left: np.ndarray, order: np.ndarray | None) -> None:
        self.group, self.order = group, order
        self.left = np.append(left, np.iinfo(np.int64).max)  # the last is that of no group

    def safe(self) -> np.ndarray:
        """The pairs that have room even if all before them are taken, (p,) bool."""
        group = self.group if self.order is None else self.group[self.order]
        start = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]])[: len(group)])
        ends = start + np.minimum(self.left[group[start]], len(group))
        lengths = np.diff(np.append(start, len(group)))
        ahead = np.arange(len(group), dtype=np.int32) < np.repeat(ends.astype(np.int32), lengths)
        if self.order is None:
            return ahead
        safe = np.ones(len(self.group), bool)
        safe[self.order] = ahead
        return safe

    def settle(self, taken: np.ndarray) -> np.ndarray:
        """Count the pairs that were taken, (p,) bool; the pairs whose group is not full then, likewise."""
        group = self.group[taken]
        self.left -= np.bincount(group if self.order is None else group[group >= 0], minlength=len(self.left))
        return np.asarray((self.left > 0)[self.group])

    def keep(self, some: np.ndarray) -> None:
        """Go on with some pairs, (p,) bool."""
        self.group = self.group[some]
        if self.order is not None:
            number = np.cumsum(some, dtype=np.int32) - np.int32(1)
            self.order = number[self.order[some[self.order]]]


@dataclass
class Allotment:
    """What was given out so far.

    tie: (n_users,) uint64, whose lower is first of equal scores. stock: (n_items,) int64, what is left. items, places:
    (n_users, k) int32, the lists in the order in which they were taken, padded -1; scores: likewise, float32, padded
    inf. count: (n_users,) int64.
    """

    tie: np.ndarray
    stock: np.ndarray
    caps: Caps
    items: np.ndarray
    places: np.ndarray
    scores: np.ndarray
    count: np.ndarray

    @classmethod
    def empty(cls, capacity: np.ndarray, caps: Caps, tie: np.ndarray, k: int) -> "Allotment":
        """Before anything is taken. capacity: (n_items,) int64."""
        none, scores = np.full((len(tie), k), -1, np.int32), np.full((len(tie), k), np.inf, np.float32)
        return cls(tie, capacity.copy(), caps, none, none.copy(), scores, np.zeros(len(tie), np.int64))

    @property
    def lowest(self) -> np.ndarray:
        """The lowest score that has a piece of each item, (n_items,) float32."""
        lowest = np.full(len(self.stock), np.inf, np.float32)
        np.minimum.at(lowest, self.items[self.items >= 0], self.scores[self.items >= 0])
        return lowest

    def back_to(self, score: float) -> None:
        """As it was before the pairs of that score and lower ones."""
        late = self.scores <= score
        self.stock += np.bincount(self.items[late], minlength=len(self.stock))
        self.count -= late.sum(axis=1)
        rows = np.flatnonzero(late.any(axis=1))
        order, gone = np.argsort(late[rows], axis=1, kind="stable"), late[rows]
        for values, padding in ((self.items, -1), (self.places, -1), (self.scores, np.inf)):
            values[rows] = np.take_along_axis(np.where(gone, values.dtype.type(padding), values[rows]), order, axis=1)

    def take(self, pairs: CandidatePairs) -> None:
        """Go on with pairs all of which come after those of before."""
        k = self.items.shape[1]
        some = (self.count < k)[pairs.user] & (self.stock > 0)[pairs.item]
        pairs = pairs if some.all() else pairs.keep(some)
        limits = [
            _Limit(pairs.user, k - self.count, None),
            _by_item(pairs, self.stock, self.tie),
            *(self._cap(pairs, labels, most) for labels, most in zip(self.caps.codes, self.caps.most, strict=True)),
        ]
        left = np.arange(len(pairs.user), dtype=np.int32)  # of a band, which has fewer than 2**31
        while len(left):
            taken = np.logical_and.reduce([limit.safe() for limit in limits])
            self._put(pairs.keep(left[taken]))
            some = ~taken & np.logical_and.reduce([limit.settle(taken) for limit in limits])
            left = left[some]
            for limit in limits:
                limit.keep(some)

    def _put(self, taken: CandidatePairs) -> None:
        """Add pairs to their users' lists; several of a user stand one after the other."""
        first = np.searchsorted(taken.user, taken.user)
        at = taken.user, self.count[taken.user] + np.arange(len(taken.user)) - first
        self.items[at], self.places[at], self.scores[at] = taken.item, taken.place, taken.score
        self.count += np.bincount(taken.user, minlength=len(self.count))
        self.stock -= np.bincount(taken.item, minlength=len(self.stock))

    def _cap(self, pairs: CandidatePairs, labels: np.ndarray, most: int) -> _Limit:
        """Of each user's pairs with one label, as many as the user's list may have beside those that it has."""
        label, n = labels[pairs.item], int(labels.max(initial=0)) + 1
        some = np.flatnonzero(label >= 0)
        keys = pairs.user[some].astype(np.int64) * n + label[some]
        order = np.argsort(keys, kind="stable")
        keys, order = keys[order], some[order]
        first = np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)]
        group = np.full(len(label), -1, np.int32)
        group[order] = np.cumsum(first, dtype=np.int32) - np.int32(1)
        user, own = np.divmod(keys[first], n)
        had = self.items[user]
        left = most - ((labels[had] == own[:, None]) & (had >= 0)).sum(axis=1)
        return _Limit(group, left, order)


def _by_item(pairs: CandidatePairs, stock: np.ndarray, tie: np.ndarray) -> _Limit:
    """Each item to as many users as there are pieces; items with enough for all pairs need no order."""
    scarce = np.bincount(pairs.item, minlength=len(stock)) > stock
    some = np.flatnonzero(scarce[pairs.item])
    keys = keys_of(pairs.score[some], pairs.item[some])
    keys = keys >> np.uint64(32) | keys << np.uint64(32)  # the item, then the score from the highest
    order = np.argsort(keys)  # fast, and in any order among equal keys
    sorted_keys = keys[order]
    equal = np.concatenate([[False], sorted_keys[1:] == sorted_keys[:-1], [False]])
    at = np.flatnonzero(equal[1:] | equal[:-1])
    order[at] = order[at][np.lexsort((tie[pairs.user[some[order[at]]]], sorted_keys[at]))]
    return _Limit(np.where(scarce[pairs.item], pairs.item, np.int32(-1)), stock, some[order])
