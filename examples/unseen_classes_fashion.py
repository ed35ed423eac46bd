"""Metric learning for kinds of clothes never trained on: learn from six kinds, look for the other four.

    python examples/unseen_classes_fashion.py
    python examples/unseen_classes_fashion.py --unseen 2 4 6 9
    python examples/unseen_classes_fashion.py --validation    the test images left alone: to choose settings by

The default leaves out T-shirts, pullovers, coats and shirts: of all 210 choices of four the one that raw pixels do
worst on, and the furthest from what is left to learn from. Two losses share one convolutional network: AM-Softmax over
the six kinds, and NT-Xent, which asks each image to be found among others by its own changed version, so that details
are kept that the six kinds do not need. What is compared are the features of the network's middle: the last layers
know only what parts the six kinds. They are averaged over 7 x 7 places and whitened, on images of the six kinds too.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import image_parts
import keras
import numpy as np
from supervised_fashion import encode, recall_at_1

from topkin.linalg.cosine import unit_rows
from topkin.models import MetricEmbedding, losses, samplers, small_cnn, whitened
from topkin.models.encoders.images import Images
from topkin.models.metric_training.augment import Affine, Chain, Contrast, Erase, Flip
from topkin.models.ops import device

AUGMENT = Chain([Flip(), Affine(degrees=4, scale=0.1, shift=1.4), Contrast(0.6), Erase(0.6, chance=1.0)])
MIDDLE = 2  # the ReLU whose output is compared, from 0: the first of the second stage is 1
PLACES = 7


def arguments() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    image_parts.add_flags(flags)
    flags.add_argument("--unseen", type=int, nargs="+", default=[0, 2, 4, 6], help="classes left out of training")
    flags.add_argument("--epochs", type=int, default=10)
    flags.add_argument("--batch-size", type=int, default=128, help="images; each comes in two versions")
    flags.add_argument("--learning-rate", type=float, default=2e-3)
    flags.add_argument("--supervised", type=float, default=0.3, help="weight of AM-Softmax beside NT-Xent's 1")
    flags.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128], help="channels of each stage")
    flags.add_argument("--dim", type=int, default=1024, help="of the compared vectors, at most")
    flags.add_argument("--seed", type=int, default=1)
    return flags


class TwoVersions(samplers.RowBatches):
    """Batches of each image in two versions, labelled for both losses: rows of one image, rows of one kind."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, Any]:
        rows, kinds = super().__getitem__(index)
        rng = np.random.default_rng([self.seed, self.epoch, index])
        versions = [AUGMENT(rows, rng), AUGMENT(rows, rng)]
        return np.concatenate(versions), {"image": np.tile(np.arange(len(rows)), 2), "kind": np.tile(kinds, 2)}


def train(seen: Images, options: argparse.Namespace) -> keras.Model:
    """The encoder: uint8 images to features of the network's middle, whitened, (n, dim)."""
    kinds, numbers = np.unique(seen.labels, return_inverse=True)
    base = small_cnn(seen.images.shape[1:], widths=options.widths, seed=options.seed)
    hidden = keras.layers.Dense(128, activation="relu")(base.output)
    proxies = losses.AMSoftmax(0.1, 16.0)
    outputs = {
        "image": MetricEmbedding(64, seed=options.seed)(hidden),
        "kind": proxies.head(classes=len(kinds))(MetricEmbedding(64, seed=options.seed)(base.output)),
    }
    model = keras.Model(base.input, outputs)
    batches = TwoVersions(seen.images, numbers, batch_size=options.batch_size, seed=options.seed)
    rate = keras.optimizers.schedules.CosineDecay(options.learning_rate, len(batches) * options.epochs)
    # XLA gains nothing on a processor: TensorFlow's own convolutions are faster there.
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.01),
        loss={"image": losses.NTXent(0.2), "kind": proxies},
        loss_weights={"image": 1.0, "kind": options.supervised},
        jit_compile=False,
    )
    model.fit(batches, epochs=options.epochs, verbose=2)
    middle = [layer.output for layer in base.layers if isinstance(layer, keras.layers.ReLU)][MIDDLE]
    places = keras.layers.AveragePooling2D(middle.shape[1] // PLACES)(middle)
    features = keras.Model(base.input, keras.layers.Flatten()(places))
    # A third of the images tells the directions as well as all do.
    return whitened(features, seen.images[::3], dim=min(options.dim, features.output_shape[1]), power=1.0)


def main(argv: Sequence[str]) -> dict:
    """Train and measure; returns the figures."""
    options = arguments().parse_args(argv)
    keras.utils.set_random_seed(options.seed)
    device.set_up()
    began, cpu = time.perf_counter(), time.process_time()
    known, asked, part = image_parts.clothes(options)
    unseen, other = np.isin(known.labels, options.unseen), np.isin(asked.labels, options.unseen)
    seen, index, queries = (
        image_parts.take(x, rows) for x, rows in ((known, ~unseen), (known, unseen), (asked, other))
    )
    encoder = train(seen, options)
    vectors = [encode(encoder, x.images)[0] for x in (queries, index)]
    raw = [unit_rows(x.images.reshape(len(x.images), -1).astype(np.float32)) for x in (queries, index)]
    figures = {
        "unseen": sorted(options.unseen),
        "recall@1": recall_at_1(vectors[0], queries.labels, vectors[1], index.labels),
        "recall@1_raw_pixels": recall_at_1(raw[0], queries.labels, raw[1], index.labels),
        "train_images": len(seen.images),
        "asked": part,
        "queries": len(queries.images),
        "index": len(index.images),
        "epochs": options.epochs,
        "seed": options.seed,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
    }
    figures["above_raw_pixels"] = figures["recall@1"] - figures["recall@1_raw_pixels"]
    print(f"Recall@1 of {part} images {figures['recall@1']:.4f}, of raw pixels {figures['recall@1_raw_pixels']:.4f}")
    print(json.dumps(figures))
    return figures


if __name__ == "__main__":
    main(sys.argv[1:])
