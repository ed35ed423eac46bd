"""Training batches of histories in order: what was bought at one time is asked for from what was bought before."""

from collections.abc import Iterator

import numpy as np

from topkin.encoding.recurrent import days_between
from topkin.interactions import Interactions
from topkin.models.training.batches import Recipe, example_weights, shared_negatives


def forerunners(known: Interactions) -> np.ndarray:
    """The last purchase before the time of each, (n,) int64 ascending; of a user's first time one of another user's.

    What was bought at one time has no order: it is not asked for from itself.
    """
    later = np.ones(len(known.ages), bool)
    later[1:] = known.ages[1:] != known.ages[:-1]
    later[known.indptr[:-1][np.diff(known.indptr) > 0]] = True
    return np.maximum.accumulate(np.where(later, np.arange(len(later)), 0)) - 1


def stretches(known: Interactions, before: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Histories in stretches of at most ``length`` purchases that are read, the latest full: first and count.

    Each (n_stretches,) int64; a history's last time is not read, for nothing came after it. before: of
    :func:`forerunners`.
    """
    some = np.flatnonzero(np.diff(known.indptr))
    starts, ends = known.indptr[some], before[known.indptr[some + 1] - 1] + 1
    numbers = -(-(ends - starts) // length)
    user = np.repeat(np.arange(len(some)), numbers)
    back = np.arange(len(user)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    end = ends[user] - back * length
    first = np.maximum(end - length, starts[user])
    return first, end - first


def sequence_batches(
    history: Interactions,
    recipe: Recipe,
    length: int,
    rng: np.random.Generator,
    negatives: np.ndarray | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """One epoch: each distinct purchase is asked for once, but those of a user's first time.

    A question is asked after the last purchase of a time, for all of the next time, from at most ``length``
    purchases. Batches ask for ``recipe.batch_size`` purchases, or more so that no stretch is cut; stretches of one
    batch are about equally long. negatives: as for :func:`topkin.models.training.batches.batches`, whose arrays
    candidates, target, question, weights, bought and pooled a batch has too. Besides

    steps: (b, w) int32, for each stretch the places in pooled, from 1, of what it is read from; 0 is padding.
    gaps: (b, w) float32, see ``gru.days_between``. at: (q,) int32, the step in steps, flat, after which each
    question is asked.
    """
    known = history.distinct()
    before = forerunners(known)
    first, count = stretches(known, before, length)
    low, high = np.searchsorted(before, first), np.searchsorted(before, first + count)
    some = np.flatnonzero(low < high)
    first, count, low, wanted = first[some], count[some], low[some], (high - low)[some]
    if not len(some):
        return
    weights = example_weights(known, recipe)
    row, step = _runs(wanted)
    weights /= max(float(weights[low[row] + step].mean()), 1e-30)
    order = rng.permutation(len(some))
    order = order[np.argsort(count[order], kind="stable")]
    parts = np.split(order, 1 + np.flatnonzero(np.diff((np.cumsum(wanted[order]) - 1) // recipe.batch_size)))
    column, place = np.full(known.n_items, -1, np.int32), np.zeros(known.n_items, np.int32)
    for number in rng.permutation(len(parts)):
        part = parts[number]
        row, step = _runs(count[part])
        read = first[part][row] + step
        pooled = np.unique(known.items[read])
        place[pooled] = np.arange(1, len(pooled) + 1, dtype=np.int32)
        steps = np.zeros((len(part), int(count[part].max())), np.int32)
        gaps = np.zeros(steps.shape, np.float32)
        steps[row, step] = place[known.items[read]]
        gaps[row, step] = days_between(known.ages[read], np.concatenate([[0], np.cumsum(count[part])]))

        row, step = _runs(wanted[part])
        asked = low[part][row] + step
        after, opens = np.unique(before[asked] + len(before) * row, return_index=True)
        row, question = row[opens], np.searchsorted(after, before[asked] + len(before) * row)
        found = np.unique(np.concatenate([known.items[asked], shared_negatives(negatives, recipe, rng)]))
        column[found] = np.arange(len(found), dtype=np.int32)
        asker, other = _runs(count[part][row] + wanted[part][row])
        own, behind = row[asker], other - count[part][row][asker]
        columns = column[known.items[np.where(behind < 0, first[part][own] + other, low[part][own] + behind)]]
        yield {
            "candidates": found,
            "target": column[known.items[asked]],
            "question": question.astype(np.int32),
            "weights": weights[asked],
            "bought": np.column_stack([asker, columns])[columns >= 0].astype(np.int32),
            "pooled": pooled,
            "steps": steps,
            "gaps": gaps,
            "at": (row * steps.shape[1] + before[asked[opens]] - first[part][row]).astype(np.int32),
        }
        column[found] = -1


def _runs(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of the run and the place in it of each member of runs of some lengths, each (sum,) int64."""
    run = np.repeat(np.arange(len(counts)), counts)
    return run, np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts, counts)
