"""A share of ``benchmarks/faults/flips.py``: damage to any file of a version is told by whoever reads it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_no_damaged_file_crashes_a_reader_or_changes_an_answer_unseen(night) -> None:
    # a process of its own: it forks, which one that holds TensorFlow should not
    command = [sys.executable, "-m", "benchmarks.faults.flips", "--config", str(night.config), "--faults", "12"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 faults, 156 reads" in done.stdout  # by thirteen readers each
