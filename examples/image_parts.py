"""Which images an example learns from, and which it is asked about: those of the test, or some held out of training.

With ``--validation`` a sixth of the training images is kept out of training and asked about; the test images are not
even read. Settings are chosen so; the test is for the figure of settings already chosen.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from topkin.models.encoders.images import Images, read_images

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CLOTHES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
DIGITS = tuple(str(digit) for digit in range(10))


class Parts(NamedTuple):
    """learned: the images to train on. asked: those to ask about. name: of what is asked, test or validation."""

    learned: Images
    asked: Images
    name: str


def add_flags(flags: argparse.ArgumentParser) -> None:
    """The flags that say which images are used."""
    flags.add_argument("--data", type=Path, default=DATA, help="the folder of the data sets")
    flags.add_argument("--images", type=int, default=None, help="use so many images of each part only")
    flags.add_argument(
        "--validation",
        action="store_true",
        help="keep a sixth of the training images out and ask about them, not about the test: to choose settings by",
    )


def clothes(options: argparse.Namespace) -> Parts:
    """Fashion-MNIST: 60,000 images to learn from, 10,000 of the test; or 50,000 and 10,000 of the former."""
    folder = options.data / "fashion_mnist"
    train = read_images(str(folder / "train.parquet"))
    return _parts(train, None if options.validation else read_images(str(folder / "test.parquet")), options.images)


def digits(options: argparse.Namespace) -> Parts:
    """The 10,000 images of MNIST at hand: 7,000 to learn from, 3,000 of the test; or 5,834 and 1,166 of the former."""
    images = read_images(str(options.data / "mnist_t10k" / "test.parquet"))
    order = np.random.default_rng(7).permutation(len(images.images))
    train, test = (take(images, part) for part in (order[:7000], order[7000:]))
    return _parts(train, None if options.validation else test, options.images)


def take(images: Images, rows: Any) -> Images:
    """Some images with their labels."""
    return Images(*(x[rows] for x in images))


def _parts(train: Images, test: Images | None, most: int | None) -> Parts:
    name, asked = "test", test
    if asked is None:
        order = np.random.default_rng(7).permutation(len(train.images))
        held = len(order) // 6
        name, train, asked = "validation", take(train, order[held:]), take(train, order[:held])
    return Parts(take(train, slice(most)), take(asked, slice(most)), name)
