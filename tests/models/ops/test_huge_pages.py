"""Tables keep what they hold on pages of 2 MB."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from topkin.models.ops.huge_pages import on_huge_pages, whole_pages

PAGE = 1 << 21


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 30))
def test_whole_pages_are_those_that_nothing_else_is_on(address, size):
    first, whole = whole_pages(address, size)
    assert first % PAGE == whole % PAGE == 0
    assert whole == 0 or address <= first < first + whole <= address + size
    assert size - whole < 2 * PAGE


def test_a_table_holds_the_same_and_takes_updates_in_place():
    values = np.random.default_rng(0).random((40_000, 64), np.float32)
    table = tf.Variable(values)
    on_huge_pages(table.read_value())
    table.scatter_update(tf.IndexedSlices(tf.ones((1, 64)), [3]))
    values[3] = 1
    np.testing.assert_array_equal(table.numpy(), values)
    assert not on_huge_pages(tf.constant([1.0]))  # not a page
