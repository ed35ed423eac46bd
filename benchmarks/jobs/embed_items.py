"""A trained Keras model over images in Parquet, against a bare loop of the model over the same arrays in memory.

``python -m benchmarks.jobs.embed_items [--images 70000 --batch-size 1024 --repeats 3]``. 28 x 28 random pixels through
a small CNN. The job reads, checks, embeds and writes Parquet; the loop calls ``model(batch)`` and keeps the vectors. A
third row is ``model.predict``.
"""

import argparse
import tempfile
from pathlib import Path


def main() -> None:
    """Generate, run all in turn, print seconds and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"images": 70_000, "batch-size": 1024, "repeats": 3}.items():
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
    from topkin.models import MetricEmbedding, save_encoder, small_cnn
    from topkin.pipelines.engine.job import run_pipeline
    from topkin.transforms.encode import EncodeInputs, EncodeTable

    keras.utils.set_random_seed(0)
    inputs = keras.Input((28, 28, 1), name="image")
    features = small_cnn((28, 28, 1), widths=(8, 16, 32), depth=1, seed=0)(inputs)
    model = keras.Model(inputs, MetricEmbedding(64, seed=0)(features))
    pixels = np.random.default_rng(0).integers(0, 256, (args.images, 28, 28, 1), dtype=np.uint8)
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        folder = Path(scratch)
        column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(784), len(pixels), [None, pa.py_buffer(pixels)])
        table = pa.table({"sku": np.arange(len(pixels)), "photo": column})
        pq.write_table(table, folder / "items.parquet", row_group_size=16_384)
        save_encoder(model, str(folder / "encoder"), {"image": "photo"})
        what = EncodeInputs(
            encoder=str(folder / "encoder"),
            files=[File(str(folder / "items.parquet"), 0, rows=len(pixels))],
            id_column="sku",
            id_type=pa.int64(),
            columns=["sku", "photo"],
            batch_size=args.batch_size,
        )

        def job() -> None:
            run_pipeline(EncodeTable(what, str(folder / "out"), str(folder / "tally.json")), [])

        def bare() -> np.ndarray:
            starts = range(0, len(pixels), args.batch_size)
            return np.concatenate([model(pixels[s : s + args.batch_size], training=False).numpy() for s in starts])

        def predict() -> np.ndarray:
            return np.asarray(model.predict(pixels, batch_size=args.batch_size, verbose=0))

        turns = Turns({"topkin embed": job, "model.predict": predict, "bare loop": bare}, args.repeats)
        print(f"{len(pixels):,} images of 28 x 28, {model.count_params():,} weights, batches of {args.batch_size:,}")
        turns.tell_seconds()
        ours = np.concatenate(
            [vectors_of(storage.read_parquet(p)) for p in storage.parquet_files(str(folder / "out/items"))]
        )
        worst = float(np.abs(ours - turns.answers["model.predict"]).max())
        assert worst < 1e-5, worst
        turns.tell_ratio("topkin embed", "bare loop", 1 / 1.25, f"to {worst:.0e}", 1 / 1.1)
        slower = turns.median["topkin embed"] / turns.median["bare loop"]
        print(f"  the job takes {slower:.2f} x the time of the bare loop; at least 1.25 x, aim 1.1 x")


if __name__ == "__main__":
    main()
