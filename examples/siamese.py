"""What both Siamese examples do: train a Siamese network on pairs, measure it on pairs of images it never saw."""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import image_parts
import keras
import numpy as np

from topkin.models import (
    MetricEmbedding,
    PairAccuracy,
    Siamese,
    best_threshold,
    losses,
    mlp,
    pair_accuracy,
    pick_pairs,
    plot_pairs,
    reducers,
    samplers,
    small_cnn,
)
from topkin.models.encoders.images import Images
from topkin.models.metric_training.augment import Augmenter
from topkin.models.ops import device

THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an encoder is trained with unless a flag says otherwise.

    pairs: "drawn" or "batch", see ``--pairs``. learning_rate: at the start. weight_decay: the share by which weights
    shrink at each step, for a learning rate of 1.
    """

    epochs: int
    pairs: str
    learning_rate: float
    weight_decay: float
    augment: Augmenter


def arguments(description: str | None, argv: Sequence[str], defaults: Mapping[str, Settings]) -> argparse.Namespace:
    """The flags of a Siamese example, what is not given filled in with the encoder's settings."""
    flags = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    image_parts.add_flags(flags)
    flags.add_argument("--encoder", choices=sorted(defaults), default="mlp")

    def default(name: str) -> str:
        return "by default " + ", ".join(f"{getattr(s, name)} ({encoder})" for encoder, s in sorted(defaults.items()))

    flags.add_argument(
        "--pairs",
        choices=["drawn", "batch"],
        help="drawn: each image of an epoch in a pair of either kind; batch: all pairs of a batch of images, each of "
        f"which is encoded once, either kind half of the loss; {default('pairs')}",
    )
    flags.add_argument("--epochs", type=int, help=default("epochs"))
    flags.add_argument("--learning-rate", type=float, help=default("learning_rate"))
    flags.add_argument("--weight-decay", type=float, help=default("weight_decay"))
    flags.add_argument("--batch-size", type=int, default=128, help="pairs, or with --pairs batch images")
    flags.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64], help="channels of the cnn's stages")
    flags.add_argument("--no-augment", action="store_true", help="train on the images as they are")
    flags.add_argument("--seed", type=int, default=1)
    flags.add_argument("--picture", type=Path, default=None, help="write the pairs most worth a look, as SVG or PNG")
    options = flags.parse_args(argv)
    chosen = defaults[options.encoder]
    for name in ("pairs", "epochs", "learning_rate", "weight_decay"):
        if getattr(options, name) is None:
            setattr(options, name, getattr(chosen, name))
    options.augment = None if options.no_augment else chosen.augment
    return options


def encoder_of(options: argparse.Namespace) -> keras.Model:
    """The article's perceptron, or a small convolutional network with rows of length 1."""
    if options.encoder == "mlp":
        return mlp(units=(128, 128, 128), dropout=0.1, seed=options.seed)
    base = small_cnn(widths=options.widths, seed=options.seed)
    return keras.Model(base.input, MetricEmbedding(64, seed=options.seed)(base.output), name="cnn")


def optimizer(options: argparse.Namespace, batches: keras.utils.PyDataset) -> keras.optimizers.Optimizer:
    """RMSProp whose step size falls to zero along a cosine."""
    rate = keras.optimizers.schedules.CosineDecay(options.learning_rate, len(batches) * options.epochs)
    return keras.optimizers.RMSprop(rate, weight_decay=options.weight_decay)


def fit_drawn(network: keras.Model, train: Images, options: argparse.Namespace) -> float:
    """Train on pairs drawn anew each epoch, alike and different ones in equal numbers, by the mean of their losses.

    Returns the last epoch's loss.
    """
    batches = samplers.PairBatches(*train, batch_size=options.batch_size, augment=options.augment, seed=options.seed)
    loss = losses.PairContrastive(margin=1.0)
    metrics = [PairAccuracy(THRESHOLD)]
    # A perceptron's step is short: several at once spare a quarter of the time.
    settings = {"loss": loss, "metrics": metrics, "jit_compile": False, "steps_per_execution": 16}
    network.compile(optimizer(options, batches), **settings)
    return float(network.fit(batches, epochs=options.epochs, verbose=2).history["loss"][-1])


def fit_batch(encoder: keras.Model, train: Images, options: argparse.Namespace) -> float:
    """Train on all pairs within batches of all classes, by the mean loss of either kind; the last epoch's loss."""
    classes = len(np.unique(train.labels))
    sizes = {"classes": classes, "examples": max(2, options.batch_size // classes)}
    batches = samplers.ClassBatches(*train, **sizes, augment=options.augment, seed=options.seed)
    loss = losses.Contrastive(negative_margin=1.0, reducer=reducers.Mean())
    # XLA gains nothing on a processor: TensorFlow's own convolutions are faster there.
    encoder.compile(optimizer(options, batches), loss=loss, jit_compile=False)
    return float(encoder.fit(batches, epochs=options.epochs, verbose=2).history["loss"][-1])


def run(options: argparse.Namespace, parts: image_parts.Parts, names: Sequence[str], *, mirrored: bool) -> dict:
    """Train, measure, print; returns the figures.

    mirrored: measure as well with the mean of each image's vector and its mirror image's in place of its own.
    """
    keras.utils.set_random_seed(options.seed)
    device.set_up()
    began, cpu = time.perf_counter(), time.process_time()
    train, asked = parts.learned, parts.asked
    encoder = encoder_of(options)
    network = Siamese(encoder)
    loss = fit_drawn(network, train, options) if options.pairs == "drawn" else fit_batch(encoder, train, options)

    # The threshold is set on training images, changed as in training: on images as learned all pairs are easy.
    rng = np.random.default_rng([options.seed, 1 << 20])
    seen = train.images if options.augment is None else options.augment(train.images, rng)
    seen_pairs = samplers.make_pairs(train.labels, seed=rng)
    threshold, _ = best_threshold(network.distances(seen, seen_pairs), seen_pairs.alike)
    pairs = samplers.make_pairs(asked.labels, per_row=5, seed=2024)
    distances = network.distances(asked.images, pairs)
    trained = samplers.make_pairs(train.labels, seed=2024)
    figures = {
        "encoder": options.encoder,
        "pairs": options.pairs,
        "train_images": len(train.images),
        "asked": parts.name,
        "asked_images": len(asked.images),
        "asked_pairs": len(distances),
        "train_pair_accuracy": pair_accuracy(network.distances(train.images, trained), trained.alike, THRESHOLD),
        "pair_accuracy": pair_accuracy(distances, pairs.alike, THRESHOLD),
        "calibrated_threshold": threshold,
        "pair_accuracy_calibrated": pair_accuracy(distances, pairs.alike, threshold),
    }
    if mirrored:
        both = Siamese(with_mirror(encoder))
        apart = both.distances(asked.images, pairs)
        figures["pair_accuracy_mirrored"] = pair_accuracy(apart, pairs.alike, THRESHOLD)
    figures |= {
        "loss": loss,
        "epochs": options.epochs,
        "seed": options.seed,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
    }
    print(f"pair accuracy at D < {THRESHOLD}: {figures['pair_accuracy']:.4f} of pairs of {parts.name} images, ", end="")
    print(f"{figures['train_pair_accuracy']:.4f} of training images")
    print(f"pair accuracy at D < {threshold:.3f}, calibrated: {figures['pair_accuracy_calibrated']:.4f}")
    if mirrored:
        print(f"pair accuracy at D < {THRESHOLD}, mirror images averaged: {figures['pair_accuracy_mirrored']:.4f}")
    if options.picture is not None:
        shown = pick_pairs(distances, pairs, THRESHOLD, 6)
        picture = plot_pairs(
            asked.images,
            pairs.first[shown],
            pairs.second[shown],
            distances[shown],
            pairs.alike[shown],
            threshold=THRESHOLD,
            names=[names[label] for label in asked.labels],
            title=f"Pairs of {parts.name} images and their distance",
        )
        picture.savefig(options.picture)
        print(f"pairs drawn in {options.picture}")
    print(json.dumps(figures))
    return figures


def with_mirror(encoder: keras.Model) -> keras.Model:
    """The encoder whose vector is the mean of an image's and its mirror image's."""
    image = keras.Input(encoder.input_shape[1:])
    mean = (encoder(image) + encoder(keras.ops.flip(image, axis=2))) / 2
    return keras.Model(image, mean, name="mirrored")
