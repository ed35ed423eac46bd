"""``python -m benchmarks.faults [NAME …]``: every module of this folder, or some; fails where one of them does.

Each is a program of its own with a function ``main``, and prints a table for ``docs/reliability.md``.
"""

import sys
from importlib import import_module
from pathlib import Path


def main() -> int:
    """Run the modules one after the other."""
    names = sys.argv[1:] or sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    failed = [name for name in names if import_module(f"benchmarks.faults.{name}").main([])]
    if failed:
        print(f"wrong: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
