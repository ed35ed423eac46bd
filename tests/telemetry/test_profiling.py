"""Measuring work: seconds, bytes and memory of what is done inside, and of nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from topkin.telemetry import profiling


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the bytes are told by Linux")
def test_bytes_read_and_written_are_those_of_the_work(tmp_path: Path) -> None:
    (tmp_path / "before").write_bytes(bytes(5_000_000))
    with profiling.measure_usage() as usage:
        (tmp_path / "a").write_bytes(bytes(3_000_000))
        (tmp_path / "a").read_bytes()
        (tmp_path / "a").read_bytes()
    assert 3_000_000 <= usage.bytes_written < 3_200_000
    assert 6_000_000 <= usage.bytes_read < 6_200_000


def test_the_peak_is_that_of_the_work_and_not_of_what_was_before() -> None:
    # In a process of its own: one that ran other tests holds freed memory, which an allocation takes up again.
    script = """
import numpy as np
from topkin.telemetry.profiling import measure_usage
first = np.ones(40_000_000)
del first
with measure_usage() as small:
    pass
with measure_usage() as large:
    second = np.ones(20_000_000)
    del second
print(small.peak_bytes, large.peak_bytes)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    small, large = map(int, done.stdout.split())
    if Path("/proc/self/clear_refs").exists():
        assert 150e6 < large - small < 200e6
    assert large >= small > 0


def test_processes_that_the_work_waited_for_count_as_its_own() -> None:
    script = "import time; began = time.process_time()\nwhile time.process_time() < began + .3: pass"
    with profiling.measure_usage() as usage:
        subprocess.run([sys.executable, "-c", script], check=True)
    assert usage.seconds >= 0.3
    assert 0.3 <= usage.cpu_seconds < 2


def test_steps_go_to_what_is_being_measured_also_when_it_fails() -> None:
    step = {"step": "Read", "rows": 3, "bytes": 24, "milliseconds": 1}
    profiling.record_steps([step])
    usages = []

    def fail() -> None:
        with profiling.measure_usage() as usage:
            usages.append(usage)
            profiling.record_steps([step])
            raise ValueError("no luck")

    with profiling.measure_usage() as outer, pytest.raises(ValueError, match="no luck"):
        fail()
    assert outer.steps == usages[0].steps == [step]
    assert outer.to_json()["steps"] == [step]
    assert usages[0].seconds <= outer.seconds
