"""One at a time in an output folder, whoever dies, stands still or comes from another machine."""

import json
import multiprocessing
import os
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.artifacts.processes import at_once, forks, started
from topkin.artifacts import lock, storage
from topkin.errors import BusyError


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path)


def hold_until_killed(root: str) -> None:
    with lock.hold(root, "topkin run as of 2024-05-01") as held:
        held.renew(run_id="2024-05-01-abc")
        signal.pause()


def holder(root: str):
    """A process that holds the lock and does not end."""
    process = started(hold_until_killed, root)
    while not (seen := lock.holder_of(root)) or seen["run_id"] is None:
        assert process.is_alive()
    return process


def change(root: str, **values: object) -> None:
    """Write another content into the lock, as another machine would."""
    path = storage.join(root, lock.NAME)
    storage.write_json({**storage.read_json(path), **values}, path)


def later(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_second_process_is_told_who_is_at_work_and_finds_it_free_when_that_one_is_killed(root):
    first = holder(root)
    who = (
        f"topkin run as of 2024-05-01 \\(run 2024-05-01-abc\\) by .*, process {first.pid} on .* since .*--wait SECONDS"
    )
    with pytest.raises(BusyError, match=who) as busy, lock.hold(root, "another"):
        pass
    assert busy.value.exit_code == 5
    first.kill()
    first.join()
    with lock.hold(root, "another"):
        assert lock.holder_of(root)["pid"] == os.getpid()
    assert lock.holder_of(root) is None
    assert [name for name in os.listdir(root) if not name.startswith(".")] == []


def test_a_process_that_ended_and_is_not_waited_for_holds_nobody_up(root):
    first = multiprocessing.get_context("spawn").Process(target=hold_until_killed, args=(root,))  # of this process
    first.start()
    while not (lock.holder_of(root) or {}).get("run_id"):
        assert first.is_alive()
    os.kill(first.pid, signal.SIGKILL)
    while lock.alive(first.pid):
        pass
    with lock.hold(root, "another"):
        pass
    first.join()


def test_the_same_thread_may_hold_it_again_and_another_may_not(root):
    collected = []

    def another() -> None:
        try:
            with lock.hold(f"{root}/", "another"):
                collected.append("held")
        except BusyError:
            collected.append("busy")

    with lock.hold(root, "one") as held:
        with lock.hold(f"{root}/", "two") as again:
            assert again is held
        thread = threading.Thread(target=another)
        thread.start()
        thread.join()
        assert lock.holder_of(root)["what"] == "one"
    assert collected == ["busy"]


def test_it_is_given_back_when_the_work_fails(root):
    with pytest.raises(ValueError, match="no luck"), lock.hold(root, "one"):
        raise ValueError("no luck")
    assert lock.holder_of(root) is None


def test_who_waits_comes_next(root, caplog):
    first = holder(root)
    threading.Timer(0.2, first.kill).start()
    with lock.hold(root, "another", wait=600):
        assert lock.holder_of(root)["what"] == "another"
    first.join()
    assert "waiting up to 600 s for topkin run as of 2024-05-01" in caplog.text
    assert "took over from topkin run as of 2024-05-01" in caplog.text


@pytest.mark.parametrize(
    ("values", "taken"),
    [
        ({"machine": "another", "expires": later(86_400)}, False),  # nothing is known of its processes
        ({"machine": "another", "expires": later(-1)}, True),
        ({"expires": later(-1)}, True),  # alive, and stands still
        ({"started": "1"}, True),  # its number is another process by now
        ({"pid": 2**22 + 1}, True),
        ({}, False),
    ],
)
def test_a_lock_is_taken_over_when_it_expired_or_its_process_is_no_more(root, values, taken):
    with lock.hold(root, "one"):
        change(root, **values)
        other = lock.Lock(storage.join(root, lock.NAME), "other")
        seen = other.take()
        assert (seen is None) == taken
        assert (lock.holder_of(root) or {}).get("what") == ("other" if taken else "one")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"expires": 3}', "\x00"])
def test_a_damaged_lock_holds_nobody_up(root, text):
    Path(root, lock.NAME).write_text(text)
    assert lock.holder_of(root) is None
    with lock.hold(root, "one"):
        assert lock.holder_of(root)["what"] == "one"


def test_who_lost_it_writes_nothing_more_and_leaves_the_new_one_alone(root):
    with lock.hold(root, "one"):
        lock.check(root)
        change(root, expires=later(-1))
        other = lock.Lock(storage.join(root, lock.NAME), "other")
        assert other.take() is None
        with pytest.raises(BusyError, match=r"lost its lock, to other by .*nothing more was written"):
            lock.check(root)
    assert lock.holder_of(root)["what"] == "other"
    lock.check(root)  # who holds none is asked for none


def test_a_renewal_that_was_written_and_reported_as_failed_is_still_ours(root):
    with lock.hold(root, "one"):
        change(root, beat="written, then the disk failed")
        lock.check(root)
        assert lock.holder_of(root)["what"] == "one"


def test_it_is_renewed_while_the_work_goes_on(root, monkeypatch):
    monkeypatch.setattr(lock, "RENEWAL", 0.01)
    with lock.hold(root, "one"):
        first = lock.holder_of(root)["beat"]
        while lock.holder_of(root)["beat"] == first:
            time.sleep(0.01)
        while not lock._held.get()[root].lost:
            change(root, nonce="somebody else's")
            time.sleep(0.01)


def _take_once(root, barrier, won) -> None:
    mine = lock.Lock(storage.join(root, lock.NAME), "one of twenty")
    barrier.wait()
    if mine.take() is None:
        with won.get_lock():
            won.value += 1
    barrier.wait()  # nobody ends before all have asked, or its lock would be free


def test_of_twenty_who_find_an_expired_lock_one_takes_it(root):
    for _ in range(2):
        with lock.hold(root, "one"):
            change(root, expires=later(-1))
            barrier, won = forks.Barrier(20), forks.Value("i", 0)
            assert at_once([(_take_once, root, barrier, won)] * 20) == [0] * 20
            assert won.value == 1


def _work(root, times) -> None:
    lock.POLL = 0.002
    for _ in range(times):
        with lock.hold(root, "counting", wait=600):
            path = Path(root, "count")
            n = int(path.read_text()) if path.exists() else 0
            time.sleep(0.001)
            path.write_text(str(n + 1))  # torn or lost if two were here


def test_of_many_who_work_in_turn_and_of_whom_some_are_killed_no_two_work_at_once(root):
    doomed = holder(root)
    workers = [started(_work, root, 5) for _ in range(10)]
    doomed.kill()
    doomed.join()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 10
    assert Path(root, "count").read_text() == "50"


def test_a_user_without_a_name_is_a_number(root, monkeypatch):
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(lock.getpass, "getuser", nobody)
    with lock.hold(root, "one"):
        content = json.loads(Path(root, lock.NAME).read_text())
        assert content["user"] == str(os.getuid())
        assert content["host"]
