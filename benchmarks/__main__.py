"""``python -m benchmarks [NAME]``: every benchmark in this folder, or one, each a program of its own."""

import subprocess
import sys
from pathlib import Path


def main(names: list[str]) -> int:
    """Run benchmarks by name; all without names. Returns 2 for a name that is not there."""
    there = sorted(p.stem for p in Path(__file__).parent.glob("[a-z]*.py"))
    if unknown := [n for n in names if n not in there]:
        print(f"benchmarks must be among {', '.join(there)}, got {', '.join(unknown)}", file=sys.stderr)
        return 2
    for name in names or there:
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
