"""Stages that would never end: each is ended with a reason."""

import subprocess
import sys
import threading
import time

import pytest

from topkin.ending import watch, workers
from topkin.errors import ConfigError, ResourceError, TopkinError

LONG = 60.0


def wait(seconds: float = LONG) -> None:
    """Wait as Python code does; an end comes in between."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


def wait_for(thread: threading.Thread) -> None:
    """A stage that starts a thread, and waits for more than it gives."""
    with watch.watched("embed", "out"):
        thread.start()
        wait()


def test_a_stage_over_its_time_ends() -> None:
    over = r"train took longer than run\.timeout, 0\.001m: raise run\.timeout"
    with pytest.raises(ResourceError, match=over), watch.watched("train", "out", 0.06):
        wait()
    with watch.watched("train", "out", LONG):
        pass  # one that is quick does not


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-9, "ended by SIGKILL"),
        (137, "ended by SIGKILL"),
        (-11, "ended by SIGSEGV"),
        (3, "with exit code 3"),
    ],
)
def test_a_thread_that_hears_of_a_dead_worker_ends_the_stage(code: int, words: str) -> None:
    def hears() -> None:
        raise RuntimeError(f"Worker subprocess exited with return code {code}")  # what Beam's thread raises

    thread = threading.Thread(target=hears)
    with pytest.raises(ResourceError, match=f"embed cannot go on: a worker process .*{words}"):
        wait_for(thread)


@pytest.mark.parametrize(
    ("error", "words"),
    [(MemoryError(), "the memory is full"), (RuntimeError("can't start new thread"), "no more threads")],
)
def test_a_thread_that_dies_of_want_ends_the_stage(error: Exception, words: str) -> None:
    def dies() -> None:
        raise error

    thread = threading.Thread(target=dies)
    with pytest.raises(ResourceError, match=f"embed cannot go on: {words}"):
        wait_for(thread)


def test_other_deaths_of_threads_are_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))

    def dies() -> None:
        raise KeyError("x")

    with watch.watched("embed", "out"):
        thread = threading.Thread(target=dies)
        thread.start()
        thread.join()
    assert seen == [KeyError]


@pytest.mark.parametrize("error", [ConfigError("wrong"), TopkinError("no"), ValueError("other")])
def test_other_errors_go_through(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, watch.watched("embed", "out"):
        raise error
    assert raised.value is error


def test_what_ran_out_is_told_with_the_stage() -> None:
    with pytest.raises(ResourceError, match=r"^embed cannot go on: the memory is full"), watch.watched("embed", "out"):
        raise MemoryError


def stand_still() -> None:
    """A pipeline that waits for what never comes."""
    with watch.watched("embed", "out"), watch.never_idle("a pipeline", 0.5):
        threading.Event().wait(LONG)


def test_work_that_stands_still_ends_and_work_that_goes_on_does_not() -> None:
    with pytest.raises(ResourceError, match=r"a pipeline has done nothing for 0\.5 seconds"):
        stand_still()
    with watch.watched("embed", "out"), watch.never_idle("a pipeline", 0.5):
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            sum(range(1000))


def test_the_work_of_child_processes_counts() -> None:
    busy = [sys.executable, "-c", "import time; until = time.time() + 1.5\nwhile time.time() < until: pass"]
    with watch.watched("embed", "out"), watch.never_idle("a pipeline", 0.5):
        assert subprocess.run(busy, check=False).returncode == 0


def test_beams_workers_are_found_and_ended() -> None:
    name = workers.WORKER.decode()
    shell = subprocess.Popen(["/bin/sh", "-c", f"sleep 1000; : {name}"])
    other = subprocess.Popen(["sleep", "1000"])
    try:
        while shell.pid not in workers.workers():  # until the shell has taken the place of the fork
            time.sleep(0.01)
        assert {shell.pid, other.pid} <= set(workers.descendants())
        assert other.pid not in workers.workers()
        workers.end_workers()
        assert shell.wait(LONG) == -9
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize(("seconds", "text"), [(90, "1.5m"), (3600, "1h"), (5400, "1.5h"), (60, "1m")])
def test_spans_are_spelled_as_in_a_configuration(seconds: float, text: str) -> None:
    assert watch.spelled(seconds) == text
