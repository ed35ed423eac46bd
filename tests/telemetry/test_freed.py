import sys
from pathlib import Path

import numpy as np
import pytest

from topkin.telemetry.freed import give_back


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
