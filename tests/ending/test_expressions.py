"""Expressions of users have limits: they are interrupted, or the process ends with a message."""

import subprocess
import sys
import textwrap
import threading
import time

import pytest

from topkin.ending.expressions import ExceededError, Limits, within


def test_work_within_its_limits_is_left_alone() -> None:
    with within(Limits(60, 60), lambda: pytest.fail("interrupted")):
        time.sleep(0.2)
    with pytest.raises(KeyError), within(Limits(60, 60), lambda: None):
        raise KeyError("its own error")


@pytest.mark.parametrize(("limits", "what"), [(Limits(0.1, 60), "seconds"), (Limits(60, 0.02), "memory")])
def test_work_over_a_limit_is_interrupted_and_told(limits: Limits, what: str) -> None:
    interrupted, held = threading.Event(), []

    def work() -> None:
        while not interrupted.wait(0.01):
            held.append(bytearray(b"x" * 1_000_000))
        raise RuntimeError("interrupted")

    with pytest.raises(ExceededError) as raised, within(limits, interrupted.set):
        work()
    assert raised.value.what == what
    assert f"prepare.rule_{what}" in limits.exceeded(what, 7)


def test_a_process_ends_with_a_message_where_one_row_takes_all_memory() -> None:
    script = """
    import resource
    import pyarrow as pa
    from topkin.ending import signals
    from topkin.ending.expressions import Limits
    from topkin.ingest.sql import Expression
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    with signals.by_signals():
        rows = pa.table({"n": [1, 2, 3, 4, 5, 6, 7]})
        bomb = "length(repeat('topkin', 80_000_000 + n)) > 0"
        Expression("purchases.rules.bomb", bomb, Limits(60, 0.2)).evaluate(rows)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert "takes more than 0.2 GB (prepare.rule_memory)" in done.stderr
    assert done.returncode in (1, 2)  # raised where the engine looked in time, else ended
