"""What a night costs on which few bought: it keeps the encoder of the night before, and does again what changed.

``python -m benchmarks.faults.cheap_nights [--users 2000 --items 1000 --purchases 40000 --changed 0.01]`` publishes a
full night of a generated shop, then, with ``train.every_days``, one on which one user in a hundred bought something
more, and makes the same night in full beside it. Then lists and neighbours of the cheap night are made once more for
everybody, by the same encoder: it fails where a row of these differs, or where the cheap night takes more than
``--most`` of the full one's processor time. ``--set`` changes keys of the configuration; ``--fast`` takes the night
before for the full one and makes no table twice.
"""

import argparse
import resource
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import runs, storage
from topkin.config.load import load_settings
from topkin.config.sections import Settings
from topkin.pipelines.cli import logs
from topkin.pipelines.engine import registry
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stages import Event
from topkin.pipelines.run import run_all
from topkin.synthetic.shop import Shop

TABLES = {
    "recommend": ("recommendations", "short_lists"),
    "similar": ("similar_users", "similar_items", "neighbours_bought"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Make the nights, compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"users": 2_000, "items": 1_000, "purchases": 40_000}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--changed", type=float, default=0.01)
    parser.add_argument("--most", type=float, default=0.3)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--fast", action="store_true")
    args = parser.parse_args(argv)
    logs.silence()
    shop = Shop(users=args.users, items=args.items, purchases=args.purchases, heldout_days=0, seed=8)
    with tempfile.TemporaryDirectory() as scratch:
        folder, night = Path(scratch), shop.as_of
        before, changed = write(shop, folder, args.changed)
        (folder / "topkin.toml").write_text(shop.config_toml("shop"))

        def settings(output: str, every: int) -> Settings:
            sets = [f"run.output={folder}/{output}", f"train.every_days={every}", *args.sets]
            return load_settings(folder / "topkin.toml", sets, env={})

        storage.write_parquet(before, str(folder / "shop/purchases/part-0.parquet"))
        first, _ = timed(settings("kept", 7), night - timedelta(days=1))
        storage.write_parquet(changed, str(folder / "shop/purchases/part-1.parquet"))
        cheap, run = timed(settings("kept", 7), night)
        full = first if args.fast else timed(settings("full", 0), night)[0]
        differing = [] if args.fast else compare(settings("kept", 7), run, folder)
    users = len(changed["user_id"].unique())
    print(f"{args.users:,} users, {args.items:,} items, {len(before):,} purchases; {users:,} users bought on the night")
    print("| stage | full night, CPU s | 1 in 100 changed, CPU s | ratio |\n|---|---:|---:|---:|")
    for stage in full:
        print(f"| {stage} | {full[stage]:.1f} | {cheap[stage]:.1f} | {cheap[stage] / max(full[stage], 0.05):.2f} |")
    whole = sum(full.values()), sum(cheap.values())
    print(f"| all | {whole[0]:.1f} | {whole[1]:.1f} | **{whole[1] / whole[0]:.2f}** |")
    if not args.fast:
        print(f"tables that differ from those made for everybody: {', '.join(differing) or 'none'}")
    return int(bool(differing) or whole[1] > args.most * whole[0])


def write(shop: Shop, folder: Path, share: float) -> tuple[pa.Table, pa.Table]:
    """Write users and items; returns the purchases before the last day, and those of some users on it."""
    storage.write_parquet(shop.items_table(), str(folder / "shop/items.parquet"))
    storage.write_parquet(shop.users_table(), str(folder / "shop/users.parquet"))
    lines = shop.purchase_shard(0, 1)
    last = pc.greater_equal(lines["timestamp"], pa.scalar(shop.as_of - timedelta(days=1), pa.timestamp("ms")))
    before, late = lines.filter(pc.invert(last)), lines.filter(last)
    known = np.unique(np.asarray(before["user_id"].drop_null()))
    few = np.random.default_rng(8).choice(known, max(1, round(share * len(known))), replace=False)
    late = late.take(pa.array(np.random.default_rng(9).integers(len(late), size=3 * len(few))))
    return before, late.set_column(late.column_names.index("user_id"), "user_id", pa.array(np.repeat(few, 3)))


def timed(settings: Settings, as_of: datetime) -> tuple[dict[str, float], runs.Run]:
    """Make and publish a night; the processor seconds of each stage."""
    spent, last = {}, [_cpu()]

    def tell(event: Event) -> None:
        now = _cpu()
        if event.state == "finished":
            spent[event.stage] = now - last[0]
            print(f"{event.stage} {spent[event.stage]:.1f}", file=sys.stderr, flush=True)
        last[0] = now

    run = run_all(settings, as_of=as_of, anyway="a benchmark", tell=tell)
    return spent, run


def _cpu() -> float:
    every = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in every)


def compare(settings: Settings, run: runs.Run, folder: Path) -> list[str]:
    """The tables of a night that differ from those that its stages make without a look at the night before."""
    differing = []
    for name, tables in TABLES.items():
        stage, out = registry.stage(name), str(folder / "again" / name)
        storage.make_folder(out)
        stage.execute(Job(settings=settings, as_of=run.as_of, out=out, folders=dict(run.folders)))
        for table in tables:
            stored, again = (storage.read_parts(f"{place}/{table}") for place in (run.folder(name), out))
            if not stored.equals(again, check_metadata=True):
                differing.append(table)
    return differing


if __name__ == "__main__":
    sys.exit(main())
