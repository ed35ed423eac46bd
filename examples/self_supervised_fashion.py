"""An encoder of clothes learned without a label, by one of six methods; labels only tell afterwards how good it is.

    python examples/self_supervised_fashion.py --method simclr     or barlow_twins, byol, simsiam, swav, vicreg

Two views of each picture (mirrored, turned, enlarged, moved, made lighter or darker, a box blanked) must be alike to
the encoder; its output is then whitened on training pictures, which takes no labels either. The probe is a k-NN vote:
each test picture takes the label of most of its k nearest training pictures, with k chosen on training pictures alone.
Beside it stand the same probes of the encoder's output not whitened, of raw pixels, and of raw pixels whitened.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topkin.metrics.retrieval import knn_accuracy
from topkin.models import (
    BYOL,
    BarlowTwins,
    SimCLR,
    SimSiam,
    StopAtCollapse,
    SwAV,
    VICReg,
    effective_rank,
    read_images,
    whitened,
)
from topkin.models.encoders.images import Images
from topkin.models.ops import device
from topkin.models.self_supervised.base import SelfSupervised
from topkin.models.similarity.whitening import principal

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
KS = (1, 3, 5, 7, 10, 15, 20)
EDGE = {"fill_mode": "constant"}  # what comes in from outside is background
CHANGES = keras.layers.Pipeline(
    [
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomRotation(4 / 360, **EDGE),
        keras.layers.RandomZoom((-0.13, 0.05), **EDGE),
        keras.layers.RandomTranslation(0.05, 0.05, **EDGE),
        keras.layers.RandomErasing((1.0, 1.0), scale=(0.25**2, 0.6**2), fill_value=0.0),
    ]
)
WHITENING = 0.75
METHODS: dict[str, tuple[type[SelfSupervised], dict[str, Any]]] = {
    "simclr": (SimCLR, {"temperature": 0.2}),
    "byol": (BYOL, {"momentum": 0.97}),
    "swav": (SwAV, {"prototypes": 100, "temperature": 0.1, "epsilon": 0.05}),
    "vicreg": (VICReg, {}),
    "barlow_twins": (BarlowTwins, {}),
    "simsiam": (SimSiam, {}),
}


def view(images: tf.Tensor) -> tf.Tensor:
    """A random version of each picture: (n, height, width, channels) of 0 to 255, the same in float32."""
    # Keras' RandomContrast turns about the mean and would lighten the background: black stays black here.
    factors = tf.random.uniform((tf.shape(images)[0], 1, 1, 1), 0.4, 1.6)
    return CHANGES(tf.minimum(tf.cast(images, tf.float32) * factors, 255.0), training=True)


def arguments() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--method", choices=sorted(METHODS), default="simclr")
    flags.add_argument("--data", type=Path, default=DATA, help="the folder of the data sets")
    flags.add_argument("--epochs", type=int, default=3)
    flags.add_argument("--batch-size", type=int, default=256)
    flags.add_argument("--learning-rate", type=float, default=2e-3)
    flags.add_argument("--train-images", type=int, default=None, help="use so many training images only")
    flags.add_argument("--test-images", type=int, default=None, help="ask for so many test images only")
    flags.add_argument("--widths", type=int, nargs=3, default=(32, 64, 128), help="channels of the convolutions")
    flags.add_argument("--dim", type=int, default=512, help="of the embedding after whitening")
    flags.add_argument("--seed", type=int, default=1)
    return flags


def encoder_of(widths: Sequence[int]) -> keras.Model:
    """Three convolutions, each halving the side; the last one's map, places kept apart, is the embedding."""
    x = inputs = keras.Input((28, 28, 1))
    x = keras.layers.Rescaling(1 / 255)(x)
    for size, width in zip((5, 3, 3), widths, strict=True):
        x = keras.layers.Conv2D(width, size, 2, "same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, keras.layers.Flatten()(x), name="encoder")


def train(options: argparse.Namespace, images: np.ndarray) -> tuple[keras.Model, dict[str, list[float]]]:
    """The trained encoder and the logs of its epochs."""
    keras.utils.set_random_seed(options.seed)
    device.set_up()
    steps = len(images) // options.batch_size * options.epochs
    if not steps:
        raise ValueError(f"a batch must fit the images, got {options.batch_size} for {len(images)}: lower --batch-size")
    kind, settings = METHODS[options.method]
    model = kind(encoder_of(options.widths), view, **settings, **({"steps": steps} if kind is BYOL else {}))
    rate = keras.optimizers.schedules.CosineDecay(
        options.learning_rate / 10, steps, warmup_target=options.learning_rate, warmup_steps=steps // 20
    )
    # XLA gains nothing on a processor: TensorFlow's own convolutions are faster there.
    model.compile(keras.optimizers.AdamW(rate, weight_decay=1e-4), jit_compile=False)
    whole = images[: len(images) // options.batch_size * options.batch_size]
    logs = model.fit(
        whole, batch_size=options.batch_size, epochs=options.epochs, verbose=2, callbacks=[StopAtCollapse()]
    )
    return model.encoder, logs.history


def probe(train: Images, test: Images, vectors: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    """k chosen by a sixth of the training images asked of the others, and the test images' accuracy with it."""
    held = len(train.images) // 6
    trained, tested = vectors
    chosen = knn_accuracy(trained[:held], train.labels[:held], trained[held:], train.labels[held:], ks=KS)
    k = max(KS, key=lambda k: chosen[k])
    accuracy = knn_accuracy(tested, test.labels, trained, train.labels, ks=KS)
    return {"k": k, "accuracy": accuracy[k], "accuracy_on_train": chosen[k], "accuracy@1": accuracy[1]}


def main(argv: Sequence[str]) -> dict[str, Any]:
    """Train and measure; returns the figures."""
    options = arguments().parse_args(argv)
    began, cpu = time.perf_counter(), time.process_time()
    first, second = (read_images(str(options.data / "fashion_mnist" / f"{part}.parquet")) for part in ("train", "test"))
    known, asked = (
        Images(*(x[: options.train_images] for x in first)),
        Images(*(x[: options.test_images] for x in second)),
    )
    encoder, logs = train(options, known.images)
    seconds, trained_cpu = time.perf_counter() - began, time.process_time() - cpu
    search = whitened(encoder, known.images[:20_000], dim=options.dim, power=WHITENING)
    vectors = [search.predict(part.images, batch_size=500, verbose=0) for part in (known, asked)]
    turned = whitened(encoder, known.images[:20_000], dim=options.dim, power=0.0)
    plain = [turned.predict(part.images, batch_size=500, verbose=0) for part in (known, asked)]
    pixels = [part.images.reshape(len(part.images), -1).astype(np.float32) for part in (known, asked)]
    turn, shift = principal(pixels[0][:20_000], min(options.dim, pixels[0].shape[1]), WHITENING)
    figures = {
        "method": options.method,
        "epochs": options.epochs,
        "train_images": len(known.images),
        "test_images": len(asked.images),
        "probe": probe(known, asked, (vectors[0], vectors[1])),
        "probe_not_whitened": probe(known, asked, (plain[0], plain[1])),
        "raw_pixels": probe(known, asked, (pixels[0], pixels[1])),
        "raw_pixels_whitened": probe(known, asked, (pixels[0] @ turn + shift, pixels[1] @ turn + shift)),
        "loss": logs["loss"][-1],
        "spread": logs["spread"][-1],
        "effective_rank": effective_rank(plain[1][:1000]),
        "dim": search.output_shape[-1],
        "training_seconds": round(seconds, 1),
        "training_cpu_seconds": round(trained_cpu, 1),
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }
    for name, words in (
        ("probe", options.method),
        ("probe_not_whitened", f"{options.method} not whitened"),
        ("raw_pixels", "raw pixels"),
        ("raw_pixels_whitened", "raw pixels whitened"),
    ):
        row = figures[name]
        print(f"k-NN accuracy of {words}: {row['accuracy']:.4f} (k = {row['k']}), {row['accuracy@1']:.4f} (k = 1)")
    print(json.dumps(figures))
    return figures


if __name__ == "__main__":
    main(sys.argv[1:])
