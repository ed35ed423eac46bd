"""One whole run on every engine that can be had here, with equal tables, and jobs that are ended in the middle.

``make runners``, or ``python -m benchmarks.runners [ROW …]``. Prism and Beam's program for workers are built by make
where Go is; Dataflow's client is in ``topkin[gcp]``. What is not there is skipped, with the reason. The service of
Dataflow is a stand-in on this machine that runs the very graph it was sent; nothing is run on Flink, on Spark or in a
cloud.
"""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.jobs._object_server import ObjectServer, object_server
from benchmarks.runners import _engines as engines
from benchmarks.runners._dataflow_server import DataflowServer, dataflow_server
from topkin.ending.workers import WORKER, descendants
from topkin.errors import BusyError

WITHIN = 30.0
"""Seconds after which a job that was ended must be over."""


class Absent(Exception):  # noqa: N818 - no error
    """A row that cannot be run here: why."""


def _needed(name: str) -> str:
    if (path := engines.program(name)) is None:
        raise Absent(f"{name} is not here: make runners builds it where Go is, or TOPKIN_{name.upper()} names it")
    return path


def _local(folder: Path, *flags: str) -> str:
    config = folder / "topkin.toml"
    engines.configure(str(folder / "lake"), str(folder / "out"), config)
    engines.run(config, flags)
    return engines.checksum(str(folder / "out"))


def _on_s3(folder: Path, server: ObjectServer) -> tuple[Path, str]:
    os.environ.update(server.environment)
    bucket, config = server.make_bucket(), folder / "topkin.toml"
    engines.configure(f"{bucket}/lake", f"{bucket}/out", config)
    return config, f"{bucket}/out"


def in_memory(folder: Path) -> str:
    """FnApiRunner in one process."""
    return _local(folder)


def two_processes(folder: Path) -> str:
    """FnApiRunner, ``multi_processing`` with 2 workers."""
    return _local(folder, *engines.TWO_PROCESSES)


def job_server(folder: Path) -> str:
    """Beam's Python job server, workers by LOOPBACK."""
    return _local(folder, *engines.EMBEDDED)


def _prism(*flags: str) -> list[str]:
    return ["--runner=PrismRunner", f"--prism_location={_needed('prism')}", *flags]


def prism_loopback(folder: Path) -> str:
    """Prism, workers by LOOPBACK."""
    return _local(folder, *_prism())


def _process(folder: Path) -> list[str]:
    config = engines.bare_worker(folder, _needed("container"))
    return _prism("--environment_type=PROCESS", f"--environment_config={config}", "--package=wheel")


def prism_process(folder: Path) -> str:
    """Prism, a worker process without topkin, with an empty disk; lake and output on S3."""
    flags = _process(folder)
    with object_server() as server:
        config, output = _on_s3(folder, server)
        engines.run(config, flags)
        return engines.checksum(output)


def _dataflow() -> None:
    with suppress(ModuleNotFoundError):
        if importlib.util.find_spec("google.cloud.dataflow_v1beta3"):
            return
    raise Absent("Dataflow's client is not here: pip install 'topkin[gcp]'")


@contextmanager
def _on_dataflow(folder: Path) -> Iterator[tuple[Path, str, DataflowServer, list[str]]]:
    """The configuration and output of a shop on S3, the stand-in for Dataflow, and its flags."""
    _dataflow()
    staged = folder / "staged"
    staged.mkdir()
    with object_server() as storage, dataflow_server() as service:
        flags = [*service.flags, f"--temp_location={staged}", f"--staging_location={staged}"]
        yield *_on_s3(folder, storage), service, flags


def dataflow_attached(folder: Path) -> str:
    """Dataflow's client and the stand-in, which runs the staged graphs; lake and output on S3."""
    with _on_dataflow(folder) as (config, output, _, flags):
        engines.run(config, flags)
        if not list((folder / "staged").rglob("topkin-*.whl")):
            raise AssertionError("no wheel of topkin was staged")
        return engines.checksum(output)


def dataflow_no_wait(folder: Path) -> str:
    """``--no-wait`` until all is published: jobs that seal their stages, and one asked for while it runs."""
    with _on_dataflow(folder) as (config, output, service, flags):
        service.held = True
        engines.run(config, flags, "--no-wait")
        if len(service.jobs) != 1 or "RUNNING" not in _refused(config, ()):
            raise AssertionError(f"{len(service.jobs)} jobs after the first command")
        service.finish()
        service.held = False  # the next command waits for jobs of stages that are several pipelines
        for _ in DETACHED:  # each goes on from what the one before left: the last one publishes
            engines.run(config, flags, "--no-wait")
            service.finish()
            if failed := [error for error in service.errors.values() if error]:
                raise AssertionError(failed[0][-300:])
        return engines.checksum(output)


DETACHED = ("prepare", "embed", "index", "recommend", "similar")
"""The stages that are one pipeline."""


def _refused(config: Path, flags: Sequence[str]) -> str:
    """What a command says that is to end with the exit code of work that goes on elsewhere."""
    try:
        engines.run(config, flags)
    except subprocess.CalledProcessError as e:
        if e.returncode == BusyError.exit_code:
            return str(e.stderr)
        raise
    raise AssertionError("it ran beside the job")


def stage_as_template(folder: Path) -> str:
    """``prepare`` as a Dataflow template, started as the service would, then all in memory."""
    with _on_dataflow(folder) as (config, output, service, flags):
        template = folder / "templates" / "prepare"
        template.parent.mkdir()
        engines.run(config, [*flags, f"--template_location={template}"], "--no-wait")
        if service.jobs:
            raise AssertionError("a template started a job")
        service.start(json.loads(template.read_text()))
        service.finish()
        if not re.search(r"^prepare +as before", engines.run(config, ()), re.MULTILINE):
            raise AssertionError(f"prepare was not sealed: {service.errors}")
        return engines.checksum(output)


def _ended(command: list[str], when: Callable[[str], bool], end: Callable[[int], object]) -> str:
    """Start a command, end it or a part of it once it says something; returns what it said. Raises if it is late."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        output = ""
        for line in process.stderr:
            output += line
            if when(line):
                break
        time.sleep(1)
        began = time.monotonic()
        end(process.pid)
        try:
            output += process.communicate(timeout=60)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        if (took := time.monotonic() - began) > WITHIN:
            raise AssertionError(f"it ended after {took:.0f} s: {output[-300:]}")
    return output


def _runs(line: str) -> bool:
    return line.rstrip().endswith(" is RUNNING")


def signals_cancel(folder: Path) -> str:
    """Ctrl-C and SIGTERM while the stand-in for Dataflow works: one request to cancel each."""
    _dataflow()
    for number, word in ((signal.SIGINT, "stopped by Ctrl-C"), (signal.SIGTERM, "stopped by SIGTERM")):
        with object_server() as storage, dataflow_server() as service:
            config, _ = _on_s3(folder, storage)
            flags = [*service.flags, f"--temp_location={folder}", f"--staging_location={folder}"]
            output = _ended(engines.command(config, flags), _runs, lambda pid, n=number: os.kill(pid, n))
            if service.cancels() != 1 or word not in output:
                raise AssertionError(f"{service.cancels()} requests to cancel, said: {output[-300:]}")
    return ""


def killed_worker(folder: Path) -> str:
    """Kill -9 of Prism's worker process, with the program that would start it again."""
    flags = _process(folder)

    def kill(pid: int) -> None:
        for process in descendants(pid):
            with suppress(OSError):
                words = Path(f"/proc/{process}/cmdline").read_bytes()
                if WORKER in words or b"--semi_persist_dir" in words:
                    os.kill(process, signal.SIGKILL)

    with object_server() as server:
        config, _ = _on_s3(folder, server)
        output = _ended(engines.command(config, flags), _runs, kill)
    if not re.search(r"topkin: .*(worker's process ended|has done nothing)", output):
        raise AssertionError(output[-300:])
    return ""


ROWS = (
    in_memory, two_processes, job_server, prism_loopback, prism_process, dataflow_attached, dataflow_no_wait,
    stage_as_template, signals_cancel, killed_worker,
)  # fmt: skip


def main() -> None:
    """Run every row, or those named, and compare with the first."""
    wanted = sys.argv[1:]
    rows = [row for row in ROWS if not wanted or row.__name__ in ("in_memory", *wanted)]
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    first = ""
    for row in rows:
        began = time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix="topkin-runners-", ignore_cleanup_errors=True) as folder:
                result = row(Path(folder))
            first = first or result
            state, why = (
                ("passed", result[:16]) if result in (first, "") else ("failed", f"{result[:16]}, not {first[:16]}")
            )
        except Absent as e:
            state, why = "skipped", str(e)
        except subprocess.CalledProcessError as e:
            state, why = "failed", (e.stderr or str(e))[-500:]
        except (AssertionError, LookupError, subprocess.TimeoutExpired) as e:
            state, why = "failed", str(e)
        counts[state] += 1
        print(f"{state:<8} {row.__name__:<18} {time.monotonic() - began:>6.1f} s  {(row.__doc__ or '').strip()}  {why}")
        sys.stdout.flush()
    print(", ".join(f"{n} {state}" for state, n in counts.items()))
    sys.exit(counts["failed"] > 0)


if __name__ == "__main__":
    main()
