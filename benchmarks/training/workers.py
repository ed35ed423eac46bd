"""The decomposition of train's closed form: one process, the runner's one worker, of a thread and of all, and its two.

``python -m benchmarks.training.workers [--purchases 5600000 --items 50000 --users 280000 --rank 512]``. Histories of
users of 64 tastes; each way in a process of its own: wall-clock and processor seconds, the peak of the process that
trains, and the cosines of its leading singular vectors with those of one process. ``--train`` does the whole stage
``train`` without epochs instead, in one process and with one worker.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

AS_OF = datetime(2024, 12, 1)
TASTES = 64
WAYS = {"one process": (None, 1.0), "one worker": (1, 1.0), "one of half": (1, 0.5), "two workers": (2, 0.5)}
"""Workers, None without Beam, and the share of the machine's cores that one multiplies with."""


def write(folder: Path, users: int, items: int, purchases: int, parts: int) -> None:
    """A prepared folder of histories and a catalogue of ids."""
    import pyarrow as pa

    from topkin.artifacts import schemas, storage

    rng = np.random.default_rng(0)
    of_kind, mine = items // TASTES, purchases // users
    sold = np.zeros(items, np.int64)
    for part in range(parts):
        n = users // parts
        kind = np.repeat(rng.integers(TASTES, size=n), mine)
        own = kind * of_kind + (of_kind * rng.random(n * mine) ** 2).astype(np.int64)
        other = (items * rng.random(n * mine)).astype(np.int64)
        what = np.where(rng.random(n * mine) < 0.7, own, other)
        sold += np.bincount(what, minlength=items)
        days = -np.sort(-(1 + 700 * rng.random((n, mine))), axis=1).reshape(-1)
        times = np.datetime64(AS_OF, "us") - (days * 86_400e6).astype("timedelta64[us]")
        offsets = pa.array(np.arange(0, n * mine + 1, mine, dtype=np.int32))
        columns = {"items": what, "times": times, "weights": np.ones(n * mine, np.float32)}
        lists = {name: pa.ListArray.from_arrays(offsets, pa.array(values)) for name, values in columns.items()}
        lists["user_id"] = pa.array(np.arange(part * n, (part + 1) * n))
        storage.write_parquet(pa.table(lists), str(folder / "histories" / storage.part_name(part, parts)))
    counts = {"item_id": np.arange(items), "available": sold >= 0, "events": sold, "users": sold, "recent": sold // 100}
    counts |= {"first_sale": np.full(items, AS_OF - timedelta(700)), "last_sale": np.full(items, AS_OF - timedelta(1))}
    schema = schemas.catalogue(pa.int64())
    catalogue = {
        f.name: pa.array(counts[f.name], f.type) if f.name in counts else pa.nulls(items, f.type) for f in schema
    }
    storage.write_parquet(pa.table(catalogue, schema), str(folder / "catalogue.parquet"))
    storage.write_json({"events": purchases}, str(folder / "statistics.json"))


def decompose_by(folder: Path, way: str, rank: int) -> dict[str, Any]:
    """Decompose in one way; what it took."""
    from topkin.artifacts import storage
    from topkin.encoding.svd import SpectralSettings, decompose, purchase_weights
    from topkin.models.data.histories import PreparedHistories
    from topkin.models.two_tower.svd_block import parts_of
    from topkin.pipelines.engine.job import run_pipeline
    from topkin.telemetry.profiling import machine_cores, measure_usage
    from topkin.transforms.closed_form.spectrum import DecomposeParts, SpectrumInputs, read_spectrum

    workers, share = WAYS[way]
    catalogue = str(folder / "catalogue.parquet")
    ids = storage.read_parquet(catalogue)["item_id"]
    histories = PreparedHistories(str(folder / "histories"), ids, AS_OF)
    settings = SpectralSettings(dim=rank, passes=4)
    with measure_usage() as usage:
        if workers is None:
            spectrum = decompose(lambda: map(purchase_weights, parts_of(histories)), len(ids), settings)
        else:
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                inputs = SpectrumInputs(
                    purchases=histories.to_send(),
                    catalogue=catalogue,
                    n_items=len(ids),
                    weigh=partial(purchase_weights),
                    settings=settings,
                    scratch=scratch,
                    threads=max(1, int(share * machine_cores())),
                )
                several = ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
                run_pipeline(DecomposeParts(inputs), several if workers > 1 else ())
                spectrum = read_spectrum(inputs)
    np.save(folder / f"{way}.npy", spectrum.V[:, :TASTES])
    return {"seconds": usage.seconds, "cpu": usage.cpu_seconds, "peak": usage.peak_bytes}


def train_by(folder: Path, workers: int | None) -> dict[str, Any]:
    """The whole stage, without epochs, in one way; what it took."""
    from topkin.config.sections import Settings
    from topkin.pipelines import train
    from topkin.pipelines.engine.job import Job
    from topkin.telemetry.profiling import measure_usage

    sets = {"epochs": 0, "advanced": {"svd_workers_from": 10**12 if workers is None else 0}}
    settings = Settings.model_validate({"purchases": {"path": "x"}, "train": sets, "recommend": {"sources": []}})
    out = folder / f"model-{workers}"
    out.mkdir()
    with measure_usage() as usage:
        train.STAGE.execute(Job(settings=settings, as_of=AS_OF, out=str(out), folders={"prepare": str(folder)}))
    return {"seconds": usage.seconds, "cpu": usage.cpu_seconds, "peak": usage.peak_bytes}


def main() -> None:
    """Write the purchases, decompose in each way, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    sizes = {"purchases": 5_600_000, "items": 50_000, "users": 280_000, "rank": 512, "parts": 8}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--train", action="store_true", help="the whole stage train")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder:
        used = (
            train_by(args.folder, WAYS[args.way][0]) if args.train else decompose_by(args.folder, args.way, args.rank)
        )
        print(json.dumps(used))
        return
    print(f"{args.purchases:,} purchases, {args.items:,} items, {args.users:,} users, rank {args.rank}, 4 passes")
    with tempfile.TemporaryDirectory(prefix="topkin-workers-") as scratch:
        folder, first = Path(scratch), np.zeros(0)
        write(folder, args.users, args.items, args.purchases, args.parts)
        seconds = {}
        for way in ("one process", "one worker") if args.train else WAYS:
            command = [sys.executable, "-m", "benchmarks.training.workers", "--folder", scratch, "--way", way]
            command += ["--rank", str(args.rank), *(["--train"] if args.train else [])]
            used = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            line = f"  {way:16s} {used['seconds']:7.1f} s   processors {used['cpu']:7.1f} s   peak of the process that "
            line += f"trains {used['peak'] / 1e6:7,.0f} MB"
            seconds[way] = used["seconds"]
            if not args.train:
                V = np.load(folder / f"{way}.npy")
                first = V if way == "one process" else first
                line += f"   least cosine {np.sum(V * first, axis=0).min():.5f}"
            print(line, flush=True)
        if not args.train:
            alone, all_cores = (seconds["two workers"] / seconds[way] for way in ("one of half", "one worker"))
            print(f"  two workers took {alone:.2f} of one of the same threads, {all_cores:.2f} of one of all cores")


if __name__ == "__main__":
    main()
