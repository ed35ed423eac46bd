"""Lists that rules make, from as many candidates as they need."""

from collections.abc import Callable
from functools import partial

import numpy as np

from topkin.artifacts.schemas import SOURCES
from topkin.recommend.rules.boosted import boosted_lists
from topkin.recommend.rules.found import BUDGET, MORE, Found
from topkin.recommend.rules.shop import FEW_PER, REASONS, ShopRules


def ruled_lists(
    n: int,
    k: int,
    n_items: int,
    rules: ShopRules,
    find: Callable[..., Found],
    *,
    by_relevance: bool,
    narrowed: bool = False,
    depth: int | None = None,
    only: np.ndarray | None = None,
    ahead: Found | None = None,
) -> tuple[Found, np.ndarray]:
    """The lists of n users under the rules, and why they are short, (n,) int8 in REASONS; -1 where candidates are few.

    Args:
        n: How many users.
        k: Length of a list.
        n_items: No more candidates are there.
        rules: What is asked of a list.
        find: From rows of users and a number to so many candidates of each in their order; fewer are all there are.
        by_relevance: Whether the final scores say what an item is worth.
        narrowed: Whether ``find`` takes items, (n_items,) bool, that it leaves out.
        depth: How many candidates are asked for first, in the place of what the rules say.
        only: (n_items,) bool, the items that are taken from what is found; all without it.
        ahead: Items of each user that stand before the candidates.
    """
    depth, todo, lists = min(depth or rules.depth(k), n_items), np.arange(n), None
    why, size = np.full(n, -1, np.int8), max(n, 1)
    while len(todo) or lists is None:
        again = []
        for start in range(0, max(len(todo), 1), size):
            rows = todo[start : start + size]
            candidates = find(rows, depth)
            left = (candidates.ids[:, -1] >= 0) & (depth < n_items)
            if only is not None:
                candidates = candidates.without(~only[candidates.ids])
            if ahead is not None:
                candidates = _behind(ahead.take(rows), candidates)
            if rules.boost is not None and by_relevance:
                bring = partial(_bring, find, rows) if narrowed else None
                best, more = boosted_lists(candidates, rules, k, left, bring)
                short = best.ids[:, -1] < 0
            else:
                best = candidates.at(rules.chosen(candidates.ids, candidates.final, k, by_relevance=by_relevance))
                short = best.ids[:, -1] < 0
                more = short & left
            lists = best if lists is None else lists
            lists.put(rows, best)
            capped = short & ((candidates.ids >= 0).sum(axis=1) >= k)
            why[rows] = np.where(capped, REASONS.index(FEW_PER), -1)
            again.append(rows[more])
        todo, depth = np.concatenate(again), min(MORE * depth, n_items)
        size = max(1, BUDGET // depth)
    return lists, why


def _bring(find: Callable[..., Found], of: np.ndarray, rows: np.ndarray, items: np.ndarray) -> Found:
    """All of some items, (n_items,) bool, for some of the users ``of``."""
    return find(of[rows], int(items.sum()), ~items)


def _behind(ahead: Found, behind: Found) -> Found:
    """Some items of each user, then those of the candidates that are others."""
    again = np.zeros(behind.ids.shape, bool)
    for item in ahead.ids.T:
        again |= behind.ids == item[:, None]
    return ahead.beside(behind.without(again))


def lists_with_new(
    n: int,
    k: int,
    n_items: int,
    rules: ShopRules,
    find: Callable[..., Found],
    *,
    by_relevance: bool,
    narrowed: bool,
) -> tuple[Found, np.ndarray]:
    """As :func:`ruled_lists`, with the new items that the rules ask for.

    A list with too few of them is made anew: first come the best new items that break no cap, as many as are asked
    for, then the best others that break none beside these; all in the order of their scores.

    Args:
        n, k, n_items, rules, by_relevance: As of :func:`ruled_lists`.
        find: Likewise; takes items, (n_items,) bool, that need not be looked for too.
        narrowed: Whether it leaves these out, so that all it finds are others.
    """
    lists, why = ruled_lists(n, k, n_items, rules, find, by_relevance=by_relevance, narrowed=narrowed)
    if (quota := rules.quota) is None or not quota.new.any():
        return lists, why
    few, least = np.flatnonzero(quota.count(lists.ids) < quota.at_least), min(quota.at_least, k)
    if not len(few):
        return lists, why

    def find_new(rows: np.ndarray, depth: int) -> Found:
        return find(few[rows], depth, ~quota.new)

    def find_all(rows: np.ndarray, depth: int) -> Found:
        return find(few[rows], depth) if len(rules.caps.most) else lists.take(few[rows])  # without caps no others come

    depth = None if narrowed else MORE * rules.depth(k)
    make = partial(ruled_lists, n_items=n_items, rules=rules, by_relevance=by_relevance)
    best, _ = make(len(few), least, find=find_new, depth=depth, only=quota.new)
    deeper, why[few] = make(len(few), k, find=find_all, ahead=best)
    by = np.where(deeper.sources == 0, deeper.final, deeper.scores)  # what sells has no final score
    order = np.lexsort((deeper.ids, -by, np.where(deeper.ids < 0, len(SOURCES), deeper.sources)))
    lists.put(few, deeper.at(order))
    return lists, why
