"""Every loss of the library on one encoder and one budget: which embeddings do they make of clothes?

    python examples/losses_fashion.py                            all of them, about a minute each
    python examples/losses_fashion.py --loss triplet --loss arcface --steps 100
    python examples/losses_fashion.py --results losses.jsonl     in pieces: what the file holds is not run again

The same small convolutional network, the same batches (10 classes x 8 images), steps, optimizer and seed.
Nothing is tuned: each loss has its documented defaults or its paper's settings. Recall@1 is of the 10,000 test
images against the 60,000 trained on, MAP@R of the test images among themselves; both by cosine.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from topkin.metrics.retrieval import retrieval_metrics
from topkin.models import MetricEmbedding, distances, losses, miners, read_images, samplers, small_cnn
from topkin.models.encoders.images import Images
from topkin.models.metric_learning.heads import Proxies
from topkin.models.ops import device

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CLASSES, DIM, EXAMPLES = 10, 64, 8


class TwoViews(keras.layers.Layer):
    """Neighbouring rows of a batch as two views of one thing: (2n, d) -> (n, 2, d). Batches come class by class."""

    def call(self, x: Any) -> Any:
        """See the class."""
        return keras.ops.reshape(x, (-1, 2, x.shape[-1]))


@dataclass(frozen=True)
class Case:
    """A loss and what it reads.

    unit: the embedding's rows have length 1; else they are as the linear layer gives them. output: the layer
    after the embedding; the loss's own head where None. tell: what of a batch's labels the loss is given.
    """

    loss: Callable[[], losses.Loss]
    unit: bool = True
    output: Callable[[], keras.layers.Layer] | None = None
    tell: Callable[[np.ndarray], np.ndarray] = lambda labels: labels


def _of_pairs(labels: np.ndarray) -> np.ndarray:
    return labels[::2]


def _of_candidates(labels: np.ndarray) -> np.ndarray:
    return np.eye(CLASSES, dtype=np.int32)[labels]


def _class_vectors() -> keras.layers.Layer:
    return keras.layers.Dense(CLASSES, use_bias=False)


CASES: dict[str, Case] = {
    "contrastive": Case(lambda: losses.Contrastive()),
    "contrastive_cosine": Case(lambda: losses.Contrastive(distance=distances.Cosine())),
    "triplet": Case(lambda: losses.Triplet(0.2, distance=distances.SquaredEuclidean(), miner=miners.SemiHard(0.2))),
    "triplet_soft": Case(lambda: losses.Triplet(0.0, soft=True, miner=miners.BatchHard()), unit=False),
    "lifted_structure": Case(lambda: losses.LiftedStructure()),
    "multi_similarity": Case(lambda: losses.MultiSimilarity(miner=miners.MultiSimilarityMiner())),
    "circle": Case(lambda: losses.Circle()),
    "n_pair": Case(lambda: losses.NPair(l2=0.002), unit=False),
    "nt_xent": Case(lambda: losses.NTXent()),
    "sup_con": Case(lambda: losses.SupCon()),
    "info_nce": Case(lambda: losses.InfoNCE(), output=TwoViews, tell=_of_pairs),
    "soft_nearest_neighbour": Case(lambda: losses.SoftNearestNeighbour(), unit=False),
    "center": Case(lambda: losses.Center(), unit=False),
    "am_softmax": Case(lambda: losses.AMSoftmax()),
    "cosface": Case(lambda: losses.CosFace()),
    "arcface": Case(lambda: losses.ArcFace()),
    "sub_center_arcface": Case(lambda: losses.SubCenterArcFace()),
    "proxy_nca": Case(lambda: losses.ProxyNCA()),
    "proxy_nca_plus": Case(lambda: losses.ProxyNCAPlus()),
    "soft_triple": Case(lambda: losses.SoftTriple()),
    "proxy_anchor": Case(lambda: losses.ProxyAnchor()),
    # Losses of recommendation. An image is a user and its class what was bought: one vector a class, the others
    # were not bought. For the sampled softmax the item is another image of the class; each class is drawn as often.
    "ccl": Case(lambda: losses.CCL(), output=lambda: Proxies(CLASSES), tell=_of_candidates),
    "bpr": Case(lambda: losses.BPR(), unit=False, output=_class_vectors, tell=_of_candidates),
    "sampled_softmax": Case(lambda: losses.SampledSoftmax(np.ones(CLASSES)), output=TwoViews, tell=_of_pairs),
    "cross_batch_memory": Case(lambda: losses.CrossBatchMemory(_with_margin(), size=1024, dim=DIM)),
    "weighted_sum": Case(
        lambda: losses.WeightedSum(
            [losses.NTXent(), losses.Triplet(0.2, miner=miners.SemiHard(0.2))], weights=[1.0, 0.5]
        )
    ),
}
BASELINES = ("raw_pixels", "untrained")


def _with_margin() -> losses.Contrastive:
    """The memory's paper: cosines of alike pairs to 1, of others below .5."""
    return losses.Contrastive(1.0, 0.5, squared=False, distance=distances.Cosine())


class Targets(samplers.ClassBatches):
    """Batches whose labels are told as a loss reads them."""

    def __init__(self, *args: Any, tell: Callable[[np.ndarray], np.ndarray], **settings: Any) -> None:
        self.tell = tell
        super().__init__(*args, **settings)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows, labels = super().__getitem__(index)
        return rows, self.tell(labels)


def encoder_of(unit: bool, seed: int) -> keras.Model:
    """The network: (n, 28, 28, 1) images to (n, 64)."""
    base = small_cnn(widths=(16, 32, 64), seed=seed)
    start = keras.initializers.GlorotUniform(seed=seed)
    last = MetricEmbedding(DIM, seed=seed) if unit else keras.layers.Dense(DIM, kernel_initializer=start)
    return keras.Model(base.input, last(base.output), name="encoder")


def trained(case: Case, train: Images, options: argparse.Namespace) -> tuple[keras.Model, float]:
    """The encoder after its budget, and its last losses' mean."""
    encoder, loss = encoder_of(case.unit, options.seed), case.loss()
    head = loss.head(CLASSES) if case.output is None else case.output()
    model = keras.Model(encoder.input, encoder.output if head is None else head(encoder.output))
    rate = keras.optimizers.schedules.CosineDecay(options.learning_rate, options.steps)
    # XLA gains nothing on a processor: TensorFlow's own convolutions are twice as fast there.
    model.compile(keras.optimizers.Adam(rate), loss=loss, jit_compile=False)
    sizes = {"classes": CLASSES, "examples": EXAMPLES, "batches": options.steps, "seed": options.seed}
    history = model.fit(Targets(*train, tell=case.tell, **sizes), epochs=1, verbose=0)
    return encoder, history.history["loss"][-1]


def measured(name: str, train: Images, test: Images, options: argparse.Namespace) -> dict[str, Any]:
    """One line of the table."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(options.seed)
    began, cpu = time.perf_counter(), time.process_time()
    loss = None
    if name == "raw_pixels":
        vectors = [x.images.reshape(len(x.images), -1).astype(np.float32) for x in (train, test)]
    else:
        encoder = encoder_of(True, options.seed)
        if name in CASES:
            encoder, loss = trained(CASES[name], train, options)
        learned, learned_cpu = time.perf_counter(), time.process_time()
        vectors = [encoder.predict(x.images, batch_size=500, verbose=0) for x in (train, test)]
    index, queries = vectors
    nearest = retrieval_metrics(queries, test.labels, index, train.labels, ks=(1,), to_r=False)
    among = retrieval_metrics(queries, test.labels, ks=(1,))
    figures = {
        "loss": name,
        "recall@1": nearest["recall_any@1"],
        "map@r": among["map@r"],
        "last_loss": loss,
        "steps": options.steps if name in CASES else 0,
        "seed": options.seed,
        "train_images": len(train.images),
        "test_images": len(test.images),
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
    }
    if name in CASES:
        figures |= {"train_seconds": learned - began, "train_cpu_seconds": learned_cpu - cpu}
    return figures


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as Markdown, best first."""
    lines = ["| loss | Recall@1 | MAP@R | CPU seconds to train | CPU seconds in all |", "|---|---|---|---|---|"]
    for f in sorted(rows, key=lambda f: -f["recall@1"]):
        spent = f"{f['train_cpu_seconds']:.0f}" if "train_cpu_seconds" in f else ""
        lines.append(f"| {f['loss']} | {f['recall@1']:.4f} | {f['map@r']:.4f} | {spent} | {f['cpu_seconds']:.0f} |")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> list[dict[str, Any]]:
    """Train and measure what is asked for; returns a line for each."""
    names = [*CASES, *BASELINES]
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--data", type=Path, default=DATA, help="the folder of the data sets")
    flags.add_argument("--loss", action="append", choices=names, help="only this one; may be given several times")
    flags.add_argument("--steps", type=int, default=1000)
    flags.add_argument("--learning-rate", type=float, default=1e-3)
    flags.add_argument("--images", type=int, default=None, help="use only so many images of each part")
    flags.add_argument("--seed", type=int, default=1)
    flags.add_argument("--results", type=Path, default=None, help="JSON lines, read first and added to")
    flags.add_argument("--json", action="store_true", help="print JSON lines only, no table")
    options = flags.parse_args(argv)

    device.set_up()
    folder = options.data / "fashion_mnist"
    train, test = (
        Images(*(x[: options.images] for x in read_images(str(folder / f"{part}.parquet"))))
        for part in ("train", "test")
    )
    done = {}
    if options.results is not None and options.results.exists():
        for line in options.results.read_text(encoding="utf-8").splitlines():
            past = json.loads(line)
            same = past["seed"] == options.seed and past["train_images"] == len(train.images)
            if same and past["steps"] == (options.steps if past["loss"] in CASES else 0):
                done[past["loss"]] = past
    rows = []
    for name in options.loss or names:
        figures = done.get(name) or measured(name, train, test, options)
        rows.append(figures)
        print(json.dumps(figures), flush=True)
        if options.results is not None and name not in done:
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(figures) + "\n")
    if not options.json:
        print(table(rows))
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
