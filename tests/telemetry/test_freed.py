import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from topkin.telemetry.freed import give_back, tensors_by_c_library

VARIABLE = "TF_ONEDNN_USE_SYSTEM_ALLOCATOR"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_was_freed_goes_back_to_the_system():
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) << 12

    pieces = [np.ones(8_000, np.uint8) for _ in range(20_000)]  # of the heap, 160 MB
    kept = pieces[::1000]
    held = resident()
    del pieces
    give_back()
    assert resident() < held - (100 << 20)
    del kept  # until here, so that what is free lies between what is not


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_within_tensors_go_back_to_the_system_and_without_they_stay():
    script = """
import sys
from contextlib import nullcontext
from pathlib import Path

from topkin.telemetry.freed import give_back, tensors_by_c_library


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) << 12


with tensors_by_c_library() if sys.argv[1] == "within" else nullcontext():
    import tensorflow as tf

    before = resident()
    x = tf.zeros([50_000_000]) + tf.ones([])
    held = resident() - before
    del x
    give_back()
    print((resident() - before) / held)
"""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TF_ONEDNN")}
    left = {}
    for where in ("within", "without"):
        command = [sys.executable, "-c", script, where]
        left[where] = float(subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout)
    assert left["within"] < 0.5
    assert left["within"] < left["without"]


@pytest.mark.parametrize(("before", "within"), [(None, "1"), ("0", "0")])
def test_what_the_environment_says_of_tensors_stays(before, within, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    if before is not None:
        monkeypatch.setenv(VARIABLE, before)
    with tensors_by_c_library():
        assert os.environ[VARIABLE] == within
    assert os.environ.get(VARIABLE) == before
