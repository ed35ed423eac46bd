"""Batches for metric learning: M classes x N examples, positives by pairs, negatives by popularity.

A pair or triplet loss needs batches in which classes meet themselves; shuffled rows of many classes hold
hardly a positive. Here from memory; from streams in ``samplers.streamed``. Everything
is drawn from a seed: the same seed and epoch give the same batches.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from topkin.metrics.labels import label_array
from topkin.models.metric_learning.pairwise import counts_of

Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def check_sizes(classes: int, examples: int, batches: int | None = None) -> None:
    """Raise ValueError unless a batch has two classes and an example of each, and an epoch a batch."""
    if classes < 2 or examples < 1:
        raise ValueError(f"a batch needs at least 2 classes and 1 example of each, got {classes} x {examples}")
    if batches is not None and batches < 1:
        raise ValueError(f"batches must be at least 1, got {batches}")


def class_batches(
    labels: ArrayLike, *, classes: int, examples: int, batches: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Row numbers of batches of ``classes`` classes with ``examples`` rows each, (classes · examples,) int64.

    labels: (n,) or (n, 1) of any one type. Rows of one class stand together. Classes come in rounds, each once before
    any comes again; so do the rows of a class: a class with fewer rows than ``examples`` repeats them.
    Raises ValueError where there are fewer classes than a batch needs.
    """
    check_sizes(classes, examples)
    labels = label_array(labels)
    _, of, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(sizes) < classes:
        raise ValueError(f"classes must be at most the {len(sizes)} there are, got {classes}: take fewer a batch")
    members = np.split(np.argsort(of, kind="stable"), np.cumsum(sizes)[:-1])
    rows = [_Round(m, rng) for m in members]
    turn = _Round(np.arange(len(sizes)), rng)
    for _ in range(batches):
        yield np.concatenate([rows[c].take(examples) for c in turn.take_distinct(classes)])


class _Round:
    """Numbers in random order, all of them before any comes again."""

    def __init__(self, numbers: np.ndarray, rng: np.random.Generator) -> None:
        self.numbers, self.rng, self.left = numbers, rng, numbers[:0]

    def take(self, k: int) -> np.ndarray:
        """The next k."""
        while len(self.left) < k:
            self.left = np.concatenate([self.left, self.rng.permutation(self.numbers)])
        chosen, self.left = self.left[:k], self.left[k:]
        return chosen

    def take_distinct(self, k: int) -> np.ndarray:
        """The next k, no two alike: of a round's end, and of the next round those that are not among them."""
        if len(self.left) < k:
            fresh = self.rng.permutation(self.numbers)
            # The next round begins with those that the end of this one lacks; the order stays random.
            fresh = fresh[np.argsort(np.isin(fresh, self.left), kind="stable")]
            self.left = np.concatenate([self.left, fresh])
        chosen, self.left = self.left[:k], self.left[k:]
        return chosen


class Batches(keras.utils.PyDataset):
    """Batches from memory, drawn anew each epoch: a subclass has :meth:`_draw`, which sets each batch's row numbers.

    Labels that are numbers are given out as they are, others number :attr:`classes_`: Keras takes numbers only.
    """

    classes_: np.ndarray
    """The distinct labels in order, which a batch's labels number where they are not numbers themselves."""

    def __init__(self, rows: np.ndarray, labels: ArrayLike, augment: Augment | None, seed: int) -> None:
        super().__init__()
        self.rows, self.augment = rows if isinstance(rows, np.ndarray) else np.asarray(rows), augment
        self.labels = label_array(labels)
        self.classes_, codes = np.unique(self.labels, return_inverse=True)
        if self.labels.dtype.kind not in "biuf":
            self.labels = codes
        if len(np.atleast_1d(self.rows)) != len(self.labels):
            raise ValueError(
                f"rows and labels must have the same length, got {len(np.atleast_1d(self.rows))} and "
                f"{len(self.labels)}: pass one label for each row"
            )
        self.seed, self.epoch = seed, 0
        self._draw()

    _numbers: list[np.ndarray]

    def _draw(self) -> None:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._numbers)

    def _take(self, numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rows = self.rows[numbers]
        return rows if self.augment is None else self.augment(rows, rng)

    def __getitem__(self, index: int) -> tuple[Any, np.ndarray]:
        numbers = self._numbers[index]
        return self._take(numbers, np.random.default_rng([self.seed, self.epoch, index])), self.labels[numbers]

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._draw()


class Renumbered(keras.utils.PyDataset):
    """Batches of rows and labels, where the k-th distinct label, in order, is given out as ``codes[k]``."""

    def __init__(self, batches: Batches, codes: np.ndarray) -> None:
        super().__init__()
        self.batches, self.codes, self.labels = batches, codes, np.unique(batches.labels)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Any, np.ndarray]:
        rows, labels = self.batches[index]
        return rows, self.codes[np.searchsorted(self.labels, labels)]

    def on_epoch_end(self) -> None:
        self.batches.on_epoch_end()


class ClassBatches(Batches):
    """M classes x N examples from memory, for ``model.fit``: batches of (rows, labels); each epoch draws anew.

    Args:
        rows: (n, ...) array.
        labels: (n,) or (n, 1) of any one type; what is not numbers comes in batches as numbers of ``classes_``, the
            distinct labels in order.
        classes: of a batch, M.
        examples: of each class in a batch, N.
        batches: of an epoch; as many as make n rows where None.
        augment: called as ``augment(rows, rng)`` on each batch.
        seed: the same seed and epoch give the same batches.

    Raises:
        ValueError: lengths that differ, or fewer classes than a batch needs.
        TypeError: labels of several types, or missing.

    Examples:
        >>> from topkin.models import samplers
        >>> batches = samplers.ClassBatches(np.arange(12), np.arange(12) % 3, classes=2, examples=2)
        >>> rows, labels = batches[0]
        >>> len(batches), len(rows), len(set(labels))
        (3, 4, 2)
    """

    def __init__(
        self,
        rows: np.ndarray,
        labels: ArrayLike,
        *,
        classes: int = 8,
        examples: int = 8,
        batches: int | None = None,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        self.classes, self.examples = classes, examples
        check_sizes(classes, examples, batches)
        self.batches = max(1, len(rows) // (classes * examples)) if batches is None else batches
        super().__init__(rows, labels, augment, seed)

    def _draw(self) -> None:
        rng = np.random.default_rng([self.seed, self.epoch])
        sizes = {"classes": self.classes, "examples": self.examples, "batches": self.batches}
        self._numbers = list(class_batches(self.labels, **sizes, rng=rng))


class HierarchicalBatches(Batches):
    """Batches of a few groups of classes, M classes of each x N examples: near classes meet, such as shoes with shoes.

    The groups of a batch are drawn each in turn, as are the classes of a group and the rows of a class.

    Cakir et al., Deep metric learning to rank, CVPR 2019.

    Args:
        rows: (n, ...) array.
        labels: (n,) or (n, 1) of any one type, as for :class:`ClassBatches`.
        groups: (n,) of any one type, the group of each row; all rows of a label are of one.
        groups_per_batch: at least 1.
        classes: of each group in a batch, M; groups with fewer are left out.
        examples: of each class in a batch, N.
        batches: of an epoch; as many as make n rows where None.
        augment: called as ``augment(rows, rng)`` on each batch.
        seed: the same seed and epoch give the same batches.

    Raises:
        ValueError: lengths that differ, a label in two groups, or fewer groups of enough classes than a batch needs.
        TypeError: labels or groups of several types, or missing.

    Examples:
        >>> from topkin.models import samplers
        >>> labels = np.arange(24) % 6
        >>> batches = samplers.HierarchicalBatches(
        ...     np.arange(24), labels, labels // 3, groups_per_batch=1, classes=3, examples=2
        ... )
        >>> rows, labels = batches[0]
        >>> len(batches), len(rows), len(set(labels // 3))
        (4, 6, 1)
    """

    def __init__(
        self,
        rows: np.ndarray,
        labels: ArrayLike,
        groups: ArrayLike,
        *,
        groups_per_batch: int = 2,
        classes: int = 4,
        examples: int = 4,
        batches: int | None = None,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        check_sizes(groups_per_batch * classes, examples, batches)
        self.groups_per_batch, self.classes, self.examples = groups_per_batch, classes, examples
        size = groups_per_batch * classes * examples
        self.batches = max(1, len(rows) // size) if batches is None else batches
        _, self.group_of = np.unique(label_array(groups, "groups"), return_inverse=True)
        super().__init__(rows, labels, augment, seed)

    def _draw(self) -> None:
        rng = np.random.default_rng([self.seed, self.epoch])
        _, of = np.unique(self.labels, return_inverse=True)
        if len(of) != len(self.group_of):
            raise ValueError(f"labels and groups must have the same length, got {len(of)} and {len(self.group_of)}")
        pairs = np.unique(np.stack([self.group_of, of]), axis=1)
        twice = np.flatnonzero(np.bincount(pairs[1]) > 1)
        if len(twice):
            raise ValueError(
                f"all rows of a label must be of one group, {len(twice)} labels are of several, such as "
                f"{self.classes_.tolist()[twice[0]]!r}: join group and label"
            )
        members = np.split(np.argsort(of, kind="stable"), np.cumsum(np.bincount(of))[:-1])
        turns = [_Round(m, rng) for m in members]
        large = {g: _Round(pairs[1][pairs[0] == g], rng) for g in np.flatnonzero(np.bincount(pairs[0]) >= self.classes)}
        if len(large) < self.groups_per_batch:
            raise ValueError(
                f"groups_per_batch must be at most the {len(large)} groups of {self.classes} classes that there are, "
                f"got {self.groups_per_batch}: take fewer groups or classes a batch"
            )
        groups = _Round(np.array(list(large)), rng)
        self._numbers = []
        for _ in range(self.batches):
            chosen = [
                c for g in groups.take_distinct(self.groups_per_batch) for c in large[g].take_distinct(self.classes)
            ]
            self._numbers.append(np.concatenate([turns[c].take(self.examples) for c in chosen]))


class RowBatches(Batches):
    """Shuffled rows from memory, for losses with a vector a class: batches of (rows, labels).

    The last, short batch is left out. Each epoch has its own order and its own augmentation.

    Args:
        rows: (n, ...) array.
        labels: (n,).
        batch_size: at most n.
        augment: called as ``augment(rows, rng)`` on each batch.
        seed: the same seed and epoch give the same batches.

    Raises:
        ValueError: lengths that differ, or a batch larger than the rows.

    Examples:
        >>> from topkin.models import samplers
        >>> batches = samplers.RowBatches(np.arange(10), np.arange(10) % 3, batch_size=4)
        >>> len(batches), batches[0][0].shape
        (2, (4,))
    """

    def __init__(
        self,
        rows: np.ndarray,
        labels: ArrayLike,
        *,
        batch_size: int = 128,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        self.batch_size = batch_size
        super().__init__(rows, labels, augment, seed)

    def _draw(self) -> None:
        n = len(self.rows)
        if not 1 <= self.batch_size <= n:
            raise ValueError(f"batch_size must be from 1 to the {n} rows, got {self.batch_size}: lower batch_size")
        order = np.random.default_rng([self.seed, self.epoch]).permutation(n)
        whole = len(order) // self.batch_size
        self._numbers = list(order[: whole * self.batch_size].reshape(whole, -1))


def pair_batches(pairs: ArrayLike, *, pairs_per_batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches of positive pairs in which no row occurs twice, (pairs_per_batch, 2): one pass in random order.

    Each pair's rows are negatives of all other pairs' (labels: the pair's number in the batch), so a row must
    not be in two pairs of a batch; a pair that would is kept for a later one. What is left at the end and fills
    no batch is left out.

    Args:
        pairs: (p, 2) int row numbers, such as items of one basket.
        pairs_per_batch: at least 2.
        rng: decides the order.

    Raises:
        ValueError: pairs of another shape or type, a row with itself, or a batch of one pair.

    Examples:
        >>> from topkin.models import samplers
        >>> pairs = [[0, 1], [2, 3], [0, 4], [5, 6]]
        >>> len(list(samplers.pair_batches(pairs, pairs_per_batch=2, rng=np.random.default_rng(0))))
        2
    """
    pairs = np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise ValueError(f"pairs must be (p, 2) integers, got {pairs.dtype} of shape {pairs.shape}")
    if (pairs[:, 0] == pairs[:, 1]).any():
        raise ValueError("a pair must be two rows, got a row with itself: leave such pairs out")
    if pairs_per_batch < 2:
        raise ValueError(f"pairs_per_batch must be at least 2, got {pairs_per_batch}: one pair has no negatives")
    waiting: list[tuple[int, int]] = [(int(a), int(b)) for a, b in rng.permutation(pairs)]
    while len(waiting) >= pairs_per_batch:
        batch: list[tuple[int, int]] = []
        used: set[int] = set()
        later: list[tuple[int, int]] = []
        for at, pair in enumerate(waiting):
            if len(batch) == pairs_per_batch:
                later.extend(waiting[at:])
                break
            if used.isdisjoint(pair):
                batch.append(pair)
                used.update(pair)
            else:
                later.append(pair)
        if len(batch) < pairs_per_batch:
            return
        waiting = later
        yield np.array(batch, dtype=pairs.dtype)


class PopularityNegatives:
    """Negatives drawn with a chance that grows with popularity: counts to the power of ``power``.

    Mikolov et al., Distributed representations of words and phrases, NeurIPS 2013.

    Args:
        counts: (items,), how often each was bought.
        power: 0 draws evenly, 1 by popularity; word2vec's is 0.75. Items of count 0 are drawn only where it is 0.

    Raises:
        ValueError: counts that are not finite, below 0, or all 0.

    Examples:
        >>> from topkin.models import samplers
        >>> negatives = samplers.PopularityNegatives(counts=[5, 3, 1, 1])
        >>> negatives.draw_for([[0, 1], [2]], k=3, rng=np.random.default_rng(0)).shape
        (2, 3)
    """

    def __init__(self, counts: ArrayLike, power: float = 0.75) -> None:
        counts = counts_of(counts).astype(np.float64)
        if not np.isfinite(power):
            raise ValueError(f"power must be finite, got {power}")
        if not counts.any() and power > 0:
            raise ValueError("counts must not all be 0: nothing could be drawn; give counts, or power=0")
        weights = counts**power if power else np.ones_like(counts)
        self.power, self.probability = power, weights / weights.sum()
        self._until = np.cumsum(self.probability)
        self._last = int(np.flatnonzero(self.probability)[-1])

    def draw(self, shape: int | Sequence[int], rng: np.random.Generator) -> np.ndarray:
        """Item numbers, int64, independent of each other."""
        return np.minimum(np.searchsorted(self._until, rng.random(shape), side="right"), self._last)

    def draw_for(
        self, bought: Sequence[np.ndarray], k: int, rng: np.random.Generator, *, rounds: int = 100
    ) -> np.ndarray:
        """``k`` negatives for each user, (users, k) int64: none of the user's own items; repeats are allowed.

        bought: for each user its item numbers. A draw that hits one is drawn again. Raises ValueError where
        after ``rounds`` there are hits left: the user bought (nearly) all that can be drawn.
        """
        width = len(self.probability)
        users = np.repeat(np.arange(len(bought)), [len(b) for b in bought])
        own = np.unique(users * width + np.concatenate([np.asarray(b, np.int64) for b in bought] or [users]))
        drawn = self.draw((len(bought), k), rng)
        for _ in range(rounds):
            keys = np.arange(len(bought))[:, None] * width + drawn
            hit = np.isin(keys, own)
            if not hit.any():
                return drawn
            drawn[hit] = self.draw(int(hit.sum()), rng)
        user = int(np.flatnonzero(np.isin(np.arange(len(bought))[:, None] * width + drawn, own).any(axis=1))[0])
        raise ValueError(
            f"user {user} must leave something to draw, got {len(bought[user])} of {width} items bought: "
            "leave such users out, or lower power"
        )

    def log_probability(self, items: ArrayLike) -> np.ndarray:
        """The logarithm of each item's chance, float64: what the logQ correction subtracts; -inf for none."""
        with np.errstate(divide="ignore"):
            return np.log(self.probability)[np.asarray(items)]
