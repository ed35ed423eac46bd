import os
import subprocess
import sys

import numpy as np
import pytest

from topkin.linalg.cosine import unit_rows
from topkin.search.kernels import BLAS
from topkin.search.topk import top_k
from topkin.transforms import engine as engines
from topkin.transforms.engine import FEWEST, MOST, engine, multiplies_bfloat16

without_gpu = pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="this machine has a GPU's driver")


@without_gpu
def test_without_a_gpu_numpy_multiplies_and_tensorflow_stays_away():
    assert engine() is BLAS
    code = (
        "import sys; from topkin.search.kernels import BLAS; from topkin.transforms.engine import FEWEST, engine; "
        "assert engine() is engine(FEWEST) is BLAS; assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@without_gpu
@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16", "avx2"])
def test_a_processor_that_multiplies_bfloat16_does_so_where_tensorflow_is_there_already(tmp_path, monkeypatch, flag):
    pytest.importorskip("tensorflow")
    cpu = tmp_path / "cpuinfo"
    cpu.write_text(f"processor\t: 0\nflags\t\t: fpu {flag} sse\nbugs\t\t: none\n")
    monkeypatch.setattr(engines, "CPU", cpu)
    assert multiplies_bfloat16(cpu) == (flag != "avx2")
    assert not multiplies_bfloat16(tmp_path / "none")
    assert (engine(FEWEST) is BLAS) == (engine(MOST) is BLAS) == (flag == "avx2")
    assert engine(FEWEST - 1) is engine(MOST + 1) is BLAS


def test_the_engine_of_a_processor_gives_the_lists_of_numpys(monkeypatch):
    pytest.importorskip("tensorflow")
    monkeypatch.setattr(engines, "multiplies_bfloat16", lambda cpu: True)
    rng = np.random.default_rng(0)
    queries, items = (unit_rows(rng.standard_normal((n, 32), dtype=np.float32)) for n in (300, FEWEST // 32))
    items[1::2] *= rng.pareto(2, len(items) // 2).astype(np.float32)[:, None]
    items[100:200] = items[:100]  # equal scores
    assert engine(items.size) is not BLAS
    for one, other in zip(top_k(queries, items, 20, engine=engine(items.size)), top_k(queries, items, 20), strict=True):
        np.testing.assert_array_equal(one, other)
