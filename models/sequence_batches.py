"""Training batches of histories in order: each purchase is asked for from those before it."""

from collections.abc import Iterator

import numpy as np

from topkin.gru import days_between
from topkin.interactions import Interactions
from topkin.models.batches import Recipe, example_weights, shared_negatives


def stretches(indptr: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Histories in stretches of at most ``length`` questions, the latest full: first and count of what is asked for.

    Each (n_stretches,) int64. Every purchase but a history's first is in one stretch; what it is asked from are the
    purchases of the same stretch before it, and the one before the stretch.
    """
    asked = np.maximum(np.diff(indptr) - 1, 0)
    numbers = -(-asked // length)
    user = np.repeat(np.arange(len(asked)), numbers)
    back = np.arange(len(user)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    end = indptr[1:][user] - back * length
    first = np.maximum(end - length, indptr[:-1][user] + 1)
    return first, end - first


def sequence_batches(
    history: Interactions,
    recipe: Recipe,
    length: int,
    rng: np.random.Generator,
    negatives: np.ndarray | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """One epoch: each distinct purchase of a user but the first is asked for once, at most ``length`` in a row.

    Batches ask for ``recipe.batch_size`` purchases, or a few more so that no stretch is cut; stretches of one
    batch are about equally long. negatives: as for :func:`topkin.models.batches.batches`, whose arrays
    candidates, target, question, weights, bought and pooled a batch has too, a question for each target. Besides

    steps: (b, w) int32, for each stretch the places in pooled, from 1, of what it is read from; 0 is padding.
    gaps: (b, w) float32, see ``gru.days_between``. at: (t,) int32, the step in steps, flat, after which each
    target is asked for.
    """
    known = history.distinct()
    first, count = stretches(known.indptr, length)
    if not len(first):
        return
    weights = example_weights(known, recipe)
    weights /= max(float(np.delete(weights, known.indptr[:-1][np.diff(known.indptr) > 0]).mean()), 1e-30)
    order = rng.permutation(len(first))
    order = order[np.argsort(count[order], kind="stable")]
    parts = np.split(order, 1 + np.flatnonzero(np.diff((np.cumsum(count[order]) - 1) // recipe.batch_size)))
    column, place = np.full(known.n_items, -1, np.int32), np.zeros(known.n_items, np.int32)
    for number in rng.permutation(len(parts)):
        starts, counts = first[parts[number]], count[parts[number]]
        row, step = _runs(counts)
        asked = starts[row] + step
        found = np.unique(np.concatenate([known.items[asked], shared_negatives(negatives, recipe, rng)]))
        column[found] = np.arange(len(found), dtype=np.int32)
        pooled = np.unique(known.items[asked - 1])
        place[pooled] = np.arange(1, len(pooled) + 1, dtype=np.int32)
        steps = np.zeros((len(counts), int(counts.max())), np.int32)
        gaps = np.zeros(steps.shape, np.float32)
        steps[row, step] = place[known.items[asked - 1]]
        gaps[row, step] = days_between(known.ages[asked - 1], np.concatenate([[0], np.cumsum(counts)]))
        question, other = _runs(counts[row] + 1)
        columns = column[known.items[starts[row][question] - 1 + other]]
        yield {
            "candidates": found,
            "target": column[known.items[asked]],
            "question": np.arange(len(asked), dtype=np.int32),
            "weights": weights[asked],
            "bought": np.column_stack([question, columns])[columns >= 0].astype(np.int32),
            "pooled": pooled,
            "steps": steps,
            "gaps": gaps,
            "at": (row * steps.shape[1] + step).astype(np.int32),
        }
        column[found] = -1


def _runs(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of the run and the place in it of each member of runs of some lengths, each (sum,) int64."""
    run = np.repeat(np.arange(len(counts)), counts)
    return run, np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts, counts)
