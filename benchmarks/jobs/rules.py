"""What rules of a shop cost: the recommend job under each, against the job without rules.

``python -m benchmarks.jobs.rules [--users 50000 --items 20000 --k 20 --repeats 5]``: d = 64, random unit vectors, 200
categories and 2,000 brands, ten countries, one item in twenty new, a stock that runs out for the items that most want.
Each row is a whole job on Beam's local runner, in turns; what counts is processors' seconds, which other work on the
machine changes less.
"""

import argparse
import os
import tempfile
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._turns import Turns

LEAST = 1.3
RULES: dict[str, dict[str, Any]] = {
    "without rules": {},
    "max_per, two columns": {"max_per": {"category": 3, "brand": 2}},
    "diversity": {"diversity": 0.3},
    "diversity and max_per": {"diversity": 0.3, "max_per": {"category": 3}},
    "boost": {"boost": {"stock": 0.1}},
    "new_items": {"new_items": {"days": 30, "at_least": 2}},
    "eligible": {"eligible": {"country": {"user": "segment", "item": "sold_in"}}},
    "capacity": {"capacity": "stock"},
    "capacity and max_per": {"capacity": "stock", "max_per": {"category": 3}},
}


def add_columns(folder: Path, *, items: int, k: int, users: int, parts: int) -> None:
    """Categories, brands, countries and a stock for the items, a country for the users."""
    import numpy as np
    import pyarrow as pa

    from benchmarks.jobs._embedded import AS_OF
    from topkin.artifacts import schemas, storage

    rng, path = np.random.default_rng(1), str(folder / "prepared" / "catalogue.parquet")
    catalogue = storage.read_parquet(path)
    countries = [str(country) for country in range(10)]
    stock = rng.pareto(1.0, items) * 1.2 * users * k / items  # a few have much, many less than are asked for
    columns = {
        "brand": pa.array([str(n) for n in rng.integers(0, 2000, items)]),
        "sold_in": pa.array([rng.choice(countries, rng.integers(1, 6), replace=False).tolist() for _ in range(items)]),
        "stock": pa.array(stock.astype(np.float32)),
    }
    features = pa.StructArray.from_arrays(
        [columns["brand"], columns["sold_in"].cast(schemas.LABELS), columns["stock"]], names=list(columns)
    )
    ages = np.random.default_rng(2).uniform(0, 600, items) * timedelta(days=1)
    first = pa.array([AS_OF - age for age in ages], schemas.TIME)
    catalogue = catalogue.set_column(catalogue.column_names.index("first_sale"), "first_sale", first)
    categories = pa.array([str(n) for n in rng.integers(0, 200, items)])
    catalogue = catalogue.set_column(catalogue.column_names.index("category"), "category", categories)
    storage.write_parquet(catalogue.append_column("features", features), path)
    for part in range(parts):
        path = str(folder / "prepared" / "histories" / storage.part_name(part, parts))
        table = storage.read_parquet(path)
        segments = pa.array([str(n) for n in rng.integers(0, 10, len(table))])
        storage.write_parquet(table.set_column(table.column_names.index("segment"), "segment", segments), path)


def job_of(folder: Path, out: Path, k: int, parts: int, rules: dict[str, Any]) -> None:
    """A job, on Beam's local runner, in this process."""
    from benchmarks.jobs._embedded import job
    from topkin.config.sections import Settings
    from topkin.pipelines import recommend

    features = {"brand": "brand", "sold_in": "sold_in", "stock": {"column": "stock", "kind": "number"}}
    settings = {
        "purchases": {"path": "x"},
        "items": {"path": "x", "category": "category", "features": features},
        "run": {"parts": parts},
        "recommend": {"k": k, **rules},
    }
    recommend.STAGE.execute(job(folder, out, Settings.model_validate(settings)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"users": 50_000, "items": 20_000, "k": 20, "parts": 4, "history": 40, "repeats": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--only", nargs="*", default=list(RULES))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HOME"] = scratch  # Beam caches there
        measure(Path(scratch), args)


def measure(scratch: Path, args: Any) -> None:
    """Generate, run all in turn, and print."""
    from benchmarks.jobs._embedded import write

    folder = scratch / "shop"
    write(folder, users=args.users, items=args.items, history=args.history, dim=64, parts=args.parts)
    add_columns(folder, items=args.items, k=args.k, users=args.users, parts=args.parts)
    plain = next(iter(RULES))
    names = [plain, *(name for name in args.only if name != plain)]
    rows = {
        name: partial(job_of, folder, scratch / str(i), args.k, args.parts, RULES[name]) for i, name in enumerate(names)
    }
    turns = Turns(rows, args.repeats)
    print(f"{args.users:,} users with {args.history} purchases x {args.items:,} items, d = 64, k = {args.k}")
    turns.tell_seconds()
    print("processors' seconds under the rule / without rules: at most")
    for name in names[1:]:
        ratio = turns.cpu[name] / turns.cpu[plain]
        print(f"  {name:32s} {ratio:5.2f} x  {LEAST:5.2f} x  {'ok' if ratio <= LEAST else 'below'}")


if __name__ == "__main__":
    main()
