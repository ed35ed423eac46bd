"""What ran out is told: which disk, where, how many bytes, and what to set."""

import errno
import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import storage
from topkin.ending import shortage
from topkin.errors import ConfigError, ResourceError


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of half a megabyte."""
    folder = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    try:
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a small disk needs root's mount")
    except FileNotFoundError:
        pytest.skip("there is no mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


TABLE = pa.table({"x": np.random.default_rng(0).random(200_000)})


def test_a_table_for_which_the_disk_has_no_room_names_itself_and_leaves_nothing(disk: Path) -> None:
    path = str(disk / "out" / "part.parquet")
    with pytest.raises(ResourceError) as raised:
        storage.write_parquet(TABLE, path)
    assert str(raised.value).startswith(f"{path} cannot be written after ")
    for words in ("bytes, its disk is full, 0 bytes are free in", "set run.output to a larger disk"):
        assert words in str(raised.value)
    assert raised.value.exit_code == 6
    assert not storage.files(str(disk), hidden=True)


def test_a_failure_that_does_not_say_why_is_laid_to_the_disk_that_is_full(disk: Path) -> None:
    filled = disk / "filled"
    with pytest.raises(OSError, match="No space left"):
        filled.write_bytes(bytes(1 << 20))
    try:
        error = shortage.explained(
            RuntimeError("ios_base::clear: unspecified iostream error"), {"run.output": str(disk)}
        )
        assert error is not None
        assert f"the disk of run.output is full, 0 bytes are free in {disk}" in str(error)
    finally:
        filled.unlink()


def test_the_setting_is_that_of_the_folder_that_the_file_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortage.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    error = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "tmp" / "model.keras"))
    explained = shortage.explained(error, {"run.output": str(tmp_path / "out")})
    assert explained is not None
    assert "model.keras cannot be written, the disk of TMPDIR is full" in str(explained)
    assert "set TMPDIR to a folder on a larger disk" in str(explained)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "its disk is used up"),
        (OSError(errno.EFBIG, "File too large"), "ulimit -f"),
        (OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"), "disk is full"),
    ],
)
def test_a_file_that_could_not_be_written_says_why(error: OSError, words: str, tmp_path: Path) -> None:
    result = shortage.full_disk(str(tmp_path / "a.bin"), 1234, error)
    assert result is not None
    assert words in str(result)
    assert "after 1,234 bytes" in str(result)


def test_other_errors_of_files_are_none(tmp_path: Path) -> None:
    assert shortage.full_disk(str(tmp_path / "a"), 0, PermissionError(errno.EACCES, "Permission denied")) is None
    for error in (PermissionError(errno.EACCES, "no"), ValueError("x"), ConfigError("the memory is full")):
        assert shortage.explained(error, {"run.output": str(tmp_path)}) is None


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((1000, 1000), np.dtype("f8")),
        pa.ArrowMemoryError("malloc of size 8000000 failed"),
        RuntimeError("Traceback (most recent call last):\n  File x\nMemoryError\n [while running 'Embed']"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("Out of Memory Error: failed to allocate data of size 16.0 KiB (1.0 GiB/1.0 GiB used)"),
    ],
)
def test_a_full_memory_is_told_with_its_bytes_and_settings(error: BaseException) -> None:
    explained = shortage.explained(error, {})
    assert explained is not None
    assert str(explained).startswith("the memory is full")
    assert " bytes are in use" in str(explained)
    assert "run.parts" in str(explained)
    assert "\n" not in str(explained)


def test_what_was_asked_for_is_told() -> None:
    error = np._core._exceptions._ArrayMemoryError((1000, 1000), np.dtype("f8"))
    assert "(Unable to allocate 7.63 MiB)" in str(shortage.explained(error, {}))


def test_the_limit_of_addresses_is_told_in_a_process_that_has_one() -> None:
    script = """
    import resource
    import numpy as np
    from topkin.ending.watch import watched
    most = 2 << 30
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        with watched("train", "out"):
            np.ones(most, np.float64)
    except Exception as e:
        print(type(e).__name__, e)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ResourceError train cannot go on: the memory is full (Unable to allocate 16.0 GiB)")
    assert "of 2,147,483,648 that are allowed (ulimit -v)" in done.stdout


@pytest.mark.parametrize(("most", "code"), [(1500 << 20, 6), (8 << 30, 0)])
def test_a_job_with_too_few_addresses_is_refused_before_a_library_crashes(most: int, code: int) -> None:
    text = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_AS, ({most}, {most}))\n"
        "from topkin.ending.shortage import check_addresses\nfrom topkin.errors import ResourceError\n"
        "try:\n    check_addresses()\nexcept ResourceError as e:\n    print(e)\n    sys.exit(e.exit_code)"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    assert ("ulimit -v allows 1,572,864,000: raise it" in done.stdout) == bool(code)


@pytest.mark.parametrize(
    "command", ["init p.parquet", "embed --encoder m.keras --items i --id x", "forget --users u.txt"]
)
def test_any_command_with_too_few_addresses_is_refused_before_its_libraries_are_loaded(command: str) -> None:
    text = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1500 << 20, 1500 << 20))\n"
        f"from topkin.pipelines.cli.app import main\nsys.exit(main({command.split()!r}))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert done.stderr.startswith("topkin: the libraries of a job need 2,147,483,648 bytes of addresses at least")


def test_threads_that_may_not_be_started_are_told() -> None:
    message = str(shortage.explained(RuntimeError("can't start new thread"), {}))
    most = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    assert ("any number of" if most == resource.RLIM_INFINITY else f"{most:,}") in message
    assert "ulimit -u" in message


def test_free_bytes_are_those_of_the_folder_that_will_hold_a_path(tmp_path: Path) -> None:
    stat = os.statvfs(tmp_path)
    assert shortage.free_bytes(str(tmp_path / "not" / "yet")) == pytest.approx(stat.f_bavail * stat.f_frsize, rel=0.2)
    assert shortage.free_bytes("gs://bucket/x") > 1 << 60
