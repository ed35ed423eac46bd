"""Training batches: purchases asked for from other purchases of the same user, arrays ready for one step."""

from collections.abc import Iterator

import numpy as np

from topkin.config.sections import TrainSettings
from topkin.interactions import Interactions, history_weights


def example_weights(history: Interactions, train: TrainSettings) -> np.ndarray:
    """The weight of each purchase as a training example, (n,) float32.

    A user's count to the power of ``-user_power``, so that the largest histories do not rule; recent
    purchases weigh more where ``example_half_life_days`` is set.
    """
    lengths = np.repeat(np.diff(history.indptr), np.diff(history.indptr))
    weights = np.maximum(lengths, 1).astype(np.float64) ** -train.advanced.user_power
    if train.advanced.example_half_life_days is not None:
        weights *= np.exp2(-history.ages / train.advanced.example_half_life_days)
    return weights.astype(np.float32)


def draw_folds(distinct: Interactions, train: TrainSettings, rng: np.random.Generator) -> np.ndarray:
    """The fold of each purchase in its user's, (n,) int32; a user has at most ``folds`` or one more.

    At random and of equal size up to one. Where histories weigh by age, a fold is a stretch of time with
    random ends instead: what was bought then is asked for from what was bought before and after.
    """
    lengths = np.diff(distinct.indptr)
    starts, user = distinct.indptr[:-1], distinct.users
    folds = np.minimum(train.advanced.folds, lengths)[user]
    place = np.arange(len(user)) - starts[user]
    if train.half_life_days is not None:
        return np.floor(place * folds / lengths[user] + rng.random(distinct.n_users)[user]).astype(np.int32)
    order = np.lexsort((rng.random(len(user)), user))
    shuffled = np.empty(len(user), np.int64)
    shuffled[order] = place
    return ((shuffled + rng.integers(0, train.advanced.folds, distinct.n_users)[user]) % folds).astype(np.int32)


def batches(
    history: Interactions,
    buyers: np.ndarray,
    train: TrainSettings,
    rng: np.random.Generator,
    *,
    batch_size: int,
    cumulative: np.ndarray,
    negatives: int,
) -> Iterator[dict[str, np.ndarray]]:
    """One epoch: every distinct purchase of a user with at least two is asked for once.

    The purchases of a fold are asked for together from the user's other purchases, so that a step pools a
    history once for many targets. Where there are inputs they are what is pooled, without those of the items asked
    for: to have viewed an item must not tell that it was bought. Batches are of equal size up to one, ``batch_size``
    at most.
    cumulative: (n_items,) cumulative chances of the items to be drawn as shared negatives, ending in 1.
    negatives: how many are drawn for a step.

    Arrays of a batch (q questions, t targets, c candidates, m pooled items, p purchases in histories):

    candidates: (c,) int32, the distinct items among targets and shared negatives. target: (t,) int32 columns
    of candidates. question: (t,) int32 rows, in order. weights: (t,) float32 of the examples, their mean in
    the epoch 1. bought: (n, 2) int32, question and column of every candidate that the user bought.
    pooled: (m,) int32, the distinct items of the histories. history: (p, 2) int32, question and place in
    pooled, in the order of questions. history_weights: (p,) float32. Every question has a history. Where purchases have
    features, purchase_rows and purchase_shares: (p, w), those of each purchase in the histories.
    """
    distinct = history.distinct()
    user, lengths = distinct.users, np.diff(distinct.indptr)
    fold = draw_folds(distinct, train, rng)
    slots = np.minimum(train.advanced.folds, lengths) + 1
    key = (np.cumsum(slots) - slots)[user] + fold
    sizes = np.bincount(key, minlength=int(slots.sum()))
    weights = example_weights(distinct, train)
    others, other_fold = distinct, fold
    known, inside_key = lengths, sizes
    if history.inputs is not None:
        others = history.inputs.distinct()
        other_fold = _folds_of(others, distinct, fold)
        own = np.flatnonzero(other_fold >= 0)
        own_key = (np.cumsum(slots) - slots)[others.users[own]] + other_fold[own]
        known, inside_key = np.diff(others.indptr), np.bincount(own_key, minlength=len(sizes))
    examples = np.flatnonzero(inside_key[key] < known[user])
    if len(examples) == 0:
        return
    weights /= max(float(weights[examples].mean()), 1e-30)
    pool_weights = history_weights(
        others, buyers, inverse_popularity=train.advanced.inverse_popularity, half_life_days=None
    )
    luck = rng.random(len(sizes))
    examples = examples[np.lexsort((examples, luck[key[examples]]))]
    column, place = np.full(distinct.n_items, -1, np.int32), np.zeros(distinct.n_items, np.int32)
    for at in np.array_split(examples, -(-len(examples) // batch_size)):
        first = np.r_[True, key[at][1:] != key[at][:-1]]
        question = np.cumsum(first, dtype=np.int32) - 1
        users = user[at[first]]
        row, entry = _entries(distinct, users)
        candidates = np.unique(np.concatenate([distinct.items[at], shared_negatives(cumulative, negatives, rng)]))
        column[candidates] = np.arange(len(candidates), dtype=np.int32)
        columns = column[distinct.items[entry]]
        among, other = (row, entry) if others is distinct else _entries(others, users)
        inside = other_fold[other] != fold[at[first]][among]
        kept = _shortened(among[inside], train.advanced.history_length, rng)
        entry_in, row_in = other[inside][kept], among[inside][kept]
        weight = pool_weights[entry_in]
        if train.half_life_days is not None:
            gap = _gaps(distinct.ages[at], first, others.ages[entry_in], row_in)
            weight = weight * np.exp2(-gap / np.float32(train.half_life_days))
        pooled = np.unique(others.items[entry_in])
        place[pooled] = np.arange(len(pooled), dtype=np.int32)
        yield {
            "candidates": candidates,
            "target": column[distinct.items[at]],
            "question": question,
            "weights": weights[at],
            "bought": np.column_stack([row[columns >= 0], columns[columns >= 0]]).astype(np.int32),
            "pooled": pooled,
            "history": np.column_stack([row_in, place[others.items[entry_in]]]).astype(np.int32),
            "history_weights": weight.astype(np.float32),
            **({} if others.features is None else _purchase_features(others.features[entry_in])),
        }
        column[candidates] = -1


def _purchase_features(features: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of purchases' features and their shares, (p, w)."""
    return {"purchase_rows": features["row"], "purchase_shares": features["share"]}


def _folds_of(others: Interactions, distinct: Interactions, fold: np.ndarray) -> np.ndarray:
    """The fold of the user's purchase of each input's item, (n,) int32; -1 where there is none."""
    keys, bought = (x.users.astype(np.int64) * x.n_items + x.items for x in (others, distinct))
    order = np.argsort(bought)
    at = np.minimum(np.searchsorted(bought, keys, sorter=order), max(len(bought) - 1, 0))
    if not len(bought):
        return np.full(len(keys), -1, np.int32)
    return np.where(bought[order[at]] == keys, fold[order[at]], -1).astype(np.int32)


def sampling_probabilities(targets: np.ndarray) -> np.ndarray:
    """The chance of each item to be drawn as a shared negative, equal for all, (n,) float64, summing to 1.

    targets: (n,) how many examples ask for the item. Items that nobody asks for are never drawn: they would only be
    pushed away.
    """
    wanted = targets > 0
    return np.asarray(wanted / max(wanted.sum(), 1))


def shared_negatives(cumulative: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """A step's draws by cumulative chances, (draws,) int32."""
    candidates = np.searchsorted(cumulative, rng.random(draws), side="right")
    return np.minimum(candidates, len(cumulative) - 1).astype(np.int32)


def _entries(distinct: Interactions, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All purchases of some users: the row in ``users`` and the number of each."""
    lengths = np.diff(distinct.indptr)[users]
    row = np.repeat(np.arange(len(users), dtype=np.int32), lengths)
    starts = np.repeat(distinct.indptr[users] - (np.cumsum(lengths) - lengths), lengths)
    return row, starts + np.arange(len(row))


def _shortened(row: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Which purchases stay in their histories, (p,) bool: ``most`` of each, at random; row: ascending."""
    counts = np.bincount(row)
    if (counts <= most).all():
        return np.ones(len(row), bool)
    rank = np.empty(len(row), np.int64)
    rank[np.lexsort((rng.random(len(row)), row))] = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(rank < most)


def _gaps(examples: np.ndarray, first: np.ndarray, ages: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Days between each purchase of a history and the stretch of time that its question asks for."""
    starts = np.flatnonzero(first)
    newest, oldest = np.minimum.reduceat(examples, starts), np.maximum.reduceat(examples, starts)
    return np.asarray(np.maximum(np.maximum(newest[row] - ages, ages - oldest[row]), 0))
