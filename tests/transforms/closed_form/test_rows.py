"""Rows of items that workers leave for each other: what is read is what was written, by whatever blocks and strips."""

import numpy as np
import pytest

from topkin.encoding.spectral_blocks import blocks_of, rows_of_block
from topkin.encoding.strips import joined, split, strips_of
from topkin.transforms.closed_form.arrays import open_arrays, read_arrays, write_arrays
from topkin.transforms.closed_form.rows import add_block, by_block, rows_of, strips_of_items

N_ITEMS, WIDTH = 70, 130


@pytest.fixture
def whole():
    return np.random.default_rng(0).standard_normal((N_ITEMS, WIDTH), dtype=np.float32)


def test_arrays_are_read_as_they_were_written(tmp_path):
    path, some = str(tmp_path / "a.arrays"), [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((4, 1), np.float32)]
    write_arrays(path, odd=np.arange(3, dtype=np.int8), several=some[::-1], T=np.eye(3), turned=some[0].T)
    arrays = read_arrays(path)
    assert arrays["odd"].tolist() == [0, 1, 2]
    assert arrays["several"].tolist() == [1, 1, 1, 1, 0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(arrays["T"], np.eye(3))
    np.testing.assert_array_equal(arrays["turned"], some[0].T)
    assert all(array.flags.aligned for array in arrays.values())
    with open_arrays(path) as opened:
        assert "other" not in opened
        for name, array in arrays.items():
            np.testing.assert_array_equal(opened[name], array)


@pytest.mark.parametrize("items", [[0], [3, 4, 69], list(range(20, 55)), list(range(N_ITEMS))])
def test_rows_of_items_come_from_the_blocks_that_hold_them_alone(small_blocks, whole, items):
    read, items = [], np.array(items)

    def block(number):
        read.append(number)
        return whole[rows_of_block(number, N_ITEMS)]

    np.testing.assert_array_equal(rows_of(items, N_ITEMS, block), whole[items])
    rows, read = read, []
    room = np.full(N_ITEMS * WIDTH, np.nan, np.float32)
    flat = lambda number: np.concatenate([strip.reshape(-1) for strip in strips_of(block(number))])  # noqa: E731
    strips = strips_of_items(items, N_ITEMS, flat, lambda size: room[:size])
    np.testing.assert_array_equal(joined(strips), whole[items])
    assert np.shares_memory(strips[0], room)
    holds = [rows_of_block(number, N_ITEMS) for number in read]
    assert read == rows == sorted(set(read))
    assert all(((items >= r.start) & (items < r.stop)).any() for r in holds)


def test_a_block_is_the_sum_of_what_parts_add(small_blocks, whole, tmp_path):
    rng, paths = np.random.default_rng(1), []
    expected, counts = np.zeros_like(whole), np.zeros(N_ITEMS)
    for part, size in enumerate((0, 5, 40, N_ITEMS)):
        items = np.sort(rng.permutation(N_ITEMS)[:size])
        values = rng.standard_normal((size, WIDTH), dtype=np.float32)
        expected[items] += values
        counts[items] += 1
        paths.append(str(tmp_path / f"{part}.arrays"))
        write_arrays(paths[-1], **by_block(items, N_ITEMS, Y=strips_of(values), n=np.ones(size)))
    for number in range(blocks_of(N_ITEMS)):
        rows = rows_of_block(number, N_ITEMS)
        size = rows.stop - rows.start
        strips, n = split(np.zeros(size * WIDTH, np.float32), size), np.zeros(size)
        add_block(paths[::-1], number, {"Y": strips, "n": n})  # in the order of their names all the same
        assert joined(strips).tobytes() == expected[rows].tobytes()
        assert n.tolist() == counts[rows].tolist()
