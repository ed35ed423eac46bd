"""M classes x N examples from what does not fit in memory: Parquet files, or any stream of batches.

Rows wait by class in a buffer of bounded size; whenever enough classes have enough rows, a batch leaves.
Rows are read once each epoch, in an order drawn from the seed and the epoch.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from numpy.typing import ArrayLike

from topkin.artifacts import storage
from topkin.errors import InputError
from topkin.metrics.labels import label_array
from topkin.models.metric_learning.samplers.in_memory import check_sizes

Row = tuple[np.ndarray, ...]  # one or more arrays, of a row or of a batch


class ClassBuffer:
    """Rows waiting by class until ``classes`` classes have ``examples`` rows each.

    size: rows that may wait. Where more come, a row of the class that has waited longest is dropped, and
    counted in ``dropped``: so classes too rare to fill their places cannot block the buffer. A class is
    chosen with a chance proportional to its rows that wait: classes come as often as in the data.
    """

    def __init__(self, classes: int, examples: int, size: int, rng: np.random.Generator) -> None:
        check_sizes(classes, examples)
        if size < classes * examples:
            raise ValueError(f"the buffer must hold a batch, {classes} x {examples} rows at least, got {size}")
        self.classes, self.examples, self.size, self.rng = classes, examples, size, rng
        self.waiting: dict[Hashable, list[Row]] = {}
        self.rows = self.dropped = 0
        self._ready: dict[Hashable, None] = {}

    def add(self, label: Hashable, row: Row) -> None:
        """One more row."""
        queue = self.waiting.setdefault(label, [])
        queue.append(row)
        self.rows += 1
        if len(queue) >= self.examples:
            self._ready[label] = None
        if self.rows > self.size:
            self._take(next(iter(self.waiting)), 1)
            self.dropped += 1

    def _take(self, label: Hashable, k: int) -> list[Row]:
        """``k`` random rows of a class, which wait no longer."""
        queue, drawn = self.waiting[label], []
        for _ in range(k):
            at = int(self.rng.integers(len(queue)))
            queue[at], queue[-1] = queue[-1], queue[at]
            drawn.append(queue.pop())
        self.rows -= k
        if len(queue) < self.examples:
            self._ready.pop(label, None)
        if not queue:
            del self.waiting[label]
        return drawn

    def batches(self, keep: int = 0) -> Iterator[tuple[list[Hashable], list[Row]]]:
        """Batches of (labels, rows) as long as more than ``keep`` rows wait and they suffice for one.

        A higher ``keep`` mixes better: rows wait longer, beside more others.
        """
        while self.rows > keep and len(self._ready) >= self.classes:
            ready = list(self._ready)
            chances = np.array([len(self.waiting[label]) for label in ready], np.float64)
            chosen = [ready[i] for i in self.rng.choice(len(ready), self.classes, False, chances / chances.sum())]
            rows = [row for label in chosen for row in self._take(label, self.examples)]
            yield [label for label in chosen for _ in range(self.examples)], rows


def class_batches_of(
    stream: Iterator[tuple[ArrayLike, Row]], *, classes: int, examples: int, buffer_rows: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
    """Batches from a stream of ``(labels (b,), arrays (b, ...))``: labels (M · N,) and arrays (M · N, ...).

    The buffer is filled to half before the first batch leaves. Raises ValueError where the stream ends
    without one batch, or where the buffer is full of rows of fewer than ``classes`` classes: the stream is
    sorted by class.
    """
    buffer = ClassBuffer(classes, examples, buffer_rows, rng)
    came = sent = 0

    def emit(keep: int) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
        for labels, rows in buffer.batches(keep):
            yield label_array(labels), tuple(np.stack(column) for column in zip(*rows, strict=True))

    for labels, arrays in stream:
        arrays = tuple(np.asarray(a) for a in arrays)
        block = label_array(labels).tolist()
        if any(len(a) != len(block) for a in arrays):
            raise ValueError(
                f"rows and labels of a block must have the same length, got {[len(a) for a in arrays]} and {len(block)}"
            )
        for at, label in enumerate(block):
            buffer.add(label, tuple(a[at] for a in arrays))
            came += 1
            if buffer.dropped and not sent:
                raise ValueError(
                    f"{buffer_rows} rows in a row must hold {classes} classes of {examples} rows, got "
                    f"{len(buffer.waiting)} classes: the data are sorted by class; shuffle them or raise buffer_rows"
                )
            for batch in emit(buffer_rows // 2):
                sent += 1
                yield batch
    for batch in emit(0):
        sent += 1
        yield batch
    if not sent:
        raise ValueError(
            f"the data must hold {classes} classes of {examples} rows, got {came} rows of "
            f"{len(buffer.waiting)} classes: take fewer classes or examples"
        )


def class_batches_from_dataset(
    dataset: tf.data.Dataset, *, classes: int, examples: int, buffer_rows: int = 10_000, seed: int = 0
) -> tf.data.Dataset:
    """A ``tf.data`` dataset of M x N batches from one of batches ``(rows, labels)``: the same structure.

    Each pass draws from the seed and the number of the pass.

    Args:
        dataset: of batches (rows, labels), one tensor each.
        classes: of a batch, M.
        examples: of each class in a batch, N.
        buffer_rows: that wait for others of their class, at most.
        seed: of the draws.

    Raises:
        TypeError: the dataset gives something else.
        ValueError: labels that are not (b,); in a pass, data sorted by class or with too few classes.

    Examples:
        >>> import tensorflow as tf
        >>> from topkin.models import samplers
        >>> stream = tf.data.Dataset.from_tensor_slices((np.arange(12), np.arange(12) % 3)).batch(4)
        >>> batches = samplers.class_batches_from_dataset(stream, classes=2, examples=2)
        >>> [len(set(labels.numpy())) for rows, labels in batches]
        [2, 2, 2]
    """
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2 or any(not isinstance(s, tf.TensorSpec) for s in spec):
        raise TypeError(f"the dataset must give batches (rows, labels) of one tensor each, got {spec}")
    if spec[1].shape.rank != 1:
        raise ValueError(f"labels of a batch must be (b,), got shape {spec[1].shape}: batch the dataset first")
    passes = iter(range(1 << 62))

    def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng([seed, next(passes)])
        stream = ((labels, (rows,)) for rows, labels in dataset.as_numpy_iterator())
        sizes = {"classes": classes, "examples": examples, "buffer_rows": buffer_rows}
        for labels, (rows,) in class_batches_of(stream, **sizes, rng=rng):
            yield rows, labels.astype(spec[1].dtype.as_numpy_dtype)

    n = classes * examples
    signature = (tf.TensorSpec((n, *spec[0].shape[1:]), spec[0].dtype), tf.TensorSpec((n,), spec[1].dtype))
    return tf.data.Dataset.from_generator(generate, output_signature=signature)


class ParquetClassBatches:
    """M classes x N examples streamed from Parquet files: iterate it, or give :meth:`dataset` to ``fit``.

    The files' row groups are read in random order, ``mixed`` of them at a time, their rows interleaved; at most
    about ``buffer_rows`` rows and ``mixed`` blocks of ``block_rows`` are held. Each iteration is an epoch, drawn
    from the seed and its number.

    Args:
        paths: files with the same columns.
        columns: to read.
        read: from a table of a few thousand rows to ``(labels (b,), rows (b, ...))``.
        classes: of a batch, M.
        examples: of each class in a batch, N.
        buffer_rows: that wait for others of their class, at most.
        block_rows: read at once.
        mixed: row groups read at a time.
        seed: the same seed and epoch give the same batches.

    Raises:
        ValueError: no paths, or sizes below 1.
        InputError: when iterated, a file without the columns.

    Examples:
        >>> import pyarrow as pa, pyarrow.parquet as pq
        >>> from topkin.models import samplers
        >>> pq.write_table(pa.table({"size": range(8), "kind": [0, 1] * 4}), "items.parquet")
        >>> read = lambda table: (table["kind"].to_numpy(), table["size"].to_numpy())
        >>> batches = samplers.ParquetClassBatches(["items.parquet"], ["kind", "size"], read, classes=2, examples=2)
        >>> [len(rows) for rows, labels in batches]
        [4, 4]
    """

    def __init__(
        self,
        paths: Sequence[str],
        columns: Sequence[str],
        read: Callable[[pa.Table], tuple[np.ndarray, np.ndarray]],
        *,
        classes: int = 8,
        examples: int = 8,
        buffer_rows: int = 10_000,
        block_rows: int = 1024,
        mixed: int = 4,
        seed: int = 0,
    ) -> None:
        check_sizes(classes, examples)
        if isinstance(paths, str) or not paths:
            raise ValueError(f"paths must be a list of at least one file, got {paths!r}")
        if min(block_rows, mixed) < 1:
            raise ValueError(f"block_rows and mixed must be at least 1, got {block_rows} and {mixed}")
        self.paths, self.columns, self.read = list(paths), list(columns), read
        self.classes, self.examples, self.buffer_rows = classes, examples, buffer_rows
        self.block_rows, self.mixed, self.seed, self.epoch = block_rows, mixed, seed, 0

    def _groups(self) -> list[tuple[str, int]]:
        groups = []
        for path in self.paths:
            with _opened(path) as file:
                names = file.schema_arrow.names
                if not set(self.columns) <= set(names):
                    raise InputError(f"{path} must have the columns {', '.join(self.columns)}, got {', '.join(names)}")
                groups += [(path, group) for group in range(file.num_row_groups)]
        return groups

    def _blocks(self, path: str, group: int) -> Iterator[pa.Table]:
        with _opened(path) as file:
            for batch in file.iter_batches(self.block_rows, row_groups=[group], columns=self.columns):
                yield pa.Table.from_batches([batch])

    def _stream(self, rng: np.random.Generator) -> Iterator[tuple[ArrayLike, Row]]:
        groups = self._groups()
        waiting = [self._blocks(*groups[i]) for i in rng.permutation(len(groups))]
        reading = [waiting.pop() for _ in range(min(self.mixed, len(waiting)))]
        while reading:
            at = int(rng.integers(len(reading)))
            block = next(reading[at], None)
            if block is None:
                reading.pop(at)
                if waiting:
                    reading.append(waiting.pop())
                continue
            labels, rows = self.read(block)
            order = rng.permutation(len(labels))
            yield np.asarray(labels)[order], (np.asarray(rows)[order],)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1
        sizes = {"classes": self.classes, "examples": self.examples, "buffer_rows": self.buffer_rows}
        for labels, (rows,) in class_batches_of(self._stream(rng), **sizes, rng=rng):
            yield rows, labels

    def dataset(self) -> tf.data.Dataset:
        """The same as a ``tf.data`` dataset of (rows, labels); each pass over it is the next epoch."""
        labels, rows = self.read(next(self._blocks(*self._groups()[0])))
        n = self.classes * self.examples
        signature = (
            tf.TensorSpec((n, *np.shape(rows)[1:]), tf.as_dtype(np.asarray(rows).dtype)),
            tf.TensorSpec((n,), tf.as_dtype(np.asarray(labels).dtype)),
        )
        return tf.data.Dataset.from_generator(lambda: iter(self), output_signature=signature)


@contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    fs, inner = storage.filesystem(path)
    with fs.open_input_file(inner) as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
        yield file
