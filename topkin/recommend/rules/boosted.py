"""Lists by the score with boosts, and proof that no item beyond the candidates belongs in them.

An item that was not found has no higher score than the last that was; so it is above the last of a list by its boost
alone. Few items have so high a one: these are looked up for all users at once, rather than more candidates for each.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from topkin.recommend.rules.found import BUDGET, MORE, Found
from topkin.recommend.rules.shop import ShopRules

Bring = Callable[[np.ndarray, np.ndarray], Found]
"""From rows, (m,) int, and items, (n_items,) bool, to those of the items that each user may get, by score."""


class BoostedLists(NamedTuple):
    """Lists of some users.

    lists: (n, k). last: (n,) float32, the value of the last item, -inf of a short list. floor: likewise, the score over
    the best of the last candidate, which no item beyond them passes.
    """

    lists: Found
    last: np.ndarray
    floor: np.ndarray

    @classmethod
    def of(cls, candidates: Found, rules: ShopRules, k: int) -> "BoostedLists":
        """From candidates in the order of their scores."""
        order, values, floor = rules.boosted(candidates.ids, candidates.final)
        if len(rules.caps.most):
            items = np.take_along_axis(candidates.ids, np.maximum(order, 0), axis=1)
            ordered = np.where(order < 0, np.int32(-1), items)
            chosen = rules.chosen(ordered, values, k, by_relevance=False)
            none, at = chosen < 0, np.maximum(chosen, 0)
            places = np.where(none, np.int32(-1), np.take_along_axis(order, at, axis=1))
            last = np.where(none[:, -1], np.float32(-np.inf), values[np.arange(len(at)), at[:, -1]])
        else:
            places, last = order[:, :k], values[:, k - 1]
        return cls(candidates.at(places), last, floor)

    @property
    def short(self) -> np.ndarray:
        """Whether a list has fewer than k items, (n,) bool."""
        return self.lists.ids[:, -1] < 0


def boosted_lists(
    candidates: Found, rules: ShopRules, k: int, left: np.ndarray, bring: Bring | None
) -> tuple[Found, np.ndarray]:
    """The lists of some users, and whether more candidates may change them, (n,) bool.

    Args:
        candidates: Candidates in the order of their scores, (n, depth).
        rules: With boosts.
        k: Length of a list.
        left: (n,) bool, the users who may get items beyond the candidates.
        bring: What looks some items up; None where a score depends on what other candidates there are.
    """
    assert rules.boost is not None, "it is asked with boosts alone"
    best = BoostedLists.of(candidates, rules, k)
    open_ = left & (best.short | (best.last < best.floor + rules.boost.max()))
    rows = np.flatnonzero(open_ & ~best.short)
    if bring is None or not len(rows):
        return best.lists, open_
    deeper = MORE * candidates.ids.shape[1]
    some = min(deeper, len(rules.boost) - 1)
    highest = np.sort(np.partition(rules.boost, -some - 1)[-some - 1 :])[::-1]
    above = np.searchsorted(-highest, best.floor[rows] - best.last[rows])  # how many boosts are more than is lacking
    above = np.sort(above[above <= some])
    cost = len(rows) * above + (len(rows) - 1 - np.arange(len(above))) * deeper  # of so many for all, more for the rest
    bar = highest[above[np.argmin(cost)] if len(above) else 0]
    rows = rows[best.floor[rows] + bar <= best.last[rows]]
    high = rules.boost > bar
    if high.any():
        size = max(1, BUDGET // (MORE * int(high.sum())))  # what is made of a pair takes several times its room
        for start in range(0, len(rows), size):
            some_rows = rows[start : start + size]
            _bring(best, candidates, rules, k, some_rows, bring(some_rows, high))
    open_[rows] = False
    return best.lists, open_


def _bring(best: BoostedLists, candidates: Found, rules: ShopRules, k: int, rows: np.ndarray, high: Found) -> None:
    """Make the lists anew that items of high boosts belong in. rows: whose candidates they are."""
    assert rules.boost is not None
    values = rules.relative(candidates.final[rows], high.final) + rules.boost[high.ids]
    row, place = np.nonzero((high.ids >= 0) & (values > best.last[rows, None]))
    item, new = high.ids[row, place], np.ones(len(row), bool)
    for candidate in candidates.ids.T:
        new &= candidate[rows[row]] != item
    again = np.unique(row[new])
    if not len(again):
        return
    out = np.ones(high.ids.shape, bool)
    out[row[new], place[new]] = False
    both = candidates.take(rows[again]).beside(high.take(again).without(out[again]))
    by_score = np.lexsort((both.ids, -both.final, both.ids < 0))
    best.lists.put(rows[again], BoostedLists.of(both.at(by_score), rules, k).lists)
