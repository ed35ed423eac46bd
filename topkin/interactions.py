"""Purchase histories as arrays: the form in which training, scoring, rules and baselines read them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from topkin.linalg.csr import Csr, entries_of, indptr_of

DAY_US = 86_400_000_000
BLOCK = 1 << 18
FEATURES = np.dtype([("row", np.int32), ("share", np.float32)])
INPUT = "input_"
INPUTS = tuple(INPUT + name for name in ("items", "times", "weights", "events"))
"""The columns of histories that hold inputs, where there are some."""

LOG_WEIGHTS = "log_weights"
"""A column that encoders add to histories: of each purchase the log of what its features multiply its weight by."""

COLUMNS = ("items", "times", "weights", *INPUTS[:3], LOG_WEIGHTS)
"""The columns of histories that interactions are made of, those that there are."""


def encode_ids(ids: pa.Array | pa.ChunkedArray, vocabulary: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The row number of each id in a vocabulary, (n,) int32; -1 for an id that it lacks.

    Raises TypeError where the two have different types: an int 7 is not a string "7".
    """
    if ids.type != vocabulary.type:
        raise TypeError(f"ids must be of the vocabulary's type {vocabulary.type}, got {ids.type}")
    if isinstance(vocabulary, pa.ChunkedArray):
        vocabulary = vocabulary.combine_chunks()
    codes = pc.fill_null(pc.index_in(ids, value_set=vocabulary), -1)
    return np.asarray(codes).astype(np.int32, copy=False)


@dataclass(frozen=True)
class Interactions:
    """Purchases by user as compressed rows: user r's are at ``indptr[r]:indptr[r + 1]``, in time order.

    Attributes:
        indptr: (n_users + 1,) int64.
        items: (n,) int32 row numbers in the catalogue.
        ages: (n,) float32 days before the as-of date.
        weights: (n,) float32 quantities; of ``inputs`` what each weighs.
        n_items: Rows of the catalogue.
        inputs: What user vectors are made of, where that is not the purchases, each of weight one: of the same users,
            events of all types, purchases among them. None else.
        weighted: Whether these are such inputs: an item counts by the greatest of its weights.
        log_weights: (n,) float32 of the column LOG_WEIGHTS; None where features of purchases say nothing.
        features: (n, w) of dtype FEATURES, rows of a table and their shares, while what they say is learned; else None.

    Examples:
        >>> import numpy as np, topkin
        >>> ages, weights = np.array([3, 1, 2], np.float32), np.ones(3, np.float32)
        >>> bought = topkin.Interactions(np.array([0, 2, 3]), np.array([0, 1, 1], np.int32), ages, weights, n_items=2)
        >>> bought.counts().toarray().tolist()
        [[1.0, 1.0], [0.0, 1.0]]
        >>> bought.latest(1).items.tolist()
        [1, 1]
    """

    indptr: np.ndarray
    items: np.ndarray
    ages: np.ndarray
    weights: np.ndarray
    n_items: int
    inputs: "Interactions | None" = field(default=None)
    weighted: bool = False
    log_weights: np.ndarray | None = None
    features: np.ndarray | None = None

    @property
    def pooled(self) -> "Interactions":
        """What user vectors are made of: the inputs where there are some, else the purchases."""
        return self if self.inputs is None else self.inputs

    @property
    def n_users(self) -> int:
        """How many users there are, those without purchases too."""
        return len(self.indptr) - 1

    @property
    def users(self) -> np.ndarray:
        """The user row of each purchase, (n,) int32."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), np.diff(self.indptr))

    @property
    def pattern(self) -> Csr:
        """The items of each user, without ages and weights."""
        return Csr(self.indptr, self.items)

    @classmethod
    def from_histories(
        cls, histories: pa.Table, item_ids: pa.Array | pa.ChunkedArray, as_of: datetime, *, lacking: bool = False
    ) -> "Interactions":
        """From a table of ``schemas.histories`` and the catalogue's ids.

        lacking: whether items that these lack may be there, as -1. Raises ValueError where they may not, and are.
        """
        events = cls._of_lists(histories, "", item_ids, as_of, lacking)
        if LOG_WEIGHTS in histories.column_names:
            values = np.asarray(pc.list_flatten(histories[LOG_WEIGHTS])).astype(np.float32, copy=False)
            events = replace(events, log_weights=values)
        if INPUTS[0] not in histories.column_names:
            return events
        inputs = cls._of_lists(histories, INPUT, item_ids, as_of, lacking)
        return replace(events, inputs=replace(inputs, weighted=True))

    @classmethod
    def _of_lists(
        cls, histories: pa.Table, prefix: str, item_ids: pa.Array | pa.ChunkedArray, as_of: datetime, lacking: bool
    ) -> "Interactions":
        """From the columns items, times and weights whose names have a prefix."""
        lists = histories[f"{prefix}items"].combine_chunks()
        if isinstance(lists, pa.ChunkedArray):  # no chunks at all
            lists = pa.array([], lists.type)
        indptr = indptr_of(np.asarray(pc.list_value_length(lists)))
        ids = pc.list_flatten(histories[f"{prefix}items"])
        items = encode_ids(ids, item_ids)
        if not lacking and (items < 0).any():
            missing = ids.filter(pa.array(items < 0)).unique().to_pylist()[:3]
            raise ValueError(f"every bought item must be in the catalogue, it lacks {missing}")
        times = np.asarray(pc.list_flatten(histories[f"{prefix}times"])).astype("datetime64[us]").astype(np.int64)
        now = int(np.datetime64(as_of, "us").astype(np.int64))
        ages = ((now - times) / DAY_US).astype(np.float32)
        weights = np.asarray(pc.list_flatten(histories[f"{prefix}weights"])).astype(np.float32, copy=False)
        return cls(indptr, items, ages, weights, len(item_ids))

    def take(self, rows: np.ndarray) -> "Interactions":
        """The purchases of some users, in the order of ``rows``, (m,) int."""
        indptr, at = entries_of(self.indptr, rows)
        return self._entries(indptr, at, None if self.inputs is None else self.inputs.take(rows))

    def keep(self, keep: np.ndarray) -> "Interactions":
        """Some of the purchases, (n,) bool, of the same users, with no inputs."""
        return self._entries(np.concatenate([[0], np.cumsum(keep)])[self.indptr].astype(np.int64), keep, None)

    def of_known_items(self) -> "Interactions":
        """Without those of items that the ids lacked, see :meth:`from_histories`; inputs likewise."""
        inputs = None if self.inputs is None else self.inputs.of_known_items()
        return replace(self.keep(self.items >= 0), inputs=inputs)

    def _entries(self, indptr: np.ndarray, at: np.ndarray, inputs: "Interactions | None") -> "Interactions":
        items, ages, weights = self.items[at], self.ages[at], self.weights[at]
        return replace(
            self, indptr=indptr, items=items, ages=ages, weights=weights, inputs=inputs, **self._feature_columns(at)
        )

    def _feature_columns(self, at: np.ndarray) -> dict[str, Any]:
        """What features of some purchases say, where they have any."""
        columns = {"log_weights": self.log_weights, "features": self.features}
        return {name: values[at] for name, values in columns.items() if values is not None}

    def distinct(self) -> "Interactions":
        """Each user's distinct items, each at its latest purchase with its summed weight, in time order.

        Of inputs with its greatest weight. The inputs stay as they are.
        """
        blocks = [self._distinct(*rows) for rows in self.row_blocks()]
        at, weights = (np.concatenate(each) for each in zip(*blocks, strict=True))
        indptr = np.searchsorted(at, self.indptr)
        items, ages = self.items[at], self.ages[at]
        return replace(self, indptr=indptr, items=items, ages=ages, weights=weights, **self._feature_columns(at))

    def _distinct(self, first: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the distinct purchases of the users from ``first`` up to ``end`` are, ascending, and their weights."""
        indptr = self.indptr[first : end + 1]
        some = slice(int(indptr[0]), int(indptr[-1]))
        items, weights = self.items[some], self.weights[some]
        keys = np.repeat(np.arange(end - first, dtype=np.int64) * self.n_items, np.diff(indptr)) + items
        order = np.argsort(keys, kind="stable")
        keys, last = keys[order], np.ones(len(order), bool)
        last[:-1] = keys[1:] != keys[:-1]
        ends = np.flatnonzero(last)
        reduce = np.maximum if self.weighted else np.add
        sums = reduce.reduceat(weights[order], np.r_[0, ends[:-1] + 1]) if len(order) else weights
        back = np.argsort(order[ends], kind="stable")
        return some.start + order[ends][back], sums[back].astype(np.float32)

    def row_blocks(self) -> list[tuple[int, int]]:
        """Users one after the other, from the first of each block up to its end, with about BLOCK purchases each.

        At least one block. Whatever sorts all purchases does it by these with less memory, and in less time.
        """
        bounds = np.searchsorted(self.indptr, np.arange(BLOCK, self.indptr[-1], BLOCK))
        ends = np.unique(np.append(bounds, self.n_users))
        return list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))

    def latest(self, length: int) -> "Interactions":
        """At most the ``length`` latest purchases of each user."""
        kept = np.minimum(np.diff(self.indptr), length)
        position = np.arange(len(self.items)) - np.repeat(self.indptr[:-1], np.diff(self.indptr))
        keep = position >= np.repeat(np.diff(self.indptr) - kept, np.diff(self.indptr))
        return self._entries(indptr_of(kept), keep, self.inputs)

    def positions(self) -> np.ndarray:
        """At how many later moments each purchase's user bought, (n,) int64: 0 for a user's whole last basket."""
        new = np.ones(len(self.items), bool)
        new[1:] = self.ages[1:] != self.ages[:-1]
        new[self.indptr[:-1][np.diff(self.indptr) > 0]] = True
        moment = np.concatenate([[0], np.cumsum(new)])  # of the purchase before each
        return np.asarray(np.repeat(moment[self.indptr[1:]], np.diff(self.indptr)) - moment[1:])

    def renumbered(self) -> "tuple[np.ndarray, Interactions]":
        """The items that there are, ascending, (m,) int32, and the same with numbers among them."""
        some = [self.items] if self.inputs is None else [self.items, self.inputs.items]
        items = np.unique(np.concatenate(some))
        numbers = [np.searchsorted(items, each).astype(np.int32) for each in some]
        inputs = None if self.inputs is None else replace(self.inputs, items=numbers[1], n_items=len(items))
        return items, replace(self, items=numbers[0], n_items=len(items), inputs=inputs)

    def counts(self) -> sp.csr_matrix:
        """How often each user bought each item, (n_users, n_items) float32 CSR, column numbers sorted."""
        ones = np.ones(len(self.items), np.float32)
        matrix = sp.csr_matrix((ones, self.items.copy(), self.indptr), (self.n_users, self.n_items))
        matrix.sum_duplicates()
        return matrix

    def binary(self) -> sp.csr_array:
        """Whether each user bought each item, (n_users, n_items) float32 of ones, column numbers ascending."""
        once = self.distinct()
        matrix = sp.csr_array(
            (np.ones(len(once.items), np.float32), once.items, once.indptr), (self.n_users, self.n_items)
        )
        matrix.sort_indices()
        return matrix


def concatenate(parts: Sequence[Interactions]) -> Interactions:
    """The users of several parts of one catalogue, one after the other. Raises ValueError for no part."""
    if not parts:
        raise ValueError("concatenate needs at least one part, got none")
    ends = np.cumsum([0, *(p.indptr[-1] for p in parts)])
    indptr = np.concatenate([[0], *(p.indptr[1:] + end for p, end in zip(parts, ends, strict=False))])
    inputs = [p.inputs for p in parts if p.inputs is not None]
    columns = {name: [getattr(p, name) for p in parts] for name in ("log_weights", "features")}
    arrays: dict[str, Any] = {name: np.concatenate(values) for name, values in columns.items() if values[0] is not None}
    return replace(
        parts[0],
        indptr=indptr.astype(np.int64),
        items=np.concatenate([p.items for p in parts]),
        ages=np.concatenate([p.ages for p in parts]),
        weights=np.concatenate([p.weights for p in parts]),
        inputs=concatenate(inputs) if inputs else None,
        **arrays,
    )


def history_weights(
    history: Interactions, buyers: np.ndarray, *, inverse_popularity: float, half_life_days: float | None
) -> np.ndarray:
    """The weight of each purchase in its user's pooled vector, (n,) float32.

    ``max(buyers, 1) ** -inverse_popularity``, times ``2 ** (-days / half_life_days)`` where a half-life is set, with
    the days from the purchase to the user's latest: a vector's direction is the same as with its age, and a user
    who last came hundreds of half-lives ago still has one. Inputs count by their own weights besides.
    buyers: (n_items,) distinct buyers of each item (the catalogue's ``users``).
    """
    weights = np.maximum(buyers, 1).astype(np.float32)[history.items] ** np.float32(-inverse_popularity)
    if half_life_days is not None:
        lengths = np.diff(history.indptr)
        latest = (
            np.minimum.reduceat(history.ages, history.indptr[:-1][lengths > 0]) if len(history.ages) else history.ages
        )
        days = history.ages - np.repeat(latest, lengths[lengths > 0])
        weights = weights * np.exp2(-days / np.float32(half_life_days))
    if history.weighted:
        weights = weights * history.weights
    return weights.astype(np.float32, copy=False)
