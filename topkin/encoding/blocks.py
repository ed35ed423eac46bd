"""Vectors in blocks of coordinates: how histories are pooled, and how blocks weigh against each other.

Each block gives every item an in-vector, which histories pool, and an out-vector, which is scored and may have
a length: popularity, recency and any prior live there. With ``w_h`` the weight of purchase h in its user's
history (``interactions.history_weights`` with the block's own inverse_popularity and half-life)::

    p_b = sum_h w_h in_b[h]                      pooled history
    s_b = sqrt(sum_k spread_b[k] p_b[k]^2)       deviation of the block's scores over the items
    user = unit(concat_b(weight_b p_b / s_b))    score of item j ~ sum_b weight_b * (z-score of block b)
    item = concat_b(out_b), made equally long by one last coordinate, divided by that length

so that blocks are weighed by what they say of the order of items, whatever their scale. The last coordinate is
the exact reduction of inner product to cosine (Bachrach et al., Speeding up the Xbox recommender system, RecSys
2014): vectors are unit vectors, scores cosines, and a user's order of items is that of the inner products. A
pooled history is a sum, so each purchase's share of a score is known exactly.

Where a block's in-vectors are all zero the user's part of it is their profile, what their features say
(``models.data.profiles``), times ``k / (k + n)`` with n distinct purchases and k its ``prior_purchases``: the
credibility of a prior beside n observations (Bühlmann, Experience rating and credibility, ASTIN Bulletin 1967).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import scipy.sparse as sp

from topkin.interactions import Interactions, history_weights
from topkin.linalg.cosine import unit_rows

SVD, NEXT_ITEM, TRAINED, FEATURES, RECENCY = "svd", "next_item", "trained", "features", "recency"
PROFILE = "profile"
GIVEN = "given"
"""The one block of vectors of users and items that were made elsewhere: their cosine is the score."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A run of coordinates.

    name: ``svd``, ``next_item``, ``trained``, ``features``, ``profile``, or ``recency``, which tells what sells now and
    makes no two items alike; or ``given`` alone.
    dim: how many coordinates. weight: of its z-scores beside the other blocks'. inverse_popularity, half_life_days:
    how a history is weighed. recency_lift: the power of an item's recent share of sales in its out-vector's length.
    spread: (dim,) variances of the out-coordinates over the items sold, whose covariances are zero (see
    :func:`rotation`). level: (dim,) the direction, of length 1, in which all users are alike, which tells how well
    items sell and not who likes them; empty where there is none. prior_purchases: of a profile, the purchases beside
    which it counts half; None where it counts the same beside any. gate: the power of what features of purchases
    multiply their weights in the history by, see ``Interactions.log_weights``; 0 for nothing.
    """

    name: str
    dim: int
    weight: float
    inverse_popularity: float
    half_life_days: float | None
    recency_lift: float = 0.0
    spread: tuple[float, ...]
    level: tuple[float, ...] = ()
    prior_purchases: float | None = None
    gate: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {**asdict(self), "spread": list(self.spread), "level": list(self.level)}

    @property
    def personal(self) -> bool:
        """Whether it differs between users: all blocks do but the one of recent popularity."""
        return self.name != RECENCY

    @classmethod
    def unscaled(cls, name: str, dim: int, inverse_popularity: float, half_life_days: float | None) -> Self:
        """A block by itself: of weight 1, its coordinates counting alike."""
        return cls(
            name=name,
            dim=dim,
            weight=1.0,
            inverse_popularity=inverse_popularity,
            half_life_days=half_life_days,
            spread=(1.0,) * dim,
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """From :meth:`to_json`."""
        return cls(**{**value, "spread": tuple(value["spread"]), "level": tuple(value.get("level", ()))})


def spans(blocks: Sequence[Block]) -> list[slice]:
    """Where each block's coordinates are in a vector."""
    ends = np.cumsum([0, *(b.dim for b in blocks)])
    return [slice(int(a), int(b)) for a, b in pairwise(ends)]


def dim_of(blocks: Sequence[Block]) -> int:
    """Coordinates of a vector: the blocks' and the one that makes items equally long, which given vectors are."""
    return sum(b.dim for b in blocks) + (not are_given(blocks))


def are_given(blocks: Sequence[Block]) -> bool:
    """Whether these are the blocks of vectors that were made elsewhere."""
    return [b.name for b in blocks] == [GIVEN]


def rotation(out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rotation, (d, d) float64, after which out-vectors have no covariances, and their variances, (d,).

    out: (n, d) out-vectors of the items sold. Rotating in- and out-vectors alike changes no score. Signs are
    fixed by the largest entry of each column.
    """
    centred = out.astype(np.float64) - out.mean(axis=0, dtype=np.float64)
    values, turned = np.linalg.eigh(centred.T @ centred / max(len(out), 1))
    values, turned = values[::-1], turned[:, ::-1]
    at = np.abs(turned).argmax(axis=0)
    turned = turned * np.sign(turned[at, np.arange(turned.shape[1])])
    return turned, np.maximum(values, 0.0)


def factors(history: Interactions, in_vectors: np.ndarray, buyers: np.ndarray, blocks: Sequence[Block]) -> np.ndarray:
    """What each purchase's in-vector is multiplied by, block by block, (n_purchases, n_blocks) float32.

    The sum of ``factors[h, b] * in_vectors[h, span_b]`` over a user's purchases is the user's vector but for its
    length. history: distinct items. in_vectors: (n_items, dim) float32. buyers: (n_items,) distinct buyers.
    """
    return _pooled(history, in_vectors, buyers, blocks)[0]


def user_vectors(
    history: Interactions,
    in_vectors: np.ndarray,
    buyers: np.ndarray,
    blocks: Sequence[Block],
    *,
    length: int | None = None,
    profiles: np.ndarray | None = None,
) -> np.ndarray:
    """The user vectors, (n_users, dim) float32 unit rows; zero for a user without a usable history or profile.

    Each user's ``length`` latest distinct items are pooled. A row depends on that user alone, so any batching
    gives the same numbers. in_vectors: (n_items, dim) float32. buyers: (n_items,) distinct buyers of each item.
    profiles: (n_users, d) float32 of the block of profiles, zero for a user whose features are unknown.
    """
    kept = history.pooled.distinct()
    if length is not None:
        kept = kept.latest(length)
    users = _pooled(kept, in_vectors, buyers, blocks)[1]
    if profiles is not None:
        _put_profiles(users, profiles, np.diff(kept.indptr), np.diff(history.distinct().indptr), blocks)
    return unit_rows(users)


def credibility(prior_purchases: float | None, purchases: np.ndarray) -> np.ndarray:
    """What a profile counts beside so many distinct purchases, (n,) float32 from 0 to 1."""
    if prior_purchases is None:
        return np.ones(len(purchases), np.float32)
    return (prior_purchases / (prior_purchases + purchases)).astype(np.float32)


def _put_profiles(
    users: np.ndarray, profiles: np.ndarray, pooled: np.ndarray, purchases: np.ndarray, blocks: Sequence[Block]
) -> None:
    """Fill in the coordinates of profiles, and what is alike for all users where nothing that is pooled says it.

    pooled, purchases: (n,) each user's items that vectors are made of, and those bought.
    """
    known = profiles.any(axis=1)
    for block, span in zip(blocks, spans(blocks), strict=True):
        if block.name == PROFILE:
            part, _ = _scaled(profiles, block)
            users[:, span] = part * credibility(block.prior_purchases, purchases)[:, None]
        elif not block.personal:
            alone = known & (pooled == 0)
            users[alone, span], _ = _scaled(np.ones((int(alone.sum()), 1), np.float32), block)


def by_purchases(vectors: np.ndarray, blocks: Sequence[Block]) -> np.ndarray:
    """How long user vectors, (n, dim), are but for their profiles, (n,) float32: 1 without one."""
    profiles = [vectors[:, span] for block, span in zip(blocks, spans(blocks), strict=True) if block.name == PROFILE]
    square = np.sum([np.square(part, dtype=np.float64).sum(axis=1) for part in profiles], axis=0)
    return np.sqrt(np.maximum(1 - square, 0)).astype(np.float32) if profiles else np.ones(len(vectors), np.float32)


def _pooled(
    kept: Interactions,
    in_vectors: np.ndarray,
    buyers: np.ndarray,
    blocks: Sequence[Block],
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`factors`, and the users' vectors before their lengths are taken."""
    shape = kept.n_users, kept.n_items
    shares = np.zeros((len(kept.items), len(blocks)), np.float32)
    users = np.zeros((kept.n_users, in_vectors.shape[1]), np.float32)
    weighed: dict[tuple[float, float | None, float], np.ndarray] = {}
    for number, (block, span) in enumerate(zip(blocks, spans(blocks), strict=True)):
        how = block.inverse_popularity, block.half_life_days, block.gate if kept.log_weights is not None else 0.0
        if how not in weighed:
            weighed[how] = history_weights(kept, buyers, inverse_popularity=how[0], half_life_days=how[1])
            if how[2] and kept.log_weights is not None:
                weighed[how] = weighed[how] * np.exp(np.float32(how[2]) * kept.log_weights)
        matrix = sp.csr_matrix((weighed[how], kept.items, kept.indptr), shape)
        users[:, span], scale = _scaled(matrix @ np.ascontiguousarray(in_vectors[:, span], np.float32), block)
        shares[:, number] = weighed[how] * np.repeat(scale, np.diff(kept.indptr))
    return shares, users


def _scaled(part: np.ndarray, block: Block) -> tuple[np.ndarray, np.ndarray]:
    """The block's part of user vectors so that it weighs z-scores, (n_users, d) float32, and what it was times."""
    # Not a BLAS product: a row's sum must not depend on the row's place in the batch.
    square = np.einsum("nd,nd,d->n", part, part, np.asarray(block.spread), dtype=np.float64)
    deviation = np.sqrt(square)
    scale = np.divide(block.weight, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    return part * scale[:, None], scale


def equally_long(out: np.ndarray, reach: float) -> np.ndarray:
    """Out-vectors, (n, d), with the last coordinate that makes each as long as ``reach``, divided by it.

    (n, d + 1) float32 unit rows. Zero rows, of which nothing is known, stay zero; a row longer than ``reach``
    is shortened to it.
    """
    out = out.astype(np.float64)
    lengths = np.linalg.norm(out, axis=1)
    nonzero = lengths > 0
    shorter = np.divide(reach, lengths, out=np.ones_like(lengths), where=lengths > reach)
    out, lengths = out * shorter[:, None], lengths * shorter
    rest = np.sqrt(np.maximum(reach**2 - lengths**2, 0.0)) * nonzero
    return (np.column_stack([out, rest]) / reach).astype(np.float32)


def preference_embeddings(vectors: np.ndarray, blocks: Sequence[Block]) -> np.ndarray:
    """What vectors of items or users tell of preferences, (n, sum of dims) float32 unit rows: without any prior.

    Each block counts by its direction and weight alone: neither popularity nor recency makes two items alike.
    """
    parts = [
        unit_rows(_without_level(vectors[:, span], block)) * np.float32(np.sqrt(block.weight))
        for block, span in zip(blocks, spans(blocks), strict=True)
        if block.personal
    ]
    return unit_rows(np.concatenate(parts, axis=1)) if parts else np.zeros((len(vectors), 0), np.float32)


def preferences_of(vectors: Any, blocks: Sequence[Block], numbers: np.ndarray) -> np.ndarray:
    """:func:`preference_embeddings` of some items, not of all. vectors: of all, or what looks up ascending numbers."""
    return preference_embeddings(vectors[numbers], blocks)


def _without_level(part: np.ndarray, block: Block) -> np.ndarray:
    """A block's part of vectors but for what is alike for all users, (n, d) float32."""
    if not block.level:
        return part
    level = np.asarray(block.level, np.float64)
    # Not a BLAS product: a row's sum must not depend on the row's place in the batch.
    along = np.einsum("nd,d->n", part, level, dtype=np.float64)
    return (part - along[:, None] * level).astype(np.float32)
