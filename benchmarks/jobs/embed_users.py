"""A tower of users over histories in Parquet, against a bare loop of the model over the same arrays in memory.

``python -m benchmarks.jobs.embed_users [--users 200000 --length 64 --dim 32 --batch-size 1024 --repeats 3]``. A
transformer of one block, with times, over histories that are all as long as its input; and over histories of 1 to
``length`` values, most of them short, where the loop works through their padding and the job does not. The job reads,
checks, embeds and writes Parquet; the loop calls ``model(batch)`` and keeps the vectors.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path


def main() -> None:
    """Generate, run all in turn, print seconds and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    sizes = {"users": 200_000, "items": 20_000, "length": 64, "dim": 32, "batch-size": 1024, "repeats": 3}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", type=Path, help="Scratch on a disk of its own; the system's without it.")
    args = parser.parse_args()
    from topkin.pipelines.cli import logs

    logs.silence()
    import keras
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from benchmarks._turns import Turns
    from topkin.artifacts import storage
    from topkin.artifacts.embeddings import vectors_of
    from topkin.ingest.folders.file import File
    from topkin.models import history_encoder, save_encoder
    from topkin.pipelines.engine.job import run_pipeline
    from topkin.transforms.encode import EncodeInputs, EncodeTable

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    users = history_encoder(np.arange(1, args.items + 1), args.dim, length=args.length, seed=0)
    history = {name: {"column": name, "kind": "history", "length": args.length} for name in ("items", "ages")}
    size = keras.Input((1,), name="size")
    items = keras.Model(size, keras.layers.Dense(args.dim)(size))
    all_long = np.full(args.users, args.length)
    short = np.minimum(1 + rng.geometric(1 / 12, args.users), args.length)

    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        encoder = str(Path(scratch) / "encoder")
        save_encoder(items, encoder, user=users, user_inputs=history)

        def write(name: str, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """The table of users; gives the same as padded arrays."""
            within = np.arange(args.length) < lengths[:, None]
            ids = np.where(within, rng.integers(1, args.items + 1, within.shape), 0)
            ages = np.where(within, np.sort(rng.exponential(60, within.shape))[:, ::-1], 0).astype(np.float32)
            ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
            columns = {
                "id": pa.array(np.arange(args.users)),
                "items": pa.ListArray.from_arrays(ends, pa.array(ids[within])),
                "ages": pa.ListArray.from_arrays(ends, pa.array(ages[within])),
            }
            pq.write_table(pa.table(columns), f"{scratch}/{name}.parquet", row_group_size=16_384)
            return ids, ages

        def job(name: str) -> None:
            what = EncodeInputs(
                encoder=encoder,
                side="users",
                files=[File(f"{scratch}/{name}.parquet", 0, rows=args.users)],
                id_column="id",
                id_type=pa.int64(),
                columns=["id", "items", "ages"],
                batch_size=args.batch_size,
            )
            run_pipeline(EncodeTable(what, f"{scratch}/{name}", f"{scratch}/{name}.json"), [])

        def bare(arrays: tuple[np.ndarray, ...]) -> np.ndarray:
            batches = (slice(s, s + args.batch_size) for s in range(0, args.users, args.batch_size))
            return np.concatenate([users([a[b] for a in arrays], training=False).numpy() for b in batches])

        arrays = {"all long": write("all long", all_long), "mostly short": write("mostly short", short)}
        rows = {}
        for name, padded in arrays.items():
            rows[f"topkin embed, {name}"] = partial(job, name)
            rows[f"bare loop, {name}"] = partial(bare, padded)
        turns = Turns(rows, args.repeats)
        print(
            f"{args.users:,} users, the last {args.length} of {args.items:,} items each, "
            f"{users.count_params():,} weights, batches of {args.batch_size:,}"
        )
        turns.tell_seconds()
        for name in arrays:
            ours = np.concatenate(
                [vectors_of(storage.read_parquet(p)) for p in storage.parquet_files(f"{scratch}/{name}/users")]
            )
            worst = float(np.abs(ours - turns.answers[f"bare loop, {name}"]).max())
            assert worst < 1e-5, worst
            turns.tell_ratio(f"topkin embed, {name}", f"bare loop, {name}", 1 / 1.25, f"to {worst:.0e}", 1 / 1.1)
            slower = turns.median[f"topkin embed, {name}"] / turns.median[f"bare loop, {name}"]
            counts = storage.read_json(f"{scratch}/{name}.json")
            padding = counts["users"]["padded"] / counts["worked"]["users"]
            print(
                f"  {name}: the job takes {slower:.2f} x the time of the bare loop; at least 1.25 x, aim 1.1 x; "
                f"{padding:.1%} padding"
            )


if __name__ == "__main__":
    main()
