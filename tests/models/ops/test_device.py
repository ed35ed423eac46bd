import pytest
import tensorflow as tf
from tensorflow.python.framework import config

from topkin.models.ops import device


@pytest.mark.parametrize("before", [False, True])
def test_operations_are_repeatable_within_and_afterwards_as_they_were(before):
    if before:
        tf.config.experimental.enable_op_determinism()
    try:
        with device.repeatable():
            assert config.is_op_determinism_enabled()
            with device.repeatable():
                pass
            assert config.is_op_determinism_enabled()
        assert config.is_op_determinism_enabled() == before
    finally:
        config.disable_op_determinism()
    assert tf.random.uniform((3,)).shape == (3,)  # without a seed, which is refused within


@device.repeatable()
def fails():
    raise ValueError("no luck")


def test_a_failure_within_leaves_them_as_they_were():
    with pytest.raises(ValueError, match="no luck"):
        fails()
    assert not config.is_op_determinism_enabled()
