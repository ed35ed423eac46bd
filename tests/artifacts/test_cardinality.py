"""Counting distinct ids: exact while they are few, near when they are many."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts.cardinality import KEPT, Distinct


@given(st.lists(st.lists(st.none() | st.integers(-50, 50))))
def test_few_are_counted_exactly_however_they_come(batches):
    distinct = Distinct()
    for batch in batches:
        distinct.add(pa.array(batch, pa.int64()))
    assert distinct.count() == len({i for batch in batches for i in batch} - {None})


@pytest.mark.parametrize("n", [KEPT - 1, KEPT, KEPT + 1, 20_000, 300_000])
@pytest.mark.parametrize("kind", [pa.int32(), pa.string(), pa.binary()], ids=str)
def test_many_are_counted_within_five_percent(n, kind):
    ids = np.arange(n) * 7
    column = pa.array(ids).cast(pa.string()).cast(kind) if kind != pa.int32() else pa.array(ids, kind)
    distinct = Distinct()
    for start in range(0, n, 9_999):
        distinct.add(column.slice(start, 9_999))
    distinct.add(column.slice(0, 500))
    assert abs(distinct.count() / n - 1) < (0.05 if n >= KEPT else 1e-9)
