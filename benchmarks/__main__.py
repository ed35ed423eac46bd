"""``python -m benchmarks [NAME …]``: every benchmark of these folders, or some, written to ``benchmarks/results.md``.

Each is a program of its own; ``python -m benchmarks.FOLDER.NAME`` takes its options. All together may take an hour
(``--minutes``): what has not begun by then is left out, what still runs is stopped, and both are said. A section of
the results stays until its benchmark runs again.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import threading
import time
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.md"
OWN = ("faults", "runners")
CPU = Path("/proc/cpuinfo")
NAMED = ("numpy", "pyarrow", "tensorflow", "apache-beam", "nmslib", "faiss-cpu", "implicit", "polars", "pyspark")


def benchmarks() -> dict[str, str]:
    """The module of each benchmark by its name, in the order of names; not of ``make faults`` and ``make runners``."""
    paths = sorted((p for p in FOLDER.glob("*/[a-z]*.py") if p.parent.name not in OWN), key=lambda path: path.stem)
    return {path.stem: f"benchmarks.{path.parent.name}.{path.stem}" for path in paths}


def machine() -> str:
    """The processors, the memory and the versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpu = re.search(r"model name\s*:\s*(.*)", CPU.read_text()) if CPU.exists() else None
    parts = [f"{os.cpu_count()} cores ({cpu.group(1) if cpu else platform.machine()})", f"{memory:.0f} GiB"]
    parts.append(f"Python {platform.python_version()}")
    for name in NAMED:
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    if kernels := os.environ.get("OPENBLAS_CORETYPE"):
        parts.append(f"the kernels of OpenBLAS, ours and the peers', held to {kernels} by OPENBLAS_CORETYPE")
    return ", ".join(parts)


def run(module: str, seconds: float) -> tuple[str, bool]:
    """What a benchmark prints, also shown as it comes, and whether it ended well within so many seconds."""
    lines: list[str] = []
    command = [sys.executable, "-m", module]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        limit = threading.Timer(seconds, process.kill)
        limit.start()
        assert process.stdout is not None, "it is asked for"
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
        process.wait()
        late = not limit.is_alive()
        limit.cancel()
    if process.returncode:
        lines.append("stopped: the time was up" if late else f"failed with status {process.returncode}")
        print(lines[-1])
    return "\n".join(lines), not process.returncode


def sections(text: str) -> dict[str, str]:
    """The sections of a results page by the name in their heading."""
    parts = re.split(r"^## (\S+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], (p.strip() for p in parts[1::2]), strict=True))


def page(texts: dict[str, str]) -> str:
    """The results page of sections by name."""
    head = (
        "# What the benchmarks measured\n\nMade by `python -m benchmarks`: each section by the benchmark of its name, "
        "on the machine that it names. A ratio is\nto the peer in the same run; a row closes with `ok`, or `below` its "
        "bar.\n"
    )
    return head + "".join(f"\n## {name}\n\n{text}\n" for name, text in sorted(texts.items()))


def main() -> int:
    """Run benchmarks by name; all without names. Returns 2 for a name that is not there, 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--minutes", type=float, default=60)
    args = parser.parse_args()
    modules = benchmarks()
    if unknown := [n for n in args.names if n not in modules]:
        print(f"benchmarks must be among {', '.join(modules)}, got {', '.join(unknown)}", file=sys.stderr)
        return 2
    end, failed = time.monotonic() + 60 * args.minutes, False
    texts = sections(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in args.names or modules:
        left = end - time.monotonic()
        if left < 1:
            print(f"== {name}: left out, the time is up", flush=True)
            continue
        print(f"== {name}", flush=True)
        text, well = run(modules[name], left)
        failed |= not well
        texts[name] = f"{date.today():%Y-%m-%d}, {machine()}.\n\n```\n{text}\n```"
        RESULTS.write_text(page(texts))
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
