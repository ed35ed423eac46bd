"""One customer in a hundred asks to be forgotten after some nights: what still names them, and how long it takes.

``python -m benchmarks.faults.forget [--nights 10 --users 3000]`` publishes nights of a growing shop, forgets one in a
hundred, reads every file of the output folder for their ids, and makes a whole night anew beside it. It fails where an
id is left, or where forgetting takes longer than the night, by processor time.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults._growing_shop import GrowingShop
from topkin.artifacts import runs, storage
from topkin.pipelines.cli import logs
from topkin.pipelines.run import run_all
from topkin.pipelines.upkeep.forget import forget
from topkin.privacy.scan import occurrences

FIRST = 300
"""The day of the first night."""


def main(argv: Sequence[str] | None = None) -> int:
    """Make the nights, forget, search, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"nights": 10, "users": 3_000}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args(argv)
    logs.silence()
    shop = GrowingShop(users=args.users, items=args.users // 2, purchases=30 * args.users)
    with tempfile.TemporaryDirectory() as scratch:
        folder, root = Path(scratch), str(Path(scratch, "topkin-out"))
        for day in range(FIRST, FIRST + args.nights):
            shop.write(shop.files(day), folder)
            settings = shop.settings(folder)
            run = run_all(settings, as_of=shop.day(day))
        users = sorted(storage.read_parts(f"{run.folder('prepare')}/histories", ["user_id"])["user_id"].to_pylist())
        gone = users[7::100]
        count = sum(occurrences(root, gone).values())
        began = time.process_time()
        cleared = forget(root, gone)
        forgetting = time.process_time() - began
        left = occurrences(root, gone)
        assert cleared.run == runs.published(root)
        began = time.process_time()
        run_all(settings, as_of=shop.day(FIRST + args.nights - 1), force=True, publish=False)
        whole = time.process_time() - began
    print(f"{len(users):,} users, {args.nights} nights, {len(cleared.removed)} runs removed")
    print(f"{len(gone):,} users forgotten, their ids {count:,} times in the files before, {sum(left.values()):,} after")
    print(f"{forgetting:.1f} s of a processor, a whole night {whole:.1f} s: {forgetting / whole:.2f} x")
    return int(bool(left) or forgetting >= whole)


if __name__ == "__main__":
    sys.exit(main())
