"""Stages that are short of something: a worker killed or stopped, a full disk, a full TMPDIR, too little memory.

Each ends within a minute by a message that names what ran out, with exit code 6, or does its work all the same; it
leaves no half-made folder. A disk that is full is a small tmpfs, which root alone may mount: without it these rows are
left out.
"""

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from topkin.artifacts import runs, storage
from topkin.ending.workers import WORKER, descendants
from topkin.pipelines.engine.registry import ORDER
from topkin.synthetic.shop import Shop

SHOP = Shop(users=400, items=120, purchases=8_000)
MOST_SECONDS = 60
NIGHTS = (7, 0)
"""Days before the shop's as-of date of the nights that are made; the last is starved, and judges the first."""
STAGES = (*ORDER, "publish")
IN_WORKERS = ("prepare", "embed", "recommend", "similar", "hindsight", "evaluate")


class Ended(NamedTuple):
    """How a command ended: its code, seconds since it was starved, the last line that it wrote, what it left."""

    code: int
    seconds: float
    line: str
    left: list[str]

    @property
    def well(self) -> bool:
        """Whether it ended by itself, in time, and either did its work or said why not."""
        explained = self.code == 0 or (self.code == 6 and self.line.startswith("topkin: "))
        return explained and self.seconds < MOST_SECONDS and not self.left


def configuration(folder: Path, output: Path) -> Path:
    """The configuration of the shop in ``folder`` with its results in ``output``."""
    path = folder / f"{output.name}.toml"
    text = SHOP.config_toml("shop", output=str(output), more="\n[train]\nepochs = 1\nsvd_dim = 16\n")
    path.write_text(text)
    return path


def whole_run(folder: Path) -> Path:
    """The output folder of a shop whose nights are done."""
    SHOP.write(str(folder / "shop"))
    output = folder / "whole"
    for days in NIGHTS:
        ended = command(configuration(folder, output), "run", output=output, days=days, most_seconds=1800)
        assert ended.code == 0, ended.line
    return output


def before(name: str, whole: Path, output: Path) -> None:
    """A copy of the output in which a stage of the last night is the next to be done, and the first night is live."""
    last = runs.published(str(whole))
    assert last is not None
    gone = {last.folder(later) for later in ORDER[STAGES.index(name) :]}
    shutil.copytree(
        whole, output, dirs_exist_ok=True, ignore=lambda folder, names: [n for n in names if f"{folder}/{n}" in gone]
    )
    runs.roll_back(str(output))


def command(
    config: Path,
    stage: str,
    *more: str,
    output: Path,
    days: int = 0,
    env: dict[str, str] | None = None,
    limit: Callable[[], None] | None = None,
    starve: Callable[[subprocess.Popen[str]], float] | None = None,
    most_seconds: float = 3 * MOST_SECONDS,
) -> Ended:
    """Run a stage; ``starve`` does so and gives the time when it did, the start without it."""
    as_of = SHOP.as_of - timedelta(days=days)
    words = [sys.executable, "-m", "topkin", stage, "--config", str(config), "--as-of", as_of.isoformat()]
    began = time.monotonic()
    with subprocess.Popen(
        [*words, *(["--quiet"] if stage in (*ORDER, "run") else []), *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
        preexec_fn=limit,
    ) as process:
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()))
        reader.start()
        began = starve(process) if starve else began
        try:
            process.wait(most_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        for pid in descendants(process.pid):
            os.kill(pid, signal.SIGKILL)
        reader.join(5)
    seconds = time.monotonic() - began
    messages = [line.strip() for line in lines if line.startswith("topkin: ")] or [line.strip() for line in lines[-1:]]
    left = [str(path) for path in output.glob("runs/*/.[a-z]*-*") if not path.name.startswith(".scratch")]
    return Ended(process.returncode, seconds, messages[-1] if messages else "", left)


def signalled(number: signal.Signals) -> Callable[[subprocess.Popen[str]], float]:
    """What sends a signal to the first worker of a command, once it works."""

    def starve(process: subprocess.Popen[str]) -> float:
        while process.poll() is None:
            for pid in descendants(process.pid):
                try:
                    held = Path(f"/proc/{pid}/cmdline").read_bytes()
                    began = float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])
                except OSError:
                    continue
                if WORKER in held and not held.startswith(b"/bin/sh") and began > 100:  # a second of work
                    os.kill(pid, number)
                    return time.monotonic()
            time.sleep(0.05)
        return time.monotonic()

    return starve


@contextmanager
def small_disk(size: int) -> Iterator[Path]:
    """A disk of so many bytes. Raises PermissionError where none may be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="topkin-disk-"))
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True
        )
        if done.returncode:
            raise PermissionError(done.stderr.strip())
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
    finally:
        folder.rmdir()


def killed(stage: str, whole: Path, number: signal.Signals = signal.SIGKILL) -> Ended:
    """A worker of a stage gets a signal."""
    output = whole.parent / f"{stage}-{number.name}"
    before(stage, whole, output)
    flags = ["--", "--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    return command(configuration(whole.parent, output), stage, *flags, output=output, starve=signalled(number))


def full_disk(stage: str, whole: Path) -> Ended:
    """The disk of run.output has a few bytes more than the stages before take, for the pointer one block."""
    spare = 65_536 if stage in ORDER else 4096
    with tempfile.TemporaryDirectory() as folder:
        before(stage, whole, Path(folder, "out"))
        names = storage.files(folder, hidden=True)
        taken = sum(-(-storage.size(os.path.join(folder, name)) // 4096) * 4096 for name in names)
    with small_disk(taken + spare) as disk:
        before(stage, whole, disk / "out")
        return command(configuration(whole.parent, disk / "out"), stage, output=disk / "out")


def full_tmpdir(stage: str, whole: Path) -> Ended:
    """TMPDIR has a few bytes."""
    output = whole.parent / f"{stage}-tmpdir"
    before(stage, whole, output)
    with small_disk(4096) as disk:
        env = {"TMPDIR": str(disk)}
        return command(configuration(whole.parent, output), stage, output=output, env=env)


def little_memory(stage: str, whole: Path, megabytes: int) -> Ended:
    """The addresses of the process end at so many megabytes, ``ulimit -v``."""
    output = whole.parent / f"{stage}-{megabytes}"
    before(stage, whole, output)
    most = megabytes << 20
    return command(
        configuration(whole.parent, output),
        stage,
        output=output,
        limit=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Starve every stage of everything; prints a line each, returns 1 where one did not end well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=STAGES, help="which")
    parser.add_argument("--memory", nargs="*", type=int, default=[1500, 2500, 3500, 5000], help="megabytes")
    options = parser.parse_args(argv)
    bad = 0
    with tempfile.TemporaryDirectory(prefix="topkin-starved-") as folder:
        whole = whole_run(Path(folder))
        for stage in options.stages:
            cases: dict[str, Callable[[], Ended]] = {}
            if stage in IN_WORKERS:
                cases["a worker killed"] = lambda stage=stage: killed(stage, whole)
                cases["a worker stopped"] = lambda stage=stage: killed(stage, whole, signal.SIGSTOP)
            cases["a full disk"] = lambda stage=stage: full_disk(stage, whole)
            cases["a full TMPDIR"] = lambda stage=stage: full_tmpdir(stage, whole)
            for megabytes in options.memory:
                cases[f"{megabytes} MB of addresses"] = lambda s=stage, m=megabytes: little_memory(s, whole, m)
            for name, case in cases.items():
                try:
                    ended = case()
                except PermissionError as e:
                    print(f"{stage:<10} {name:<24} left out: {e}", flush=True)
                    continue
                bad += not ended.well
                word = "ok" if ended.well else "FAILS"
                print(
                    f"{stage:<10} {name:<24} {word:<6} {ended.code:>4} {ended.seconds:5.1f} s  {ended.line}",
                    *ended.left,
                    flush=True,
                )
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
