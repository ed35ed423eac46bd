"""What a shop in an object store costs: the requests of each command, over HTTP to a server on this machine.

``python -m benchmarks.jobs.objects`` makes a shop of about 42,000 rows there, runs every stage on it in closed form and
four parts, and the same again. Beside each stands whether it keeps its bar.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.jobs._object_server import ObjectServer, object_server
from topkin.artifacts import storage
from topkin.synthetic.shop import Shop

BARS = {"run": 800, "run again": 60}
SETS = ("train.epochs=0", "run.parts=4")


def main() -> None:
    """Count, and print a row for each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--purchases", type=int, default=39_000, help="good ones, before noise is added")
    purchases = parser.parse_args().purchases
    with object_server() as server, tempfile.TemporaryDirectory() as folder:
        os.environ.update(server.environment)
        bucket = server.make_bucket()
        shop = Shop(users=1500, items=600, purchases=purchases)
        shop.write(f"{bucket}/lake")
        rows = len(storage.read_parts(f"{bucket}/lake/purchases"))
        config = Path(folder, "topkin.toml")
        config.write_text(shop.config_toml(f"{bucket}/lake", output=f"{bucket}/out"))
        words = ["--config", str(config), *(word for pair in SETS for word in ("--set", pair))]
        date = ["--as-of", f"{shop.as_of:%Y-%m-%d}"]
        print(f"{rows:,} rows of purchases in {len(storage.files(f'{bucket}/lake/purchases'))} files")
        for name, command in (
            ("check", ["check", *words, *date]),
            ("run", ["run", *words, *date]),
            ("run again", ["run", *words, *date]),
            ("runs", ["runs", *words]),
            ("gc", ["gc", *words]),
        ):
            _count(server, name, command)


def _count(server: ObjectServer, name: str, command: list[str]) -> None:
    before = len(server.requests())
    subprocess.run([sys.executable, "-m", "topkin", *command], check=True, stdout=subprocess.DEVNULL)
    lines = server.requests()[before:]
    kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(Counter(line.split()[0] for line in lines).items()))
    verdict = "" if name not in BARS else "   ok" if len(lines) <= BARS[name] else f"   below: at most {BARS[name]}"
    print(f"{name:<10} {len(lines):>5} requests   {kinds}{verdict}", flush=True)


if __name__ == "__main__":
    main()
