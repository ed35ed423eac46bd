"""Which mode of the local runner makes the lists soonest: in memory, or a process for each core.

``python -m benchmarks.runners.local_modes [--users 200000 --items 20000 --k 20 --shards 1 --repeats 3]``: every mode in
turn, each in a process of its own, from embedding files to published lists, d = 64: seconds after the imports.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PROCESSES = ("--direct_running_mode=multi_processing",)
MODES = {
    "in memory": (),
    "2 processes": (*PROCESSES, "--direct_num_workers=2"),
}


def work(folder: Path, mode: str, k: int, parts: int, memory: float | None) -> tuple[float, float]:
    """Make the lists of a folder; gives seconds, and those of all processors, without imports here."""
    from benchmarks.jobs._embedded import job
    from topkin.artifacts import storage
    from topkin.config.sections import Settings
    from topkin.pipelines import recommend
    from topkin.telemetry.profiling import measure_usage
    from topkin.transforms import recommend as imported  # noqa: F401  Beam is imported before the clock starts

    run = {"parts": parts, "worker_memory": memory}
    settings = Settings.model_validate({"purchases": {"path": "x"}, "run": run, "recommend": {"k": k}})
    out = folder / f"lists-{mode.replace(' ', '-')}"
    storage.remove_folder(str(out))
    with measure_usage() as usage:
        recommend.STAGE.execute(job(folder, out, settings, MODES[mode]))
    return usage.seconds, usage.cpu_seconds


def main() -> None:
    """Generate, run every mode in turn, print seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"users": 200_000, "items": 20_000, "k": 20, "parts": 16, "history": 20, "repeats": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--memory", type=float, help="run.worker_memory, for shards")
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.mode:
        print(*work(args.folder, args.mode, args.k, args.parts, args.memory))
        return
    from benchmarks.jobs._embedded import write

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sizes = {name: getattr(args, name) for name in ("users", "items", "history", "parts")}
        write(folder, dim=64, **sizes)

        def one(mode: str) -> list[float]:
            command = [sys.executable, "-m", "benchmarks.runners.local_modes", "--mode", mode, "--folder", str(folder)]
            command += [f"--{name}={getattr(args, name)}" for name in ("k", "parts")]
            command += [] if args.memory is None else [f"--memory={args.memory}"]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            return [float(value) for value in output[-2:]]

        print(f"{args.users:,} users x {args.items:,} items, k = {args.k}, d = 64, {args.parts} parts")
        seconds: dict[str, list[list[float]]] = {mode: [] for mode in MODES}
        for _ in range(args.repeats):
            for mode in MODES:
                seconds[mode].append(one(mode))
        for mode, pairs in seconds.items():
            wall, cpu = (statistics.median(values) for values in zip(*pairs, strict=True))
            print(f"  {mode:22s} {wall:7.1f} s   processors {cpu:7.1f} s")


if __name__ == "__main__":
    main()
