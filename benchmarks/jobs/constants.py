"""The constants of ``topkin/planning/costs.py``: what a unit of each stage's work costs on this machine.

``python -m benchmarks.jobs.constants [--write] [--folder FOLDER]`` runs all stages on two generated shops with
``topkin run --profile``, takes the cost of a unit from the difference of their CPU seconds (of a row to prepare, from
2,000,000 more rows) and the start from what is left, and prints the table beside what the plan then says of the
larger shop; ``--write`` puts it into ``topkin/planning/costs.py``. A busy machine changes CPU seconds little.
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

SMALL, LARGE = (2_000, 1_000, 60_000), (6_000, 6_000, 120_000)
COSTS = Path(__file__).parents[2] / "topkin" / "planning" / "costs.py"
BEGIN, END = "# begin of what python -m benchmarks.jobs.constants --write writes\n", "# end\n"


def profile(folder: Path, size: tuple[int, int, int]) -> dict[str, Any]:
    """Run all stages on a shop of users, items, purchases; its counts, and what each stage cost."""
    from topkin.artifacts.runs import read_run
    from topkin.planning.estimate import InputCounts
    from topkin.synthetic.shop import Shop

    users, items, purchases = size
    shop = Shop(users=users, items=items, purchases=purchases, seed=42)
    if not folder.exists():
        shop.write(str(folder / "shop"))
        (folder / "topkin.toml").write_text(shop.config_toml("shop"))
    command = ["run", "--config", str(folder / "topkin.toml"), "--as-of", shop.as_of.isoformat()]
    flags = ["--force", "--profile", "--no-publish", "--json"]
    done = subprocess.run([sys.executable, "-m", "topkin", *command, *flags], check=True, stdout=subprocess.PIPE)
    report = json.loads(done.stdout)
    run = read_run(report["output"], report["run_id"])
    stages = json.loads(Path(run.path, "profile.json").read_text())["stages"]
    dim = json.loads(Path(run.folder("embed"), "vectors.json").read_text())["dim"]
    counts = replace(InputCounts.of_prepared(run.folder("prepare")), dim=dim)
    return {"counts": counts, "stages": {s["stage"]: s for s in stages}}


def purchase(folder: Path) -> float:
    """CPU seconds of preparing a row: 2,000,000 rows more of generated purchases."""
    from benchmarks.jobs._purchases import AS_OF, PURCHASES, write

    seconds = []
    for rows in (100_000, 2_100_000):
        write(folder / f"{rows}", rows)
        config = folder / f"{rows}.toml"
        keys = [f"{key} = {json.dumps(value)}\n" for key, value in PURCHASES.items() if key != "rules"]
        rules = [f"rules.{key} = {json.dumps(value)}\n" for key, value in PURCHASES["rules"].items()]
        config.write_text("".join(["[purchases]\n", f'path = "{rows}"\n', *keys, *rules]))
        command = ["prepare", "--config", str(config), "--as-of", str(AS_OF)[:10], "--force", "--json"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "topkin", *command], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return (seconds[1] - seconds[0]) / 2_000_000


def training(folder: Path) -> tuple[float, float]:
    """CPU seconds of the closed form of a purchase, and of one for each source beside it: 2,000,000 purchases more."""
    from benchmarks.scale.whole_run import AS_OF, write
    from topkin.config.load import load_settings
    from topkin.recommend.second.chosen import sources_trained

    seconds: dict[str, list[float]] = {"[]": [], "": []}
    for rows in (500_000, 2_500_000):
        write(folder / f"{rows}", rows // 20, rows // 100, rows)
        config = str(folder / f"{rows}" / "topkin.toml")
        command = [sys.executable, "-m", "topkin", "train", "--config", config, "--as-of", AS_OF, "--json"]
        command += ["--set", "train.epochs=0"]
        subprocess.run([*command[:3], "prepare", *command[4:8]], check=True, stdout=subprocess.DEVNULL)
        for sources, of_rows in seconds.items():
            asked = ["--set", f"recommend.sources={sources}"] if sources else []
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([*command, *asked], check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            of_rows.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    closed, tried = ((more - less) / 2_000_000 for less, more in seconds.values())
    return closed, (tried - closed) / len(sources_trained(load_settings(config, (), {}), 1))


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


def constants(
    small: Mapping[str, Any],
    large: Mapping[str, Any],
    row: float,
    rate: float,
    byte: float,
    closed: float,
    tried: float,
) -> dict[str, Any]:
    """The fields of ``costs.Costs`` from the profiles of two shops, a row's preparing, an item's byte's, the rate of
    top-k, and what :func:`training` gives."""
    from topkin.config.sections import Settings
    from topkin.planning.estimate import Machine, Workload
    from topkin.telemetry.profiling import machine_cores, machine_memory

    settings = Settings.model_validate({"purchases": {"path": "x"}})
    load = Workload(counts=small["counts"], settings=settings, machine=Machine(memory=math.inf))
    near, dim, k = settings.similar, load.dim, settings.recommend.k

    def units(stage: str, c: Any) -> tuple[float, float]:
        """Units of a stage's work, and the CPU seconds of its products."""
        products = {"recommend": c.users * c.items, "similar": c.users**2 + c.items**2}.get(stage, 0)
        units = {
            "prepare": c.purchases,
            "train": c.known,
            "embed": c.known + c.items,
            "index": c.items * math.log2(2 + c.items),
            "recommend": c.users * k,
            "similar": c.items * near.items + c.users * (near.users + near.bought),
            "evaluate": c.users * c.items,
        }
        return units.get(stage, 0), 2.0 * dim * products / rate

    unit, start = {}, {}
    for stage in small["stages"]:
        (less, less_products), (more, more_products) = (units(stage, shop["counts"]) for shop in (small, large))
        cpu = [shop["stages"][stage]["cpu_seconds"] for shop in (small, large)]
        unit[stage] = max(0.0, (cpu[1] - more_products - cpu[0] + less_products) / (more - less)) if more else 0.0
        unit[stage] = row if stage == "prepare" else unit[stage]
        start[stage] = max(0.0, cpu[0] - less * unit[stage] - less_products)
    return {
        "machine": f"{machine_cores()} cores, {machine_memory() / 2**30:.0f} GiB, {platform.machine()}",
        "dim": dim,
        "start_seconds": {stage: _round(value) for stage, value in start.items()},
        "start_bytes": {stage: _round(s["peak_bytes"]) for stage, s in small["stages"].items()},
        "purchase": _round(unit["prepare"]),
        "training_purchase": _round(unit["train"]),
        "closed_purchase": _round(closed),
        "tried_purchase": _round(tried),
        "pooled_purchase": _round(unit["embed"]),
        "indexed_item": _round(unit["index"]),
        "list_row": _round(unit["recommend"]),
        "neighbour_row": _round(unit["similar"]),
        "judged_pair": _round(unit["evaluate"]),
        "flops": _round(rate),
        "item_byte": _round(byte),
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
        small, large = profile(folder / "small", SMALL), profile(folder / "large", LARGE)
        settings = load_settings(folder / "large" / "topkin.toml", (), {})
        row = purchase(folder / "purchases")
        closed, tried = training(folder / "training")
        values = constants(small, large, row, flops(), item_byte(folder / "images", row), closed, tried)
    text = literal(values)
    print(text)
    costs = Costs(**values)
    from topkin.telemetry.profiling import machine_cores, machine_memory

    machine = Machine(memory=machine_memory(), cores=machine_cores())
    print_plan(large["counts"], settings, machine, costs, large["stages"])
    if args.write:
        before, _, rest = COSTS.read_text().partition(BEGIN)
        COSTS.write_text(before + BEGIN + text + END + rest.partition(END)[2])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
