"""M x N batches from streams: bounded memory, each row at most once an epoch, the seed decides."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from topkin.errors import InputError
from topkin.models.metric_learning.samplers.streamed import (
    ClassBuffer,
    ParquetClassBatches,
    class_batches_from_dataset,
    class_batches_of,
)

N = 600
LABELS = np.random.default_rng(0).integers(0, 6, N)


def stream(labels: np.ndarray = LABELS, block: int = 50) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    for start in range(0, len(labels), block):
        rows = np.arange(start, min(start + block, len(labels)))
        yield labels[rows], (rows, rows[:, None] * np.ones(3))


def batches(seed: int = 0, labels: np.ndarray = LABELS, **sizes: Any) -> list[Any]:
    options = {"classes": 4, "examples": 3, "buffer_rows": 200, **sizes}
    return list(class_batches_of(stream(labels), **options, rng=np.random.default_rng(seed)))


def test_each_batch_has_its_classes_and_examples_and_no_row_comes_twice() -> None:
    seen: Counter[int] = Counter()
    for labels, (rows, wide) in batches():
        assert sorted(Counter(labels.tolist()).values()) == [3, 3, 3, 3]
        assert (LABELS[rows] == labels).all()
        assert (wide == rows[:, None]).all()
        seen.update(rows.tolist())
    assert max(seen.values()) == 1
    assert len(seen) > 0.9 * N  # what is left at the end are fewer than four classes of three


def test_the_seed_decides_the_batches() -> None:
    for (a, (b, _)), (c, (d, _)) in zip(batches(1), batches(1), strict=True):
        assert (a == c).all()
        assert (b == d).all()
    assert any((a[1][0] != b[1][0]).any() for a, b in zip(batches(1), batches(2), strict=False))


def test_the_buffer_never_holds_more_than_its_size() -> None:
    buffer = ClassBuffer(2, 3, 10, np.random.default_rng(0))
    for row in range(100):
        buffer.add(row if row % 2 else -1, row)  # one frequent class, fifty of one row: never a batch
        assert buffer.rows <= 10
        assert buffer.rows == sum(len(queue) for queue in buffer.waiting.values())
    assert not list(buffer.batches())
    assert buffer.dropped == 90


def test_rare_classes_do_not_block_the_buffer() -> None:
    labels = np.where(np.arange(N) % 2, 1000 + np.arange(N), LABELS)  # every second row is alone with its label
    got = batches(labels=labels)
    assert sum(len(each) for each, _ in got) > 0.35 * N


def test_data_sorted_by_class_are_explained() -> None:
    with pytest.raises(ValueError, match=r"200 rows in a row must hold 4 classes of 3 rows, got .* sorted by class"):
        batches(labels=np.sort(LABELS))


def test_too_few_classes_are_explained() -> None:
    with pytest.raises(ValueError, match="must hold 7 classes of 3 rows, got 600 rows of 6 classes"):
        batches(classes=7, buffer_rows=1000)
    with pytest.raises(ValueError, match="4 x 3 rows at least, got 11"):
        batches(buffer_rows=11)


def test_a_tf_dataset_gives_batches_of_its_own_structure() -> None:
    rows = tf.data.Dataset.from_tensor_slices((np.arange(N, dtype=np.float32)[:, None], LABELS.astype(np.int32)))
    dataset = class_batches_from_dataset(rows.batch(64), classes=4, examples=3, buffer_rows=200, seed=4)
    assert dataset.element_spec == (tf.TensorSpec((12, 1), tf.float32), tf.TensorSpec((12,), tf.int32))
    passes = [list(dataset.as_numpy_iterator()) for _ in range(2)]
    for x, y in passes[0]:
        assert (LABELS[x[:, 0].astype(int)] == y).all()
    assert any((a[0] != b[0]).any() for a, b in zip(*passes, strict=False))
    again = class_batches_from_dataset(rows.batch(64), classes=4, examples=3, buffer_rows=200, seed=4)
    for a, b in zip(passes[0], again.as_numpy_iterator(), strict=True):
        assert (a[0] == b[0]).all()
    with pytest.raises(ValueError, match="batch the dataset first"):
        class_batches_from_dataset(rows, classes=4, examples=3)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two files of three row groups each."""
    paths = []
    for number, rows in enumerate(np.array_split(np.arange(N), 2)):
        paths.append(str(tmp_path / f"{number}.parquet"))
        pq.write_table(pa.table({"row": rows, "label": LABELS[rows]}), paths[-1], row_group_size=100)
    return paths


def read(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    return table["label"].to_numpy(), table["row"].to_numpy()


def from_files(files: list[str], **options: Any) -> ParquetClassBatches:
    sizes = {"classes": 4, "examples": 3, "buffer_rows": 120, "block_rows": 32, "mixed": 2, "seed": 9}
    return ParquetClassBatches(files, ["label", "row"], read, **{**sizes, **options})


def test_parquet_is_streamed_each_row_at_most_once_an_epoch(files: list[str]) -> None:
    data = from_files(files)
    epochs = [list(data) for _ in range(2)]
    for epoch in epochs:
        rows = np.concatenate([x for x, _ in epoch])
        assert len(rows) == len(set(rows)) > 0.9 * N
        assert all((LABELS[x] == y).all() for x, y in epoch)
    assert any((a[0] != b[0]).any() for a, b in zip(*epochs, strict=False))
    for a, b in zip(epochs[0], from_files(files), strict=True):
        assert (a[0] == b[0]).all()


def test_parquet_is_read_in_blocks(files: list[str]) -> None:
    sizes = []

    def spy(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        sizes.append(len(table))
        return read(table)

    data = from_files(files)
    data.read = spy
    list(data)
    assert max(sizes) <= 32
    assert sum(sizes) == N


def test_parquet_as_a_dataset_is_the_same_epochs(files: list[str]) -> None:
    dataset = from_files(files).dataset()
    plain = from_files(files)
    for _ in range(2):
        for (a, b), (c, d) in zip(dataset.as_numpy_iterator(), plain, strict=True):
            assert (a == c).all()
            assert (b == d).all()


def test_a_missing_column_is_explained(files: list[str]) -> None:
    with pytest.raises(InputError, match="must have the columns label, image, got row, label"):
        next(iter(ParquetClassBatches(files, ["label", "image"], read)))
