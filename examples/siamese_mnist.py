"""A Siamese network on handwritten digits: is this the same digit?

    python examples/siamese_mnist.py                   the article's perceptron
    python examples/siamese_mnist.py --encoder cnn
    python examples/siamese_mnist.py --validation      the test images left alone: to choose settings by

Only 10,000 images are at hand: 7,000 are trained on, the pairs of the test are of the 3,000 others.
"""

import sys
from collections.abc import Sequence

import image_parts
import siamese

from topkin.models.metric_training.augment import Affine

AUGMENT = Affine(degrees=8, scale=0.08, shear=0.1, shift=1)
SETTINGS = {
    "mlp": siamese.Settings(epochs=200, pairs="drawn", learning_rate=1e-3, weight_decay=0.0, augment=AUGMENT),
    "cnn": siamese.Settings(epochs=50, pairs="batch", learning_rate=2e-3, weight_decay=0.0, augment=AUGMENT),
}


def main(argv: Sequence[str]) -> dict:
    """Train and measure; returns the figures."""
    options = siamese.arguments(__doc__, argv, SETTINGS)
    return siamese.run(options, image_parts.digits(options), image_parts.DIGITS, mirrored=False)


if __name__ == "__main__":
    main(sys.argv[1:])
