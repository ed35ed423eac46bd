"""Jobs that are asked to end: what is half made goes, the reason is told, whatever the main thread is doing."""

import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from topkin.ending import signals
from topkin.errors import ResourceError


def run(script: str, tmp_path: Path, *numbers: int) -> tuple[int, str, str]:
    """Run a script, send signals when it says that it is ready; its exit code, stdout and stderr."""
    head = (
        "import sys, time, os\nfrom topkin.ending import signals\n"
        f"half = {str(tmp_path / 'half')!r}\n"
        "def remove():\n    os.path.exists(half) and os.rmdir(half)\n"
    )
    command = [sys.executable, "-c", head + textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.2)
        out, err = process.communicate()
    return process.returncode, out, err


JOB = """
from topkin.pipelines.cli import errors
def work():
    os.mkdir(half)
    with signals.half_made(remove):
        signals.goes_on_after("prepare")
        signals.goes_on_after_part("the last epoch")
        import threading
        threading.Timer(0.5, print, ["ready"], dict(flush=True)).start()  # when the main thread is at its work
        {busy}
with signals.by_signals({grace}):
    try:
        with errors.exit_on_error():
            work()
    except SystemExit as e:
        signals.leave("", e.code)
"""
AFTER = ": the same command goes on after prepare, the last epoch\n"


@pytest.mark.parametrize(("number", "code", "why"), [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")])
def test_a_signal_ends_a_job_that_waits_and_removes_what_is_half_made(
    number: int, code: int, why: str, tmp_path: Path
) -> None:
    script = JOB.format(busy="import threading; threading.Lock().acquire() and threading.Event().wait()", grace=60)
    assert run(script, tmp_path, number) == (code, "", f"topkin: stopped by {why}{AFTER}")
    assert not (tmp_path / "half").exists()


LOCKED = "import ctypes; c = ctypes.CDLL(None); m = ctypes.create_string_buffer(64); " + (
    "[c.pthread_mutex_lock(m) for _ in (1, 2)]"
)
"""The main thread inside a library, from which no signal brings it back."""


def test_a_main_thread_in_the_code_of_a_library_is_left_after_the_grace(tmp_path: Path) -> None:
    assert run(JOB.format(busy=LOCKED, grace=0.5), tmp_path, signal.SIGTERM) == (
        143,
        "",
        f"topkin: stopped by SIGTERM{AFTER}",
    )
    assert not (tmp_path / "half").exists()


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    assert run(JOB.format(busy=LOCKED, grace=1000), tmp_path, signal.SIGTERM, signal.SIGTERM) == (143, "", "")


def test_a_thread_that_never_ends_does_not_keep_the_process(tmp_path: Path) -> None:
    busy = "import threading; threading.Thread(target=threading.Event().wait).start(); time.sleep(1000)"
    assert run(JOB.format(busy=busy, grace=60), tmp_path, signal.SIGTERM)[0] == 143


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    with signals.by_signals():
        assert [signal.getsignal(number) for number in signals.SIGNALS] != before
    assert [signal.getsignal(number) for number in signals.SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("main", [True, False])
def test_a_reason_of_ours_ends_a_job_in_any_thread(main: bool) -> None:
    caught: list[BaseException] = []

    def work() -> None:
        try:
            with signals.job():
                threading.Timer(0.1, signals.end, [ResourceError("the time is over")]).start()
                for _ in range(3000):
                    time.sleep(0.01)
        except ResourceError as e:
            caught.append(e)

    if main:
        work()
    else:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert [str(e) for e in caught] == ["the time is over"]
    assert not signals.asked()


def test_a_job_ends_where_its_process_was_started_to_ignore_ctrl_c() -> None:
    text = (
        "import signal, threading, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from topkin.ending import signals\nfrom topkin.errors import ResourceError\n"
        "try:\n    with signals.job():\n"
        "        threading.Timer(0.1, signals.end, [ResourceError('the time is over')]).start()\n"
        "        for _ in range(6000):\n            time.sleep(0.01)\n"
        "except ResourceError as e:\n    print(e)"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("the time is over\n", "")


def test_an_end_without_a_job_is_none() -> None:
    signals.end(ResourceError("late"))
    assert not signals.asked()


def test_what_is_half_made_goes_when_the_work_fails_too() -> None:
    gone: list[str] = []
    with pytest.raises(ValueError, match="x"), signals.half_made(lambda: gone.append("a")):
        raise ValueError("x")
    with signals.half_made(lambda: gone.append("b")):
        pass
    assert gone == ["a"]


def test_a_better_reason_takes_the_place_of_the_first_and_of_no_signal() -> None:
    def ends() -> None:
        with signals.job():
            try:
                signals.end(ResourceError("nothing happens"))
                while True:
                    time.sleep(0.01)
            except KeyboardInterrupt:
                signals.because(ResourceError("the worker has no topkin"))
                raise

    signals.because(ResourceError("too early"))
    with pytest.raises(ResourceError, match="the worker has no topkin"):
        ends()
    assert not signals.asked()


def test_the_end_of_a_command_waits_for_its_threads_and_runs_what_is_asked_for_at_exit(tmp_path: Path) -> None:
    script = """
    import atexit, threading
    from concurrent.futures import ThreadPoolExecutor
    pool = ThreadPoolExecutor()
    pool.submit(len, "pool").result()  # never shut down
    atexit.register(print, "at exit")
    threading.Timer(0.3, print, ["thread"]).start()
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    print("ready", flush=True)
    signals.end_of_command(7)
    """
    code, out, err = run(script, tmp_path)
    assert (code, out.split("\n"), err) == (7, ["thread", "at exit", ""], "")
