"""Why an item is listed: the bought items that carry most of its score.

A user's vector is ``sum_h f_h in_h / norm`` over the pooled history, with a factor for each block of coordinates
(``blocks.factors``), so the score of item j splits into shares ``<f_h in_h, out_j> / norm``, one a bought item,
that add up to it exactly. Nothing is estimated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from topkin.encoding.blocks import Block, factors, spans
from topkin.interactions import Interactions
from topkin.linalg.blas import one_blas_thread
from topkin.linalg.csr import entries_of

_BUDGET_BYTES = 8 << 20  # what stays in cache
_NEVER = -1e30


class VectorRows(Protocol):
    """Vectors by item number: an array, or what looks rows up, as ``embeddings.StoredItems.column`` gives."""

    def __getitem__(self, numbers: np.ndarray, /) -> np.ndarray:
        """The rows of ascending item numbers, (n, dim) float32."""


@dataclass(frozen=True, kw_only=True)
class ExplainableScores:
    """How the model's users were pooled from their histories, which is what explains their lists.

    vectors, in_vectors: (n_items, dim) float32. buyers: (n_items,) distinct buyers. blocks, history_length: as the
    users' vectors were made.
    """

    vectors: VectorRows
    in_vectors: VectorRows
    buyers: np.ndarray
    blocks: Sequence[Block]
    history_length: int

    def explain(self, history: Interactions, ids: np.ndarray, most: int) -> np.ndarray:
        """The ``most`` bought items of largest share in each listed item's score, (n, k, most) int32 padded -1.

        history: the users' purchases. ids: (n, k) int32 padded -1.
        """
        return self.shares(history, ids, most)[0]

    def shares(self, history: Interactions, ids: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        """The items of :meth:`explain`, and their shares, (n, k, most) float32 padded 0."""
        pooled = history.pooled.distinct().latest(self.history_length)
        numbers, bought, listed = _among_named(pooled.items, ids, history.n_items)
        pooled, in_vectors = replace(pooled, items=bought, n_items=len(numbers)), self.in_vectors[numbers]
        weights = factors(pooled, in_vectors, self.buyers[numbers], self.blocks)
        places, shares = explain(pooled, weights, self.blocks, in_vectors, self.vectors[numbers], listed, most)
        return np.where(places < 0, np.int32(-1), numbers[places]), shares

    def shares_of(self, history: Interactions, ids: np.ndarray, named: np.ndarray) -> np.ndarray:
        """The share of each named item in each listed item's score, (n, k, most) float32, also one below zero.

        NaN where none is named, or one that the user's vector does not hold. ids: (n, k), named: (n, k, most) int32
        padded -1.
        """
        pooled, n_items = history.pooled.distinct().latest(self.history_length), np.int64(history.n_items)
        user, place, at = np.nonzero((named >= 0) & (ids >= 0)[:, :, None])
        keys = pooled.users * n_items + pooled.items
        order = np.argsort(keys)
        wanted = user * n_items + named[user, place, at]
        slot = np.searchsorted(keys, wanted, sorter=order)
        entry = order[np.minimum(slot, len(order) - 1)] if len(order) else slot
        held = keys[entry] == wanted if len(order) else np.zeros(len(wanted), bool)
        user, place, at, entry = user[held], place[held], at[held], entry[held]
        shares = np.full(named.shape, np.nan, np.float32)
        items, (bought, listed) = _among(pooled.items, ids[user, place], n_items=history.n_items)
        in_vectors, vectors = self.in_vectors[items], self.vectors[items]
        of = replace(pooled, items=bought, n_items=len(items))
        weights = factors(of, in_vectors, self.buyers[items], self.blocks).astype(np.float64)
        size = max(1, _BUDGET_BYTES // (16 * in_vectors.shape[1]))
        norms = np.zeros(history.n_users)
        starts = np.flatnonzero(np.diff(pooled.indptr))
        for users in np.array_split(starts, -(-len(pooled.items) // size)) if len(starts) else []:
            _, rows = entries_of(pooled.indptr, users)
            carried = _weighted(in_vectors[bought[rows]], weights[rows], self.blocks)
            ends = np.cumsum(np.diff(pooled.indptr)[users])
            norms[users] = np.linalg.norm(np.add.reduceat(carried, np.concatenate([[0], ends[:-1]])), axis=1)
        for start in range(0, len(entry), size):
            some = slice(start, start + size)
            carried = _weighted(in_vectors[bought[entry[some]]], weights[entry[some]], self.blocks)
            products = np.vecdot(carried, vectors[listed[some]].astype(np.float64))
            shares[user[some], place[some], at[some]] = products / np.where(norms > 0, norms, 1)[user[some]]
        return shares


def _weighted(in_vectors: np.ndarray, weights: np.ndarray, blocks: Sequence[Block]) -> np.ndarray:
    """In-vectors, (n, dim), times the factors of their blocks, (n, n_blocks), in float64."""
    weighted = np.zeros(in_vectors.shape)
    for block, span in enumerate(spans(blocks)):
        np.multiply(in_vectors[:, span], weights[:, block, None], out=weighted[:, span])
    return weighted


def _among(*numbers: np.ndarray, n_items: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The distinct items of some arrays, ascending, and the arrays as places among them."""
    named = np.zeros(n_items, bool)
    for some in numbers:
        named[some] = True
    items = np.flatnonzero(named).astype(np.int32)
    return items, [np.searchsorted(items, some) for some in numbers]


def _among_named(bought: np.ndarray, lists: np.ndarray, n_items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The items bought or listed, ascending, whose vectors are looked up, and both arrays as places among them."""
    place = np.zeros(n_items + 1, np.int32)  # the last one is the padding's
    place[bought] = place[lists] = 1
    place[-1] = 0
    numbers = np.flatnonzero(place).astype(np.int32)
    place[numbers] = np.arange(len(numbers))
    place[-1] = -1
    return numbers, place[bought], place[lists]


def explain(
    history: Interactions,
    factors: np.ndarray,
    blocks: Sequence[Block],
    in_vectors: np.ndarray,
    vectors: np.ndarray,
    lists: np.ndarray,
    most: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The bought items of largest share in each listed item's score, largest first, ties by item number.

    history: the distinct items that the user's vector pools; factors: theirs, (n, n_blocks) float32, see
    ``blocks.factors``. in_vectors, vectors: (n_items, dim) float32. lists: (n_users, k) int32 padded -1.
    Returns items (n_users, k, most) int32 padded -1 and shares float32 padded 0: only shares above zero are
    reasons.
    """
    n, k = lists.shape
    items = np.full((n, k, most), -1, np.int32)
    shares = np.zeros((n, k, most), np.float32)
    lengths = np.diff(history.indptr)
    users = np.flatnonzero((lengths > 0) & (lists >= 0).any(axis=1))
    users = users[np.argsort(lengths[users], kind="stable")]  # alike long histories, little padding
    row_bytes = 8 * (in_vectors.shape[1] + 2 * k)
    while len(users) and most:
        longest = np.maximum.accumulate(lengths[users])
        fits = np.arange(1, len(users) + 1) * (longest * row_bytes + 8 * k * in_vectors.shape[1]) <= _BUDGET_BYTES
        size = max(1, int(fits.sum()))
        block, users = users[:size], users[size:]
        _, entries = entries_of(history.indptr, block)
        with one_blas_thread():  # the products are small: threads would cost more than they save
            items[block], shares[block] = _block(
                history.take(block), factors[entries], blocks, in_vectors, vectors, lists[block], most
            )
    return items, shares


def _block(
    history: Interactions,
    factors: np.ndarray,
    blocks: Sequence[Block],
    in_vectors: np.ndarray,
    vectors: np.ndarray,
    lists: np.ndarray,
    most: int,
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`explain` of users with histories of about one length, padded to the longest."""
    n, k = lists.shape
    users = history.users
    # Ascending items: the first of equal shares has the lowest number.
    order = np.argsort(users.astype(np.int64) * history.n_items + history.items)
    width, dim = int(np.diff(history.indptr).max()), in_vectors.shape[1]
    place = np.arange(len(users)) + np.repeat(np.arange(n) * width - history.indptr[:-1], np.diff(history.indptr))
    bought = np.full((n, width), -1, np.int32)
    bought.ravel()[place] = history.items[order]
    weighted = _weighted(in_vectors.take(history.items[order], 0), factors[order].astype(np.float64), blocks)
    if len(place) < n * width:
        padded = np.zeros((n * width, dim))
        padded[place] = weighted
        weighted = padded
    carried = weighted.reshape(n, width, dim)
    norms = np.linalg.norm(carried.sum(axis=1), axis=1)
    listed = vectors.take(np.maximum(lists, 0), 0).astype(np.float64)
    # In float64 and then rounded, so that equal shares are equal numbers.
    products = np.matmul(listed, carried.swapaxes(1, 2))
    products /= np.where(norms > 0, norms, 1)[:, None, None]
    left = products.astype(np.float32)
    np.copyto(left, np.float32(_NEVER), where=(bought < 0)[:, None, :])  # padding is no reason
    items = np.full((n, k, most), -1, np.int32)
    shares = np.zeros((n, k, most), np.float32)
    rows = np.arange(n)[:, None]
    for number in range(min(most, width)):
        best = left.argmax(axis=2)
        share = np.take_along_axis(left, best[:, :, None], axis=2)[:, :, 0]
        good = (share > 0) & (lists >= 0)
        items[:, :, number] = np.where(good, bought[rows, best], -1)
        shares[:, :, number] = np.where(good, share, 0)
        np.put_along_axis(left, best[:, :, None], np.float32(_NEVER), axis=2)
    return items, shares
