"""The hidden folders of attempts: scratch is one attempt's alone, and outlives it; what is nobody's is known."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from topkin.artifacts import lock, storage
from topkin.pipelines.engine import attempts


def gone() -> int:
    """The number of a process that ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


def age(folder: Path, seconds: float) -> None:
    now = folder.stat().st_mtime
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (now - seconds, now - seconds))


def begun(run: str, folder: str, key: str) -> tuple[str, str]:
    attempt, scratch = attempts.paths(run, folder, key)
    attempts.begin(run, folder, key, attempt, scratch)
    return attempt, scratch


def test_the_scratch_of_an_attempt_goes_to_the_next_one_at_the_same_key_alone(tmp_path):
    run = str(tmp_path)
    first, scratch = begun(run, "model", "k" * 64)
    storage.write_bytes(b"epoch 3", f"{scratch}/checkpoint")
    other = begun(run, "model", "other" * 10)[1]
    assert storage.files(other) == []
    second, mine = begun(run, "model", "k" * 64)
    assert len({first, second, scratch, mine, other}) == 5
    assert storage.read_bytes(f"{mine}/checkpoint") == b"epoch 3"
    assert not storage.exists(scratch)  # who still writes there meets nobody


def test_of_several_scratch_folders_the_last_that_was_written_to_goes_on(tmp_path):
    for name, text in (("host-1-00000001", "old"), ("host-2-00000002", "new"), ("host-3-00000003", "older")):
        folder = tmp_path / f".scratch-model-{'k' * 10}-{name}"
        storage.write_bytes(text.encode(), str(folder / "checkpoint"))
        age(folder, {"old": 50, "new": 20, "older": 90}[text])
    scratch = begun(str(tmp_path), "model", "k" * 64)[1]
    assert storage.read_bytes(f"{scratch}/checkpoint") == b"new"
    assert [n for n in storage.folders(str(tmp_path)) if n.startswith(".scratch")] == [os.path.basename(scratch)]


def test_what_attempts_at_a_finished_stage_left_is_removed(tmp_path):
    run, here = str(tmp_path), socket.gethostname()
    attempt, _ = begun(run, "model", "k" * 64)
    other = begun(run, "prepared", "k" * 64)
    storage.make_folder(f"{run}/.model-{here}-{gone()}-00000000")
    attempts.end(run, "model", "k" * 64)
    assert storage.folders(run) == sorted(map(os.path.basename, (attempt, *other)))


def test_an_attempt_is_nobodys_when_its_process_ended_or_nothing_was_written_for_long(tmp_path):
    here, ended = socket.gethostname(), gone()
    names = {
        f".model-{here}-{os.getpid()}-00000001": False,
        f".model-{here}-{ended}-00000002": True,
        f".model-else-where-{ended}-00000003": False,  # of another machine: nothing is known
        ".model-else-where-1-00000004": True,  # but that it is old
        f".scratch-model-kkkkkkkkkk-{here}-{ended}-00000005": False,  # for the next attempt
        f".scratch-model-kkkkkkkkkk-{here}-{os.getpid()}-00000006": True,
        "model": False,
    }
    for name in names:
        storage.write_bytes(b"rows", str(tmp_path / name / "deep" / "part"))
        if names[name]:
            age(tmp_path / name, lock.EXPIRY + 1 if str(ended) not in name else 0)
    assert set(attempts.abandoned(str(tmp_path))) == {name for name, nobodys in names.items() if nobodys}
    attempts.sweep(str(tmp_path), "model")
    left = storage.folders(str(tmp_path))
    assert f".model-{here}-{ended}-00000002" not in left
    assert len(left) == len(names) - 2
