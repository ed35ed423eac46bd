"""What both Siamese examples do: train a twin network on pairs, measure it on pairs of images it never saw."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from topkin.models import device, siamese
from topkin.models.augment import Augmenter
from topkin.models.embedding_head import MetricEmbedding
from topkin.models.images import Images, mlp, small_cnn
from topkin.models.pair_losses import Contrastive, PairContrastive
from topkin.models.pictures import pairs_picture
from topkin.models.reducers import Mean, MeanOfNonZero
from topkin.models.samplers import ClassBatches

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
THRESHOLD = 0.5
RATES = {"mlp": 1e-3, "cnn": 2e-3}


def arguments(description: str | None, argv: Sequence[str], epochs: dict[str, int]) -> argparse.Namespace:
    """The flags of a Siamese example. epochs: the default for each encoder."""
    flags = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--data", type=Path, default=DATA, help="the folder of the data sets")
    flags.add_argument("--encoder", choices=["mlp", "cnn"], default="mlp")
    flags.add_argument(
        "--pairs",
        choices=["batch", "drawn"],
        default="batch",
        help="batch: all pairs of a batch of images, each kind half of the loss; drawn: as many of each kind as there "
        "are images",
    )
    flags.add_argument(
        "--different",
        choices=["near", "all"],
        help="with --pairs batch, what the different pairs' loss is a mean of: those nearer than the margin, as a "
        "perceptron needs (its default), or all",
    )
    flags.add_argument("--epochs", type=int, default=None, help=f"by default {epochs}")
    flags.add_argument("--batch-size", type=int, default=128)
    flags.add_argument("--learning-rate", type=float, default=None, help=f"at the start, by default {RATES}")
    flags.add_argument("--images", type=int, default=None, help="train on so many images only")
    flags.add_argument("--no-augment", action="store_true", help="train on the images as they are")
    flags.add_argument("--seed", type=int, default=1)
    flags.add_argument("--picture", type=Path, default=None, help="write the pairs most worth a look as SVG")
    options = flags.parse_args(argv)
    options.epochs = options.epochs or epochs[options.encoder]
    options.learning_rate = options.learning_rate or RATES[options.encoder]
    return options


def encoder_of(kind: str, seed: int) -> keras.Model:
    """The article's perceptron, or a small convolutional network with rows of length 1."""
    if kind == "mlp":
        return mlp(units=(128, 128, 128), dropout=0.1, seed=seed)
    base = small_cnn(widths=(16, 32, 64), seed=seed)
    return keras.Model(base.input, MetricEmbedding(64, seed=seed)(base.output), name="cnn")


def rate(options: argparse.Namespace, batches: keras.utils.PyDataset) -> keras.optimizers.Optimizer:
    """RMSProp whose step size falls to zero along a cosine."""
    steps = len(batches) * options.epochs
    return keras.optimizers.RMSprop(keras.optimizers.schedules.CosineDecay(options.learning_rate, steps))


def fit(encoder: keras.Model, train: Images, augment: Augmenter | None, options: argparse.Namespace) -> float:
    """Train on the pairs within batches of all classes, each image encoded once for all its pairs; the last loss."""
    examples = max(2, options.batch_size // len(np.unique(train.labels)))
    batches = ClassBatches(
        train.images,
        train.labels,
        classes=len(np.unique(train.labels)),
        examples=examples,
        augment=augment,
        seed=options.seed,
    )
    near = options.different == "near" or (options.different is None and options.encoder == "mlp")
    loss = Contrastive(negative_margin=1.0, reducer=MeanOfNonZero() if near else Mean())
    # XLA gains nothing on a processor: TensorFlow's own convolutions are faster there.
    encoder.compile(rate(options, batches), loss=loss, jit_compile=False)
    return float(encoder.fit(batches, epochs=options.epochs, verbose=2).history["loss"][-1])


def fit_drawn(network: keras.Model, train: Images, augment: Augmenter | None, options: argparse.Namespace) -> float:
    """Train on pairs drawn anew each epoch, alike and different ones in equal numbers; the last loss."""
    batches = siamese.PairBatches(
        train.images, train.labels, batch_size=options.batch_size, augment=augment, seed=options.seed
    )
    metrics = [siamese.PairAccuracy(THRESHOLD)]
    network.compile(rate(options, batches), loss=PairContrastive(margin=1.0), metrics=metrics, jit_compile=False)
    return float(network.fit(batches, epochs=options.epochs, verbose=2).history["loss"][-1])


def run(options: argparse.Namespace, train: Images, test: Images, augment: Augmenter, names: Sequence[str]) -> dict:
    """Train, measure, print; returns the figures."""
    keras.utils.set_random_seed(options.seed)
    device.set_up()
    began, cpu = time.perf_counter(), time.process_time()
    train = Images(*(x[: options.images] for x in train))
    encoder = encoder_of(options.encoder, options.seed)
    network = siamese.twin(encoder)
    augment = None if options.no_augment else augment
    told = (
        fit_drawn(network, train, augment, options)
        if options.pairs == "drawn"
        else fit(encoder, train, augment, options)
    )

    # The threshold is set on training images, changed as in training: on images as learned all pairs are easy.
    rng = np.random.default_rng([options.seed, 1 << 20])
    seen = train.images if augment is None else augment(train.images, rng)
    known = siamese.make_pairs(train.labels, seed=rng)
    threshold, _ = siamese.calibrate(siamese.pair_distances(network, seen, known), known.alike)
    asked = siamese.make_pairs(test.labels, per_row=5, seed=2024)
    distances = siamese.pair_distances(network, test.images, asked)
    trained = siamese.make_pairs(train.labels, seed=2024)
    figures = {
        "encoder": options.encoder,
        "pairs": options.pairs,
        "train_images": len(train.images),
        "test_images": len(test.images),
        "test_pairs": len(distances),
        "train_pair_accuracy": siamese.pair_accuracy(
            siamese.pair_distances(network, train.images, trained), trained.alike, THRESHOLD
        ),
        "test_pair_accuracy": siamese.pair_accuracy(distances, asked.alike, THRESHOLD),
        "calibrated_threshold": threshold,
        "test_pair_accuracy_calibrated": siamese.pair_accuracy(distances, asked.alike, threshold),
        "loss": told,
        "epochs": options.epochs,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
    }
    print(f"pair accuracy at D < {THRESHOLD}: {figures['test_pair_accuracy']:.4f} of pairs of test images, ", end="")
    print(f"{figures['train_pair_accuracy']:.4f} of training images")
    print(f"pair accuracy at D < {threshold:.3f}, calibrated: {figures['test_pair_accuracy_calibrated']:.4f}")
    if options.picture is not None:
        shown = siamese.pick_pairs(distances, asked, THRESHOLD, 6)
        picture = pairs_picture(
            test.images,
            asked.first[shown],
            asked.second[shown],
            distances[shown],
            asked.alike[shown],
            threshold=THRESHOLD,
            names=[names[label] for label in test.labels],
            title="Pairs of test images and their distance",
        )
        options.picture.write_text(picture, encoding="utf-8")
        print(f"pairs drawn in {options.picture}")
    print(json.dumps(figures))
    return figures
