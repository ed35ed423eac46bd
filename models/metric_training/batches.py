"""The batches of an epoch, each drawn from the seed, the epoch and its number: a resumed training sees the same."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from topkin.config.items_train import ItemsTrainSettings
from topkin.config.metric_parts import SAMPLERS as NAMED
from topkin.config.metric_parts import leaves, named
from topkin.errors import ConfigError
from topkin.models.metric_learning import samplers
from topkin.models.metric_learning.samplers.in_memory import Batches
from topkin.models.metric_training.changes import Changes
from topkin.models.metric_training.rows import Feeds, Rows

CLASSES = 10
PAIRS_SHUFFLED = 16_384


class Batch(NamedTuple):
    """One or two views of some rows, (k, …) by input, and what the loss is told of them, (k,)."""

    views: tuple[Feeds, ...]
    labels: np.ndarray


class RowNumbers(NamedTuple):
    """The row numbers of each view, (k,), and what the loss is told."""

    views: tuple[np.ndarray, ...]
    labels: np.ndarray


class BatchSource:
    """Batches of row numbers: the interface; a subclass has :meth:`numbers`.

    Attributes:
        steps: Batches of an epoch, those of one class among them.
        skipped: Batches of one class, which teach nothing and were passed over.
    """

    steps: int
    skipped: int = 0

    def numbers(self, epoch: int) -> Iterator[RowNumbers]:
        """One epoch."""
        raise NotImplementedError

    def batches(self, epoch: int, rows: Rows, changes: Changes, seed: int) -> Iterator[Batch]:
        """One epoch of ready batches."""
        for number, batch in enumerate(self.numbers(epoch)):
            rng = np.random.default_rng([seed, epoch, number])
            yield Batch(tuple(changes(rows.feeds(view), rng) for view in batch.views), batch.labels)


class LabelSource(BatchSource):
    """Batches of labelled rows, by a sampler of the library.

    Args:
        settings: Section ``[train]``.
        rows: (n,) numbers of the rows that are learned from.
        labels: (n,) their labels, 0 to classes - 1.
        seed: Of the draws.

    Raises:
        ConfigError: A sampler's arguments that do not fit the rows.
    """

    def __init__(self, settings: ItemsTrainSettings, rows: np.ndarray, labels: np.ndarray, seed: int) -> None:
        self.reads = next(leaves(settings.chosen_loss)).reads
        size = settings.batch_size or 128
        arguments = dict(settings.sampler.arguments) if settings.sampler else {}
        self.name = _sampler_name(settings)
        if self.name == "class_batches":
            classes = arguments.setdefault("classes", min(CLASSES, len(np.unique(labels)), size // 2))
            examples = arguments.setdefault("examples", max(2, size // max(int(classes), 1) // 2 * 2))
            if self.reads == "views" and examples % 2:
                raise ConfigError(
                    f"train.sampler.examples must be even for loss {settings.chosen_loss.name!r}, which reads two rows "
                    f"of a class at a time, got {examples}"
                )
        else:
            least = 2 if self.name == "row_batches" else 1
            arguments.setdefault("batch_size", max(least, min(size, len(rows))))
        cls = getattr(samplers, NAMED[self.name].cls)
        try:
            self.sampler: Batches = cls(rows, labels, **arguments, seed=seed)
        except (TypeError, ValueError) as e:
            raise ConfigError(f"train.sampler = {self.name!r}: {e}") from e
        self.steps = len(self.sampler)

    def numbers(self, epoch: int) -> Iterator[RowNumbers]:
        """One epoch."""
        for rows, labels in _of_epoch(self.sampler, epoch):
            if self.name == "pair_batches":
                yield RowNumbers(tuple(rows), np.asarray(labels, np.float32))
            elif self.reads == "rows" and (labels == labels[0]).all():
                self.skipped += 1
            else:
                yield RowNumbers((rows,), labels)


def _of_epoch(sampler: Batches, epoch: int) -> Iterator[tuple[Any, np.ndarray]]:
    """The batches of an epoch, from 1, whichever was drawn before."""
    sampler.epoch = epoch - 1
    sampler.on_epoch_end()
    for index in range(len(sampler)):
        yield sampler[index]


def _sampler_name(settings: ItemsTrainSettings) -> str:
    """The sampler that is named, or the one that the loss's reading asks for."""
    if settings.sampler is not None:
        return named(settings.sampler.name, NAMED) or settings.sampler.name
    reads = next(leaves(settings.chosen_loss)).reads
    return {"classes": "row_batches", "scores": "row_batches", "pairs": "pair_batches"}.get(reads, "class_batches")


class ViewSource(BatchSource):
    """Two views of each row, no labels: rows in random order, the last, short batch left out."""

    def __init__(self, rows: np.ndarray, size: int, seed: int) -> None:
        size = min(size, len(rows))
        self.sampler = samplers.RowBatches(rows, np.zeros(len(rows), np.int64), batch_size=size, seed=seed)
        self.steps = len(self.sampler)

    def numbers(self, epoch: int) -> Iterator[RowNumbers]:
        """One epoch."""
        for rows, labels in _of_epoch(self.sampler, epoch):
            yield RowNumbers((rows, rows), labels)


class PairSource(BatchSource):
    """Pairs of rows that are alike, in batches in which no row occurs twice.

    Args:
        pairs: (p, 2) row numbers.
        size: Pairs of a batch.
        seed: Of their order.
    """

    def __init__(self, pairs: np.ndarray, size: int, seed: int) -> None:
        self.pairs, self.seed = pairs, seed
        self.size = max(2, min(size, len(pairs)))
        self.steps = max(1, len(pairs) // self.size)

    def numbers(self, epoch: int) -> Iterator[RowNumbers]:
        """One epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.pairs))
        block = self.size * max(1, PAIRS_SHUFFLED // self.size)
        labels = np.arange(self.size)
        for start in range(0, len(order), block):
            block_pairs = self.pairs[order[start : start + block]]
            for batch in samplers.pair_batches(block_pairs, pairs_per_batch=self.size, rng=rng):
                yield RowNumbers((batch[:, 0], batch[:, 1]), labels)
