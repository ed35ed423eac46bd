"""Setting up TensorFlow: memory growth on a GPU, repeatable operations where asked for."""

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf
from tensorflow.python.framework import config

from topkin.ending import shortage


def set_up() -> str:
    """Prepare TensorFlow once per process; returns the device that it will use, ``GPU`` or ``CPU``.

    A GPU's memory is taken as needed, not all at once. Raises ResourceError where ``ulimit -v`` leaves too few
    addresses.
    """
    shortage.check_addresses(shortage.OF_TENSORFLOW)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # TensorFlow runs already: growth was set, or is fixed now
            break
    return "GPU" if gpus else "CPU"


@contextmanager
def repeatable() -> Iterator[None]:
    """Operations by which the same seed gives the same weights on one machine.

    They are as they were afterwards: a process that trained has code of its own, maybe with random operations that have
    no seed, which such a TensorFlow refuses. TensorFlow has no public name for that.
    """
    before = config.is_op_determinism_enabled()
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        if not before:
            config.disable_op_determinism()
