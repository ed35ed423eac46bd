import os
import subprocess
import sys

import pytest

from topkin.search.kernels import BLAS
from topkin.transforms.engine import engine


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="this machine has a GPU's driver")
def test_without_a_gpu_numpy_multiplies_and_tensorflow_stays_away():
    assert engine() is BLAS
    code = "import sys; from topkin.transforms.engine import engine; engine(); assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
