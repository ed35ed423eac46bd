"""The whole stage ``train`` in closed form on a generated shop of many items with titles: processor seconds.

``python -m benchmarks.training.closed_form [--items 100000 --purchases 2000000 --users 200000 --against FOLDER]``. With
another checkout its ``prepare`` and ``train`` run on the same shop, after this one.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

LEAST, AIM = 120.0, 60.0


def job(name: str, checkout: Path, folder: Path, *options: str) -> tuple[float, float]:
    """Run a job with the code of a checkout: processor seconds, and the validation metric of what it trained."""
    from topkin.synthetic.shop import Shop

    command = [sys.executable, "-m", "topkin", name, "--config", str(folder / "topkin.toml"), "--json"]
    command += ["--as-of", f"{Shop().as_of:%Y-%m-%d}", *options]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "TF_CPP_MIN_LOG_LEVEL": "2"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    trained = json.loads(output)["folders"].get("train")
    signature = json.loads((Path(trained) / "signature.json").read_text()) if trained else {}
    return seconds, float((signature.get("validation") or {}).get("ndcg@20", 0))


def main() -> None:
    """Print a row of each checkout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"items": 100_000, "purchases": 2_000_000, "users": 200_000}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--against", type=Path, help="another checkout")
    args = parser.parse_args()
    from topkin.synthetic.shop import Shop

    here = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory(prefix="topkin-closed-form-") as scratch:
        folder = Path(scratch)
        shop = Shop(users=args.users, items=args.items, purchases=args.purchases)
        shop.write(str(folder / "shop"), truth=False)
        (folder / "topkin.toml").write_text(shop.config_toml("shop"))
        job("prepare", here, folder)
        print(f"{args.items:,} items, {args.purchases:,} purchases, {args.users:,} users: train.epochs=0")
        closed = "--set", "train.epochs=0", "--force"
        ours = job("train", here, folder, *closed)
        verdict = "ok" if ours[0] <= LEAST else "below"
        print(f"  processors {ours[0]:6.1f} s, at most {LEAST:.0f} {AIM:.0f}: {verdict}; validated {ours[1]:.6f}")
        if args.against:
            job("prepare", args.against.resolve(), folder)  # what it prepared is told by the code that did
            theirs = job("train", args.against.resolve(), folder, *closed)
            print(
                f"  processors {theirs[0]:6.1f} s by {args.against}, {ours[0] / theirs[0]:.2f} of it here; validated "
                f"{theirs[1]:.6f}"
            )


if __name__ == "__main__":
    main()
