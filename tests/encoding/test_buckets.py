"""Rows go into batches of a few widths: each once, nowhere too narrow, and with little to fill up."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.encoding.buckets import history_lengths, in_buckets, of_width
from topkin.encoding.signature import EncoderInput

WIDTHS = (8, 16, 32, 64)
HISTORY = EncoderInput(name="h", column="h", kind="history", dtype="int64", shape=(64,), buckets=WIDTHS)


@given(st.lists(st.integers(0, 64), max_size=60), st.integers(1, 9))
def test_every_row_is_in_one_batch_that_is_wide_enough(lengths: list[int], size: int) -> None:
    batches = list(in_buckets(np.array(lengths, np.int64), size, WIDTHS))
    assert sorted(row for rows, _ in batches for row in rows) == list(range(len(lengths)))
    assert all(0 < len(rows) <= size for rows, _ in batches)
    assert all(lengths[row] <= width for rows, width in batches for row in rows)
    assert [width for _, width in batches] == sorted(width for _, width in batches)


@given(st.lists(st.integers(0, 64), min_size=1, max_size=60), st.integers(1, 9))
def test_filling_up_costs_no_more_than_a_batch_of_each_width(lengths: list[int], size: int) -> None:
    counts = np.bincount(np.searchsorted(WIDTHS, lengths), minlength=len(WIDTHS))
    apart = int((-(-counts // size) * size * WIDTHS).sum())
    worked = sum(size * width for _, width in in_buckets(np.array(lengths), size, WIDTHS))
    assert worked <= apart


@pytest.mark.parametrize("pad", ["after", "before"])
@pytest.mark.parametrize("text", [False, True])
@given(lengths=st.lists(st.integers(0, 64), min_size=1, max_size=9))
def test_lengths_are_those_before_the_padding_and_a_width_keeps_all_values(
    lengths: list[int], pad: str, text: bool
) -> None:
    spec = replace(HISTORY, pad=pad)
    rows = np.full((len(lengths), 64), b"" if text else 0, object if text else np.int64)
    for row, length in zip(rows, lengths, strict=True):
        row[slice(length) if pad == "after" else slice(64 - length, 64)] = b"i" if text else 3
    assert history_lengths([spec], {"h": rows}).tolist() == lengths
    width = max(8, *lengths) if len(lengths) > 1 else max(8, lengths[0])
    cut = of_width(spec, rows, width)
    assert cut.shape == (len(lengths), width)
    assert (cut == (b"i" if text else 3)).sum(axis=1).tolist() == lengths


def test_the_longest_of_several_histories_counts_and_other_inputs_are_as_they_are() -> None:
    other = replace(HISTORY, name="o", shape=(16,), buckets=(8, 16))
    price = EncoderInput(name="p", column="p", kind="number", dtype="float32", shape=(2,))
    feeds = {"h": np.zeros((2, 64), int), "o": np.zeros((2, 16), int), "p": np.ones((2, 2))}
    feeds["h"][0, 4] = feeds["o"][0, 2] = feeds["o"][1, 9] = 1
    assert history_lengths([HISTORY, other, price], feeds).tolist() == [5, 10]
    assert of_width(price, feeds["p"], 8) is feeds["p"]
    assert of_width(other, feeds["o"], 32).shape == (2, 16)
