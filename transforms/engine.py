"""What a worker multiplies with: a GPU or the processor's bfloat16 through TensorFlow, otherwise NumPy's BLAS.

Lists and scores are the same to the last bit whatever multiplies: see ``topkin.models.ops.topk``.
"""

import os
import sys
from functools import cache
from pathlib import Path

from topkin.search.kernels import BLAS, Engine

FEWEST, MOST = 1 << 20, 1 << 27
"""Coordinates of all items from which on TensorFlow is worth its calls, and up to which a copy in bfloat16 is small."""
CPU = Path("/proc/cpuinfo")
_BFLOAT16 = {"avx512_bf16", "amx_bf16"}


def engine(coordinates: int = 0) -> Engine:
    """The engine for :func:`topkin.search.topk.top_k`.

    TensorFlow is imported only where there is a GPU's driver. On a processor that multiplies bfloat16 it is taken where
    the process has it already, as a run that trained or embedded has, and the items are neither few nor very many.

    Args:
        coordinates: Of all items that are searched; 0 where they are not known to fit twice.
    """
    if _on_gpu():
        return _tensorflow()
    fits = FEWEST <= coordinates <= MOST
    return _tensorflow() if fits and "tensorflow" in sys.modules and multiplies_bfloat16(CPU) else BLAS


@cache
def multiplies_bfloat16(cpu: Path) -> bool:
    """Whether a processor has instructions for it, by what Linux says of it in a file; False on other systems."""
    if not cpu.exists():
        return False
    flags = next((line for line in cpu.read_text().splitlines() if line.startswith("flags")), "")
    return not _BFLOAT16.isdisjoint(flags.split())


@cache
def _on_gpu() -> bool:
    if not os.path.exists("/dev/nvidiactl"):
        return False
    from topkin.models.ops.topk import gpu_visible

    return gpu_visible()


@cache
def _tensorflow() -> Engine:
    from topkin.models.ops.topk import tensorflow_engine

    return tensorflow_engine()
