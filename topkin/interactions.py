"""Purchase histories as arrays: the form in which training, scoring, rules and baselines read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from topkin.linalg.csr import Csr, entries_of, indptr_of

DAY_US = 86_400_000_000


def encode_ids(ids: pa.Array | pa.ChunkedArray, vocabulary: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The row number of each id in a vocabulary, (n,) int32; -1 for an id that it lacks.

    Raises TypeError where the two have different types: an int 7 is not a string "7".
    """
    if ids.type != vocabulary.type:
        raise TypeError(f"ids must be of the vocabulary's type {vocabulary.type}, got {ids.type}")
    if isinstance(vocabulary, pa.ChunkedArray):
        vocabulary = vocabulary.combine_chunks()
    found = pc.fill_null(pc.index_in(ids, value_set=vocabulary), -1)
    return np.asarray(found).astype(np.int32, copy=False)


@dataclass(frozen=True)
class Interactions:
    """Purchases by user as compressed rows: user r's are at ``indptr[r]:indptr[r + 1]``, in time order.

    Attributes:
        indptr: (n_users + 1,) int64.
        items: (n,) int32 row numbers in the catalogue.
        ages: (n,) float32 days before the as-of date.
        weights: (n,) float32 quantities.
        n_items: Rows of the catalogue.

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
        cls, histories: pa.Table, item_ids: pa.Array | pa.ChunkedArray, as_of: datetime
    ) -> "Interactions":
        """From a table of ``schemas.histories`` and the catalogue's ids.

        Raises ValueError where a history names an item that the catalogue lacks.
        """
        lists = histories["items"].combine_chunks()
        if isinstance(lists, pa.ChunkedArray):  # no chunks at all
            lists = pa.array([], lists.type)
        indptr = indptr_of(np.asarray(pc.list_value_length(lists)))
        ids = pc.list_flatten(histories["items"])
        items = encode_ids(ids, item_ids)
        if (items < 0).any():
            missing = ids.filter(pa.array(items < 0)).unique().to_pylist()[:3]
            raise ValueError(f"every bought item must be in the catalogue, it lacks {missing}")
        times = np.asarray(pc.list_flatten(histories["times"])).astype("datetime64[us]").astype(np.int64)
        now = int(np.datetime64(as_of, "us").astype(np.int64))
        ages = ((now - times) / DAY_US).astype(np.float32)
        weights = np.asarray(pc.list_flatten(histories["weights"])).astype(np.float32, copy=False)
        return cls(indptr, items, ages, weights, len(item_ids))

    def take(self, rows: np.ndarray) -> "Interactions":
        """The purchases of some users, in the order of ``rows``, (m,) int."""
        indptr, at = entries_of(self.indptr, rows)
        return Interactions(indptr, self.items[at], self.ages[at], self.weights[at], self.n_items)

    def distinct(self) -> "Interactions":
        """Each user's distinct items, each at its latest purchase with its summed weight, in time order."""
        users = self.users
        order = np.argsort(users.astype(np.int64) * self.n_items + self.items, kind="stable")
        u, i = users[order], self.items[order]
        last = np.ones(len(order), bool)
        last[:-1] = (u[1:] != u[:-1]) | (i[1:] != i[:-1])
        ends = np.flatnonzero(last)
        sums = np.add.reduceat(self.weights[order], np.r_[0, ends[:-1] + 1]) if len(order) else self.weights
        at, back = order[ends], np.argsort(order[ends], kind="stable")
        indptr = indptr_of(np.bincount(users[at], minlength=self.n_users))
        at = at[back]
        return Interactions(indptr, self.items[at], self.ages[at], sums[back].astype(np.float32), self.n_items)

    def latest(self, length: int) -> "Interactions":
        """At most the ``length`` latest purchases of each user."""
        kept = np.minimum(np.diff(self.indptr), length)
        position = np.arange(len(self.items)) - np.repeat(self.indptr[:-1], np.diff(self.indptr))
        keep = position >= np.repeat(np.diff(self.indptr) - kept, np.diff(self.indptr))
        return Interactions(indptr_of(kept), self.items[keep], self.ages[keep], self.weights[keep], self.n_items)

    def positions(self) -> np.ndarray:
        """At how many later moments each purchase's user bought, (n,) int64: 0 for a user's whole last basket."""
        new = np.ones(len(self.items), bool)
        new[1:] = self.ages[1:] != self.ages[:-1]
        new[self.indptr[:-1][np.diff(self.indptr) > 0]] = True
        moment = np.concatenate([[0], np.cumsum(new)])  # of the purchase before each
        return np.asarray(np.repeat(moment[self.indptr[1:]], np.diff(self.indptr)) - moment[1:])

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
    return Interactions(
        indptr.astype(np.int64),
        np.concatenate([p.items for p in parts]),
        np.concatenate([p.ages for p in parts]),
        np.concatenate([p.weights for p in parts]),
        parts[0].n_items,
    )


def history_weights(
    history: Interactions, buyers: np.ndarray, *, inverse_popularity: float, half_life_days: float | None
) -> np.ndarray:
    """The weight of each purchase in its user's pooled vector, (n,) float32.

    ``max(buyers, 1) ** -inverse_popularity``, times ``2 ** (-days / half_life_days)`` where a half-life is set, with
    the days from the purchase to the user's latest: a vector's direction is the same as with its age, and a user
    who last came hundreds of half-lives ago still has one.
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
    return weights.astype(np.float32, copy=False)
