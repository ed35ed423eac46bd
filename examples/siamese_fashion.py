"""A Siamese network on clothes: are these two of one kind?

    python examples/siamese_fashion.py                 the article's perceptron
    python examples/siamese_fashion.py --encoder cnn

Trained on the 60,000 images of the train part; the pairs of the test are of the 10,000 others.
"""

import sys
from collections.abc import Sequence

import siamese

from topkin.models.augment import Chain, Flip, Shift
from topkin.models.images import read_images

NAMES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def main(argv: Sequence[str]) -> dict:
    """Train and measure; returns the figures."""
    options = siamese.arguments(__doc__, argv, {"mlp": 150, "cnn": 15})
    train, test = (read_images(str(options.data / "fashion_mnist" / f"{part}.parquet")) for part in ("train", "test"))
    return siamese.run(options, train, test, Chain([Flip(), Shift(1)]) if options.encoder == "cnn" else Flip(), NAMES)


if __name__ == "__main__":
    main(sys.argv[1:])
