"""Setting up TensorFlow: memory growth on a GPU, repeatable operations where asked for."""

import tensorflow as tf

from topkin.ending import shortage


def set_up(*, deterministic: bool = False) -> str:
    """Prepare TensorFlow once per process; returns the device that it will use, ``GPU`` or ``CPU``.

    A GPU's memory is taken as needed, not all at once. ``deterministic`` makes the same seed give the same
    weights on one machine, for the whole process. Raises ResourceError where ``ulimit -v`` leaves too few addresses.
    """
    shortage.check_addresses(shortage.OF_TENSORFLOW)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # TensorFlow runs already: growth was set, or is fixed now
            break
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    return "GPU" if gpus else "CPU"
