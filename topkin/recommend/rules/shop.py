"""All rules of a shop, read once from the settings and the catalogue."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from topkin.config.shop.rules import ListRules
from topkin.recommend.rules.columns import codes, labels, numbers, times
from topkin.recommend.rules.eligible import Held, held
from topkin.recommend.rules.greedy import Caps, diverse, first, greedy
from topkin.recommend.rules.new_items import Quota

FEW_VALID = "of the items that may be listed, fewer than k are valid as of the date and in stock"
FEW_ELIGIBLE = "of the items that may be listed, fewer than k are for users with the user's values"
FEW_SHOWN = "without the items bought or shown to the user in recommend.not_shown_nights, fewer than k are left"
FEW_PER = "recommend.max_per lets fewer than k of the items that are left into one list"
FEW_STOCK = "recommend.capacity leaves fewer than k items for the user: others of higher score have the rest"
REASONS = (FEW_VALID, FEW_ELIGIBLE, FEW_SHOWN, FEW_PER, FEW_STOCK)

UNLIMITED = 2**53
_NO_LABELS = pa.array([], pa.string())
_NO_SALES = {"events": pa.array([], pa.int64()), "first_sale": pa.array([], pa.timestamp("us"))}
DEPTH = 3
"""Candidates that are asked for first, in lengths of a list, where some will be passed over."""
FEW_DEPTH = 2
"""Likewise where all users' candidates are put together, and where what is beyond is known by its boost."""


@dataclass(frozen=True, kw_only=True)
class ShopRules:
    """The rules of a shop.

    caps: see ``greedy.Caps``; no columns where there are none. diversity: weight of unlikeness, 0 for none. compared:
    from item numbers, ascending, to (n, d) float32 unit rows. eligible: by columns of users. valid: (n_items,) bool.
    outside: items that could be listed if they were. capacity: (n_items,) int64, None where none is limited. shown:
    whether exclusions have what was shown to users. boost: see :func:`boosts`. quota: of new items.
    """

    caps: Caps
    diversity: float
    compared: Callable[[np.ndarray], np.ndarray]
    eligible: tuple[Held, ...]
    valid: np.ndarray
    outside: int
    capacity: np.ndarray | None
    shown: bool
    boost: np.ndarray | None = None
    quota: Quota | None = None

    @classmethod
    def of(
        cls,
        rules: ListRules,
        catalogue: pa.Table,
        as_of: datetime,
        allowed: np.ndarray,
        compared: Callable[[np.ndarray], np.ndarray],
    ) -> "ShopRules | None":
        """From the catalogue, of whose items others are allowed, (n_items,) bool, or not.

        None where the settings have no rule of a shop. Raises ConfigError for a column that a rule cannot use."""
        if not rules.ruled:
            return None
        valid, capacity = valid_items(rules, catalogue, as_of), capacities(rules, catalogue)
        valid &= True if capacity is None else capacity > 0
        own = [codes(labels(catalogue, name, f"recommend.max_per.{name}")) for name in rules.max_per]
        by_column = np.array(own, np.int32).reshape(len(own), len(catalogue))
        return cls(
            caps=Caps(by_column, np.array(list(rules.max_per.values()), int)),
            diversity=rules.diversity,
            compared=compared,
            eligible=held(rules, catalogue),
            valid=valid,
            outside=int((allowed & ~valid).sum()),
            capacity=capacity,
            shown=rules.not_shown_nights > 0,
            boost=boosts(rules, catalogue),
            quota=Quota.of(rules, catalogue, as_of),
        )

    def depth(self, k: int) -> int:
        """How many candidates are asked for first."""
        few = self.capacity is not None or self.boost is not None
        return _depth(k, few=few, chosen=bool(len(self.caps.most) or self.diversity))

    @staticmethod
    def relative(relevance: np.ndarray, scores: np.ndarray | None = None) -> np.ndarray:
        """Scores over the user's best, (n, any) float32; those of the candidates themselves by default.

        relevance: (n, depth) float32 of candidates in their order.
        """
        top = np.abs(relevance[:, :1])
        return (relevance if scores is None else scores) / np.where(np.isfinite(top) & (top > 0), top, 1)

    def boosted(self, ids: np.ndarray, relevance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The places of candidates by relevance with boosts, (n, depth) int64 padded -1, their values, (n, depth)
        float32 padded -inf, and the last candidate's score over the best, (n,) float32, -inf where all were found.

        Arguments as of :meth:`chosen`.
        """
        assert self.boost is not None, "it is asked with boosts alone"
        scaled = self.relative(relevance)
        values = np.where(ids >= 0, scaled + self.boost[ids], np.float32(-np.inf))
        order = np.argsort(-values, axis=1, kind="stable")
        values = np.take_along_axis(values, order, axis=1)
        floor = np.where(ids[:, -1] >= 0, scaled[:, -1], np.float32(-np.inf))
        return np.where(values > -np.inf, order, -1), values, floor

    def chosen(self, ids: np.ndarray, relevance: np.ndarray, k: int, *, by_relevance: bool) -> np.ndarray:
        """The places of each list's items among its candidates, (n, k) int32 padded -1.

        ids: (n, depth) int32 in their order, padded -1. relevance: (n, depth) float32. by_relevance: whether that says
        what an item is worth, so that unlikeness can stand beside it.
        """
        if self.diversity and by_relevance:
            scaled = np.where(ids >= 0, self.relative(relevance), np.float32(0))
            named = np.zeros(self.caps.codes.shape[1] + 1, bool)  # the last is the padding's
            named[ids] = True
            numbers = np.flatnonzero(named[:-1]).astype(np.int32)
            return diverse(ids, scaled, self.compared(numbers), numbers, self.caps, k, self.diversity)
        if len(self.caps.most):
            return greedy(ids, self.caps, k)
        return first(ids, k)


def depth_of(rules: ListRules, k: int) -> int:
    """As :meth:`ShopRules.depth`, by the settings alone."""
    few = rules.capacity is not None or bool(rules.boost)
    return _depth(k, few=few, chosen=bool(rules.max_per or rules.diversity))


def _depth(k: int, *, few: bool, chosen: bool) -> int:
    return FEW_DEPTH * k if few else DEPTH * k if chosen else k


def boosts(rules: ListRules, catalogue: pa.Table) -> np.ndarray | None:
    """What is added to each item's score over the user's best, (n_items,) float32; None without boosts.

    Of each column its weight times the value over the largest value, in absolute terms.
    """
    if not rules.boost:
        return None
    total = np.zeros(len(catalogue))
    for name, weight in rules.boost.items():
        values = numbers(catalogue, name, f"recommend.boost.{name}")
        values = np.where(np.isfinite(values), values, 0.0)
        total += weight * values / (np.abs(values).max(initial=0) or 1)
    return total.astype(np.float32)


def check_columns(rules: ListRules, items: pa.StructType | None, users: pa.StructType | None) -> None:
    """Raises ConfigError for a column that a rule cannot use, by the types of the features of items and users."""
    catalogue, histories = (
        pa.table({"features": pa.array([], of or pa.struct([])), "price": pa.array([], pa.float32()), **more})
        for of, more in ((items, {"category": _NO_LABELS, **_NO_SALES}), (users, {"segment": _NO_LABELS}))
    )
    nothing = np.zeros(0, bool)
    ruled = ShopRules.of(rules, catalogue, datetime(2000, 1, 1), nothing, lambda numbers: np.zeros((len(numbers), 0)))
    for rule in () if ruled is None else ruled.eligible:
        rule.users(histories)


def valid_items(rules: ListRules, catalogue: pa.Table, as_of: datetime) -> np.ndarray:
    """The items whose time has come and is not over as of a date, (n_items,) bool."""
    now, valid = np.datetime64(as_of, "us"), np.ones(len(catalogue), bool)
    if rules.valid_from is not None:
        first = times(catalogue, rules.valid_from)
        valid &= np.isnat(first) | (first <= now)
    if rules.valid_to is not None:
        last = times(catalogue, rules.valid_to)
        valid &= np.isnat(last) | (now <= last)
    return valid


def capacities(rules: ListRules, catalogue: pa.Table) -> np.ndarray | None:
    """How many users' lists each item may be in, (n_items,) int64; None where that is not limited.

    Part of a piece is none, and less than none is none.
    """
    if rules.capacity is None:
        return None
    if isinstance(rules.capacity, int):
        return np.full(len(catalogue), rules.capacity, np.int64)
    stock = numbers(catalogue, rules.capacity, "recommend.capacity")
    return np.clip(np.where(np.isnan(stock), UNLIMITED, stock), 0, UNLIMITED).astype(np.int64)
