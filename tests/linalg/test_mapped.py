import gc

import numpy as np
import pytest

from topkin.linalg.mapped import mapped


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (5,)])
def test_an_array_on_disk_starts_at_zero_and_holds_what_is_written(shape, dtype):
    array, values = mapped(shape, dtype), np.random.default_rng(0).random(shape).astype(dtype) + dtype(1)
    assert array.dtype == dtype
    assert type(array) is np.ndarray
    assert not array.any()
    array[:] = values
    gc.collect()
    assert array.tolist() == values.tolist()
