"""What a training learns from and is validated on: rows by label, pairs, or all rows; what is left out is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from topkin.config.items_train import ItemsTrainSettings
from topkin.errors import InputError
from topkin.models.metric_training.batches import BatchSource, LabelSource, PairSource, ViewSource
from topkin.models.metric_training.changes import SUPERVISED, UNSUPERVISED, Changes, augmenters_of
from topkin.models.metric_training.pairs import read_pairs
from topkin.models.metric_training.rows import Rows
from topkin.models.metric_training.validation import (
    Encode,
    LabelValidation,
    PairValidation,
    Validation,
    held_out,
)

BACKGROUND = 500


@dataclass
class TrainingPlan:
    """One training's rows.

    Args:
        rows: (n,) numbers of the rows that are learned from.
        source: Their batches.
        changes: What changes a batch at random.
        validation: On rows kept out; None for none. Of ``self_supervised`` the trainer makes it, of ``kept``.
        kept: (q,) numbers of the rows that are kept out.
        label_counts: (classes,), how often each label occurs among ``rows``.
        counts: What the training tells, by name.
        notes: What a person must know.
    """

    rows: np.ndarray
    source: BatchSource
    changes: Changes
    validation: Validation | None
    kept: np.ndarray
    label_counts: np.ndarray
    seed: int
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def augmented(self) -> frozenset[str]:
        """By what images are changed, by the names of ``train.augment``; empty where no input is an image."""
        return self.changes.names

    def sample(self, most: int) -> np.ndarray:
        """At most so many of the rows learned from, in their order."""
        if len(self.rows) <= most:
            return self.rows
        return np.sort(np.random.default_rng([self.seed, 3]).choice(self.rows, most, replace=False))

    def final(self, encode: Encode) -> dict[str, float]:
        """What the trained encoder scores on rows kept out, by name; nothing without any."""
        return {} if self.validation is None else self.validation.final(encode)


def plan_of(settings: ItemsTrainSettings, rows: Rows, seed: int) -> TrainingPlan:
    """The rows, batches and validation of some settings.

    Raises:
        InputError: No labels, labels of one class, pairs that name no item, or too few rows.
        ConfigError: A sampler that does not fit the rows.
    """
    changes = _changes(settings, rows, seed)
    if settings.method == "labels":
        return _by_labels(settings, rows, changes, seed)
    if settings.method == "pairs":
        return _by_pairs(settings, rows, changes, seed)
    return _by_views(settings, rows, changes, seed)


def _changes(settings: ItemsTrainSettings, rows: Rows, seed: int) -> Changes:
    unsupervised = settings.method == "self_supervised"
    names = settings.augment if settings.augment is not None else UNSUPERVISED if unsupervised else SUPERVISED
    sample = np.random.default_rng([seed, 4]).permutation(len(rows))[:BACKGROUND]
    augmenters = augmenters_of(rows, names, sample)
    return Changes(rows.specs, augmenters, frozenset(names if augmenters else ()), corrupt=unsupervised)


def _by_labels(settings: ItemsTrainSettings, rows: Rows, changes: Changes, seed: int) -> TrainingPlan:
    labelled = np.flatnonzero(rows.labels >= 0)
    if not len(rows.classes):
        raise InputError(
            f"method 'labels' needs labels, none of {len(rows):,} items has one: name their column as items.label, or "
            "set train.method = 'self_supervised'"
        )
    if len(rows.classes) < 2:
        raise InputError(
            f"method 'labels' needs two labels, all {len(labelled):,} items have {rows.classes[0]!r}: name another "
            "column as items.label, or set train.method = 'self_supervised'"
        )
    kept = held_out(len(labelled), settings.validation_share, seed)
    learned, asked = labelled[~kept], labelled[kept]
    codes, counts = _renumbered(rows.labels[learned])
    if len(counts) < 2 or counts.max() < 2:
        raise InputError(
            f"method 'labels' needs two labels and one with two items to learn from, got {len(learned):,} items of "
            f"{len(counts):,} labels: lower train.validation_share, or give more items"
        )
    notes = []
    if missing := len(rows) - len(labelled):
        notes.append(f"{missing:,} items have no label and are left out of training")
    if alone := int((counts == 1).sum()):
        notes.append(f"{alone:,} of {len(counts):,} labels have one item to learn from, which nothing is alike")
    validation = LabelValidation(asked, learned, rows.labels, seed) if len(asked) else None
    if validation is not None and not len(validation.queries):
        validation = None
    if validation is None:
        notes.append("nothing was validated: no item kept out shares its label with one learned from")
    source = LabelSource(settings, learned, codes, seed)
    counted = {"items": len(learned), "labels": len(counts), "validation_items": len(asked)}
    return TrainingPlan(learned, source, changes, validation, asked, counts, seed, counted, notes)


def _renumbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels as numbers from 0 without gaps, and how often each occurs."""
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return codes.astype(np.int64), counts


def _by_pairs(settings: ItemsTrainSettings, rows: Rows, changes: Changes, seed: int) -> TrainingPlan:
    assert settings.pairs is not None, "the section was checked"
    pairs, notes = read_pairs(settings.pairs, rows.ids)
    if len(pairs) < 2:
        raise InputError(
            f"method 'pairs' needs two pairs of different items that are among the {len(rows):,} prepared, got "
            f"{len(pairs)}: look at the columns and ids of {settings.pairs.path}"
        )
    kept = held_out(len(pairs), settings.validation_share, seed)
    if (~kept).sum() < 2:
        kept[:] = False
    learned, asked = pairs[~kept], pairs[kept]
    every = np.arange(len(rows))
    validation: Validation | None = PairValidation(asked, every, seed) if len(asked) else None
    if validation is None:
        notes.append("nothing was validated: no pair was kept out")
    counts = np.bincount(learned[:, 1], minlength=len(rows))
    source = PairSource(learned, settings.batch_size or 128, seed)
    used = np.unique(learned)
    counted: dict[str, Any] = {"items": len(used), "pairs": len(learned), "validation_pairs": len(asked)}
    return TrainingPlan(used, source, changes, validation, asked[:, 0], counts, seed, counted, notes)


def _by_views(settings: ItemsTrainSettings, rows: Rows, changes: Changes, seed: int) -> TrainingPlan:
    if len(rows) < 8:
        raise InputError(f"method 'self_supervised' needs eight items at least, got {len(rows)}: give more")
    kept = held_out(len(rows), settings.validation_share, seed)
    learned, asked = np.flatnonzero(~kept), np.flatnonzero(kept)
    notes = [] if len(asked) >= 2 else ["nothing was validated: fewer than two items were kept out"]
    source = ViewSource(learned, settings.batch_size or 256, seed)
    counted = {"items": len(learned), "validation_items": len(asked)}
    return TrainingPlan(learned, source, changes, None, asked, np.zeros(0, np.int64), seed, counted, notes)
