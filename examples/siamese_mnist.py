"""A Siamese network on handwritten digits: is this the same digit?

    python examples/siamese_mnist.py                   the article's perceptron
    python examples/siamese_mnist.py --encoder cnn

Only 10,000 images are at hand: 7,000 are trained on, the pairs of the test are of the 3,000 others.
"""

import sys
from collections.abc import Sequence

import numpy as np
import siamese

from topkin.models.augment import Affine
from topkin.models.images import Images, read_images


def main(argv: Sequence[str]) -> dict:
    """Train and measure; returns the figures."""
    options = siamese.arguments(__doc__, argv, {"mlp": 200, "cnn": 50})
    digits = read_images(str(options.data / "mnist_t10k" / "test.parquet"))
    order = np.random.default_rng(7).permutation(len(digits.images))
    train, test = (Images(*(x[part] for x in digits)) for part in (order[:7000], order[7000:]))
    augment = Affine(degrees=8, scale=0.08, shear=0.1, shift=1)
    return siamese.run(options, train, test, augment, [str(digit) for digit in range(10)])


if __name__ == "__main__":
    main(sys.argv[1:])
