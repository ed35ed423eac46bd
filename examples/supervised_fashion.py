"""Supervised metric learning on clothes: the nearest training image of a test image is of its kind.

    python examples/supervised_fashion.py
    python examples/supervised_fashion.py --validation    the test images left alone: to choose settings by

A small convolutional network, trained with AM-Softmax on the 60,000 images of the train part; each of the 10,000 test
images then looks for its nearest among them, by cosine. Both sides are encoded with their mirror image and averaged.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence

import image_parts
import keras
import numpy as np

from topkin.linalg.cosine import unit_rows
from topkin.models import MetricEmbedding, losses, samplers, small_cnn
from topkin.models.encoders.images import Images
from topkin.models.metric_training.augment import Chain, Erase, Flip, Shift
from topkin.models.ops import device
from topkin.search.topk import top_k


def arguments() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    image_parts.add_flags(flags)
    flags.add_argument("--epochs", type=int, default=16)
    flags.add_argument("--settle", type=int, default=3, help="how many of the epochs, at the end, only mirror images")
    flags.add_argument("--batch-size", type=int, default=128)
    flags.add_argument("--learning-rate", type=float, default=2e-3, help="the highest, after a tenth of the steps")
    flags.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128], help="channels of each stage")
    flags.add_argument("--dim", type=int, default=64)
    flags.add_argument("--margin", type=float, default=0.2)
    flags.add_argument("--scale", type=float, default=20.0)
    flags.add_argument("--seed", type=int, default=1)
    return flags


def train(images: Images, options: argparse.Namespace) -> keras.Model:
    """The encoder: uint8 images to unit rows, (n, dim)."""
    classes = len(np.unique(images.labels))
    base = small_cnn(images.images.shape[1:], widths=options.widths, dropout=0.1, seed=options.seed)
    embedding = MetricEmbedding(options.dim, seed=options.seed)(base.output)
    loss = losses.AMSoftmax(options.margin, options.scale)
    model = keras.Model(base.input, loss.head(classes=classes)(embedding))
    augment = Chain([Flip(), Shift(1), Erase(0.4, chance=0.4)])
    batches = samplers.RowBatches(*images, batch_size=options.batch_size, augment=augment, seed=options.seed)
    plain = samplers.RowBatches(*images, batch_size=options.batch_size, augment=Flip(), seed=options.seed + 1)
    steps = len(batches) * options.epochs
    rate = keras.optimizers.schedules.CosineDecay(
        options.learning_rate / 10,
        steps - steps // 10,
        alpha=0.001,
        warmup_target=options.learning_rate,
        warmup_steps=steps // 10,
    )
    # XLA gains nothing on a processor: TensorFlow's own convolutions are faster there.
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.02), loss=loss, metrics=["accuracy"], jit_compile=False)
    settled = max(options.epochs - options.settle, 0)
    model.fit(batches, epochs=settled, verbose=2)
    # The index holds images as they are: at last they are learned so, and lie closer to their kind.
    model.fit(plain, initial_epoch=settled, epochs=options.epochs, verbose=2)
    return keras.Model(base.input, embedding)


def encode(encoder: keras.Model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows, (n, dim) float32 each: of an image and its mirror image the mean, and the image alone."""
    alone, mirrored = (encoder.predict(view, batch_size=500, verbose=0) for view in (images, images[:, :, ::-1]))
    return unit_rows(alone + mirrored), unit_rows(alone)


def recall_at_1(queries: np.ndarray, labels: np.ndarray, index: np.ndarray, index_labels: np.ndarray) -> float:
    """The share of queries whose nearest row of the index has their label; of equally near ones the first counts."""
    ids, _ = top_k(queries, index, 1)
    return float((index_labels[ids[:, 0]] == labels).mean())


def main(argv: Sequence[str]) -> dict:
    """Train and measure; returns the figures."""
    options = arguments().parse_args(argv)
    keras.utils.set_random_seed(options.seed)
    device.set_up()
    began, cpu = time.perf_counter(), time.process_time()
    known, asked, part = image_parts.clothes(options)
    encoder = train(known, options)
    (index, index_alone), (queries, queries_alone) = (encode(encoder, x.images) for x in (known, asked))
    raw = [unit_rows(x.images.reshape(len(x.images), -1).astype(np.float32)) for x in (known, asked)]
    figures = {
        "recall@1": recall_at_1(queries, asked.labels, index, known.labels),
        "recall@1_without_mirror_images": recall_at_1(queries_alone, asked.labels, index_alone, known.labels),
        "recall@1_raw_pixels": recall_at_1(raw[1], asked.labels, raw[0], known.labels),
        "train_images": len(known.images),
        "asked": part,
        "asked_images": len(asked.images),
        "epochs": options.epochs,
        "seed": options.seed,
        "parameters": encoder.count_params(),
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
    }
    print(f"Recall@1 of {part} images {figures['recall@1']:.4f}, of raw pixels {figures['recall@1_raw_pixels']:.4f}")
    print(json.dumps(figures))
    return figures


if __name__ == "__main__":
    main(sys.argv[1:])
