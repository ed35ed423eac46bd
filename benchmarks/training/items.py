"""Training on items alone, from their labels or from nothing: how well test images find their kind by it.

``python -m benchmarks.training.items [--method labels --method self_supervised --seed 1 --data ../shared/data]``.
Clothes (Fashion-MNIST): the 60,000 training images are items, as the stage prepare would write them; the section
``[train]`` is empty but for its method. Each of the 10,000 test images then looks for its nearest items, by cosine.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

BARS = {"labels": ("recall@1", 0.925, 0.935), "self_supervised": ("knn_accuracy", 0.88, 0.90)}
KS = (1, 5, 10, 15)
VOTE = 10
PARTS = 8


def items(path: Path) -> "pa.Table":
    """A file of images as prepared items."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    label = table["label_name"].cast(pa.string())
    return pa.table({"item_id": table["item_id"], "label": label, "image": table["image"]})


def measured(method: str, seed: int, data: Path, sets: list[str], folder: Path) -> dict[str, Any]:
    """Train with the defaults and a seed, embed both files, and measure."""
    import tomllib

    import pyarrow.parquet as pq

    from topkin.config.items_train import ItemsTrainSettings
    from topkin.encoding.inputs import InputChoice
    from topkin.metrics.retrieval import knn_accuracy
    from topkin.models import KerasEncoder
    from topkin.models.metric_training.fit import fit

    known, asked = (items(data / "fashion_mnist" / f"{part}.parquet") for part in ("train", "test"))
    parts = []
    for number in range(PARTS):
        parts.append(str(folder / f"part-{number:05d}-of-{PARTS:05d}.parquet"))
        step = -(-len(known) // PARTS)
        pq.write_table(known.slice(number * step, step), parts[-1])
    changes = tomllib.loads("\n".join(sets))
    settings = ItemsTrainSettings.model_validate({"method": method, **changes})
    began, cpu = time.perf_counter(), time.process_time()

    def epoch(record: dict[str, Any]) -> None:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in record.items() if name != "epoch")
        print(f"  epoch {record['epoch']}: {figures}, {time.perf_counter() - began:.0f} s", flush=True)

    summary = fit(
        settings, parts, {"image": InputChoice()}, str(folder), scratch=str(folder), seed=seed, on_epoch=epoch
    )
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    encoder = KerasEncoder.load(str(folder / "encoder"))
    vectors = [encoder.embed(table).vectors for table in (known, asked)]
    labels = [table["label"].to_pylist() for table in (known, asked)]
    votes = knn_accuracy(vectors[1], labels[1], vectors[0], labels[0], ks=KS)
    return {
        "method": method,
        "seed": seed,
        "recall@1": votes[1],
        "knn_accuracy": votes[VOTE],
        "votes": {str(k): round(v, 4) for k, v in votes.items()},
        "validation": summary["validation"],
        "epochs": summary["epochs"],
        "seconds": round(seconds),
        "cpu_seconds": round(cpu_seconds),
        "notes": summary["notes"],
    }


def main() -> None:
    """Train by each method and seed, print the figures and the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--method", action="append", choices=list(BARS), help="All without it.")
    parser.add_argument("--seed", action="append", type=int, help="1 without it.")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[3] / "shared" / "data")
    parser.add_argument("--folder", type=Path, help="Where results are kept, one folder for each; nowhere without it.")
    parser.add_argument("--set", action="append", default=[], help="A key of [train], as in epochs=4.")
    args = parser.parse_args()
    from topkin.pipelines.cli import logs

    logs.silence()
    for method in args.method or list(BARS):
        name, least, aim = BARS[method]
        rows = []
        for seed in args.seed or [1]:
            print(f"{method}, seed {seed}", flush=True)
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) if args.folder is None else args.folder / f"{method}-{seed}"
                folder.mkdir(parents=True, exist_ok=True)
                figures = measured(method, seed, args.data, args.set, folder)
            print(f"  {json.dumps(figures)}", flush=True)
            rows.append(figures[name])
        mean = sum(rows) / len(rows)
        spread = f" ({min(rows):.4f} to {max(rows):.4f}, {len(rows)} seeds)" if len(rows) > 1 else ""
        verdict = "ok" if mean >= least else "below"
        print(f"  {method:16s} {name} {mean:.4f}{spread}   bars {least} {aim}   {verdict}", flush=True)


if __name__ == "__main__":
    main()
