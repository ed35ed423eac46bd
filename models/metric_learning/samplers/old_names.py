"""TensorFlow Similarity's samplers under their old names, see docs/from_tensorflow_similarity.md."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from topkin.metrics.labels import label_array
from topkin.models.metric_learning.samplers.in_memory import Augment, ClassBatches


def MultiShotMemorySampler(  # noqa: N802
    x: np.ndarray,
    y: object,
    *,
    classes_per_batch: int = 2,
    examples_per_class_per_batch: int = 2,
    steps_per_epoch: int = 1000,
    class_list: Sequence[Any] | None = None,
    total_examples_per_class: int | None = None,
    augmenter: Augment | None = None,
    seed: int = 0,
) -> ClassBatches:
    """:class:`ClassBatches` by the arguments of TensorFlow Similarity; ``augmenter`` is called as (rows, rng)."""
    x, y = select_examples(x, y, class_list, total_examples_per_class, seed=seed)
    sizes = {"classes": classes_per_batch, "examples": examples_per_class_per_batch, "batches": steps_per_epoch}
    return ClassBatches(x, y, **sizes, augment=augmenter, seed=seed)


def select_examples(
    x: np.ndarray,
    y: object,
    class_list: Sequence[Any] | None = None,
    num_examples_per_class: int | None = None,
    *,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Some rows of some classes, in random order: x (m, ...) and y (m,).

    x: (n, ...). y: (n,) of any one type. class_list: those to take, all where None. num_examples_per_class: most of
    each, all where None. Raises ValueError for lengths that differ, a class that is not there, or a number below 0.
    """
    labels, rows = label_array(y), np.asarray(x)
    if len(labels) != len(rows):
        raise ValueError(f"rows and labels must have the same length, got {len(rows)} and {len(labels)}")
    if num_examples_per_class is not None and num_examples_per_class < 0:
        raise ValueError(f"examples of a class must be at least 0, got {num_examples_per_class}: leave out for all")
    wanted = np.unique(labels if class_list is None else label_array(class_list, "class_list"))
    missing = [c for c in wanted.tolist() if not (labels == c).any()]
    if missing:
        raise ValueError(f"class_list must be of labels that there are, got {missing[0]!r}: leave it out")
    rng = np.random.default_rng(seed)
    kept = [rng.permutation(np.flatnonzero(labels == c))[:num_examples_per_class] for c in wanted.tolist()]
    chosen = rng.permutation(np.concatenate(kept)) if kept else np.zeros(0, np.int64)
    return rows[chosen], labels[chosen]
