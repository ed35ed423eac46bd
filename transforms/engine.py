"""What a worker multiplies with: its GPU, where it has one that TensorFlow can use, otherwise NumPy's BLAS."""

import os
from functools import cache

from topkin.search.kernels import BLAS, Engine


@cache
def engine() -> Engine:
    """The engine for :func:`topkin.search.topk.top_k`; TensorFlow is imported only where there is a GPU's driver."""
    if not os.path.exists("/dev/nvidiactl"):
        return BLAS
    from topkin.models.ops.topk import gpu_visible, tensorflow_engine

    return tensorflow_engine() if gpu_visible() else BLAS
