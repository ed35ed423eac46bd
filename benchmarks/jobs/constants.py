"""The constants of ``topkin/planning/costs.py``: what a unit of each stage's work costs on this machine.

``python -m benchmarks.jobs.constants [--write] [--folder FOLDER]`` runs all stages with ``topkin run --profile``: on a
small shop with content, alone and by two workers, whose difference is what a worker costs before its first row; on two
larger shops of :mod:`benchmarks.scale.whole_run`, by the closed form, whose difference is the cost of a unit of each
stage. The smaller of these is trained for an epoch too. It prints the table beside what the plan then says of the
largest shop; ``--write`` puts it into ``topkin/planning/costs.py``. A busy machine changes CPU seconds little.
``python -m benchmarks.jobs.constants --plan USERS ITEMS PURCHASES [--memory GB --cores N --workers N --set KEY=VALUE]``
prints the plan of a run of that size by the constants that are there.
"""

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

SMALL = (2_000, 1_000, 60_000)
FEWER, MORE = (40_000, 20_000, 1_000_000), (160_000, 100_000, 4_000_000)
JUDGED = 4_000
CLOSED = ("train.epochs=0", f"evaluate.users={JUDGED}", "similar.exact_users=10000")  # both by clusters of users
TWO_WORKERS = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
COSTS = Path(__file__).parents[2] / "topkin" / "planning" / "costs.py"
BEGIN, END = "# begin of what python -m benchmarks.jobs.constants --write writes\n", "# end\n"


def with_content(folder: Path, size: tuple[int, int, int], flags: Sequence[str] = ()) -> dict[str, Any]:
    """Run all stages on a shop of users, items, purchases, which has titles and categories."""
    from topkin.synthetic.shop import Shop

    users, items, purchases = size
    shop = Shop(users=users, items=items, purchases=purchases, seed=42)
    if not folder.exists():
        shop.write(str(folder / "shop"))
        (folder / "topkin.toml").write_text(shop.config_toml("shop"))
    return profile(folder / "topkin.toml", shop.as_of.isoformat(), (), flags)


def by_purchases(folder: Path, size: tuple[int, int, int]) -> dict[str, Any]:
    """Run all stages on a shop of users, items, purchases, by the closed form."""
    from benchmarks.scale.whole_run import AS_OF, write

    if not folder.exists():
        write(folder, *size)
    return profile(folder / "topkin.toml", AS_OF, CLOSED)


def profile(config: Path, as_of: str, sets: Sequence[str], beam: Sequence[str] = ()) -> dict[str, Any]:
    """Run all stages; the counts, and what each stage cost."""
    from topkin.artifacts.runs import read_run
    from topkin.planning.estimate import InputCounts

    command = [sys.executable, "-m", "topkin", "run", "--config", str(config), "--as-of", as_of]
    command += ["--force", "--profile", "--no-publish", "--json", *_sets(sets), *(["--", *beam] if beam else [])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    report = json.loads(done.stdout)
    run = read_run(report["output"], report["run_id"])
    stages = json.loads(Path(run.path, "profile.json").read_text())["stages"]
    dim = json.loads(Path(run.folder("embed"), "vectors.json").read_text())["dim"]
    counts = replace(InputCounts.of_prepared(run.folder("prepare")), dim=dim)
    return {"counts": counts, "stages": {s["stage"]: s for s in stages}}


def _sets(sets: Sequence[str]) -> list[str]:
    return [part for one in sets for part in ("--set", one)]


def training(folder: Path, epochs: int = 0) -> float:
    """CPU seconds of training on a shop that is prepared, with no source beside it."""
    from benchmarks.scale.whole_run import AS_OF

    command = [sys.executable, "-m", "topkin", "train", "--config", str(folder / "topkin.toml"), "--as-of", AS_OF]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    sets = _sets([*CLOSED, "recommend.sources=[]", f"train.epochs={epochs}"])
    subprocess.run([*command, "--json", *sets], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def flops() -> float:
    """Floating-point operations of exact top-k, a second and core: 4,096 users, 50,000 items, d = 256, k = 20."""
    import numpy as np

    from topkin.linalg.cosine import unit_rows
    from topkin.search.topk import top_k

    rng = np.random.default_rng(0)
    users, items = (unit_rows(rng.standard_normal((n, 256), dtype=np.float32)) for n in (4096, 50_000))
    seconds = []
    for _ in range(6):
        began = time.process_time()
        top_k(users, items, 20)
        seconds.append(time.process_time() - began)
    return 2.0 * 256 * len(users) * len(items) / min(seconds[1:])


def item_byte(folder: Path, row: float) -> float:
    """CPU seconds of preparing a byte of images, beside ``row`` for each row: 40,000 rows more of 784 bytes."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    seconds, more, width = [], 40_000, 784
    for rows in (2_000, 2_000 + more):
        pixels = np.random.default_rng(0).integers(0, 256, (rows, width), dtype=np.uint8)
        photos = pa.array([image.tobytes() for image in pixels], pa.binary(width))
        table = pa.table({"item_id": [f"i{n}" for n in range(rows)], "image": photos})
        pq.write_table(table, folder / f"{rows}.parquet")
        config = folder / f"{rows}.toml"
        config.write_text(f'items.path = "{rows}.parquet"\nencoder.inputs.image.kind = "image"\n{LEARN}')
        command = ["prepare", "--config", str(config), "--as-of", "2026-01-01", "--force", "--json"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "topkin", *command], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return max(0.0, seconds[1] - seconds[0] - more * row) / (more * width)


LEARN = '[train]\nmethod = "self_supervised"\n'


def constants(shops: Mapping[str, Any], trained: Mapping[str, float], rate: float) -> dict[str, Any]:
    """The fields of ``costs.Costs`` that the stages give.

    shops: profiles of the shop with content, ``small`` and ``by two workers``, and of those by purchases, ``fewer`` and
    ``more``. trained: seconds of the closed form alone on the latter two, and of ``an epoch`` on the first of them.
    rate: of top-k.
    """
    from topkin.config.sections import Settings
    from topkin.planning.estimate import Machine, Workload
    from topkin.recommend.second.chosen import sources_trained
    from topkin.telemetry.profiling import machine_cores, machine_memory

    settings = Settings.model_validate({"purchases": {"path": "x"}, "similar": {"exact_users": 10_000}})
    near, k = settings.similar, settings.recommend.k

    def units(stage: str, shop: str) -> tuple[float, float]:
        """Units of a stage's work, and the CPU seconds of its products."""
        from topkin.pipelines.engine import registry

        c = shops[shop]["counts"]
        load = Workload(counts=c, settings=settings, machine=Machine(memory=math.inf))
        products = 0.0
        if stage in ("recommend", "similar"):
            products = registry.stage(stage).cost(load).flops / rate
        units = {
            "prepare": c.purchases,
            "train": c.known,
            "embed": c.known + c.items,
            "index": c.items * math.log2(2 + c.items),
            "recommend": c.users * k,
            "similar": c.items * near.items + c.users * (near.users + near.bought),
            "evaluate": min(c.users, JUDGED) * c.items,
        }
        return units.get(stage, 0), products

    def cost(stage: str, less: str, more: str) -> float:
        """CPU seconds of a unit, from the difference of two shops."""
        (few, few_products), (many, many_products) = units(stage, less), units(stage, more)
        cpu = [shops[shop]["stages"][stage]["cpu_seconds"] for shop in (less, more)]
        return max(0.0, (cpu[1] - many_products - cpu[0] + few_products) / (many - few)) if many else 0.0

    known = {shop: shops[shop]["counts"].known for shop in ("fewer", "more")}
    closed = (trained["more"] - trained["fewer"]) / (known["more"] - known["fewer"])
    unit, start, worker = {}, {}, {}
    for stage, small in shops["small"]["stages"].items():
        unit[stage] = cost(stage, "fewer", "more") if stage in shops["fewer"]["stages"] else 0.0
        few, products = units(stage, "small")
        start[stage] = max(0.0, small["cpu_seconds"] - few * unit[stage] - products)
        worker[stage] = max(0.0, shops["by two workers"]["stages"][stage]["cpu_seconds"] - small["cpu_seconds"]) / 2
    start["train"] = max(0.0, trained["fewer"] - known["fewer"] * closed)
    passes = 2 * known["fewer"]  # an epoch that is validated, and one on everything
    sources = len(sources_trained(settings, 1))
    return {
        "machine": f"{machine_cores()} cores, {machine_memory() / 2**30:.0f} GiB, {platform.machine()}",
        "dim": shops["more"]["counts"].dim,
        "start_seconds": {stage: _round(value) for stage, value in start.items()},
        "worker_seconds": {stage: _round(value) for stage, value in worker.items()},
        "start_bytes": {stage: _round(s["peak_bytes"]) for stage, s in shops["small"]["stages"].items()},
        "purchase": _round(unit["prepare"]),
        "training_purchase": _round((trained["an epoch"] - trained["fewer"]) / passes),
        "closed_purchase": _round(closed),
        "tried_purchase": _round(max(0.0, unit["train"] - closed) / sources),
        "pooled_purchase": _round(unit["embed"]),
        "indexed_item": _round(unit["index"]),
        "list_row": _round(unit["recommend"]),
        "neighbour_row": _round(unit["similar"]),
        "judged_pair": _round(unit["evaluate"]),
        "flops": _round(rate),
    }


def _round(value: float) -> float:
    return float(f"{value:.2g}")


def literal(values: Mapping[str, Any]) -> str:
    """The table as Python."""
    lines = ["MEASURED = Costs("]
    for name, value in values.items():
        if isinstance(value, dict):
            lines += [f"    {name}={{", *(f'        "{key}": {number!r},' for key, number in value.items()), "    },"]
        else:
            lines.append(f"    {name}={json.dumps(value) if isinstance(value, str) else repr(value)},")
    return "\n".join([*lines, ")\n"])


def print_plan(counts: Any, settings: Any, machine: Any, costs: Any, measured: Mapping[str, Any] | None) -> None:
    """A line a stage: what the plan says, beside what was measured."""
    from topkin.pipelines.engine import registry
    from topkin.planning.estimate import Workload, duration, plan, size

    load = Workload(counts=counts, settings=settings, machine=machine, costs=costs)
    planned = plan(load, [registry.stage(name).cost for name in registry.ORDER])
    for s in planned.stages:
        line = f"{s.stage:<10} {duration(s.seconds):>9}  CPU {duration(s.cpu_seconds):>9}  memory {size(s.memory):>8}"
        line += f"  read {size(s.bytes_read):>8}  written {size(s.bytes_written):>8}  {s.shards:>4} {s.mode}"
        if measured:
            real = measured[s.stage]
            line += f"   measured {duration(real['seconds'])}, CPU {duration(real['cpu_seconds'])}"
            line += f", {size(real['peak_bytes'])}"
            line += f", {size(real['bytes_read'])}, {size(real['bytes_written'])}"
        print(line)
    print("\n".join(["about " + duration(planned.seconds), *planned.refusals]))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; or print a plan."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--plan", nargs=3, type=float, metavar=("USERS", "ITEMS", "PURCHASES"))
    for name, value in {"memory": 16.0, "cores": 1.0, "workers": 1.0}.items():
        parser.add_argument(f"--{name}", type=float, default=value)
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args(argv)

    from topkin.config.load import load_settings
    from topkin.planning.costs import MEASURED, Costs
    from topkin.planning.estimate import InputCounts, Machine

    if args.plan:
        users, items, purchases = (int(n) for n in args.plan)
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder, "topkin.toml")
            config.write_text('[purchases]\npath = "x"\n')
            settings = load_settings(config, args.set, {})
        counts = InputCounts(purchases=purchases, known=purchases, users=users, items=items, input_bytes=20 * purchases)
        machine = Machine(memory=args.memory * 1e9, cores=int(args.cores), workers=int(args.workers))
        print_plan(counts, settings, machine, MEASURED, None)
        return 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        shops = {
            "small": with_content(folder / "small", SMALL),
            "by two workers": with_content(folder / "small", SMALL, TWO_WORKERS),
            "fewer": by_purchases(folder / "fewer", FEWER),
            "more": by_purchases(folder / "more", MORE),
        }
        settings = load_settings(folder / "more" / "topkin.toml", CLOSED, {})
        trained = {name: training(folder / name) for name in ("fewer", "more")}
        trained["an epoch"] = training(folder / "fewer", epochs=1)
        values = constants(shops, trained, flops())
        values["item_byte"] = _round(item_byte(folder / "images", values["purchase"]))
    text = literal(values)
    print(text)
    costs = Costs(**values)
    from topkin.telemetry.profiling import machine_cores, machine_memory

    machine = Machine(memory=machine_memory(), cores=machine_cores())
    print_plan(shops["more"]["counts"], settings, machine, costs, shops["more"]["stages"])
    if args.write:
        before, _, rest = COSTS.read_text().partition(BEGIN)
        COSTS.write_text(before + BEGIN + text + END + rest.partition(END)[2])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
