"""A Siamese network on clothes: are these two of one kind?

    python examples/siamese_fashion.py                 the article's perceptron
    python examples/siamese_fashion.py --encoder cnn
    python examples/siamese_fashion.py --validation    the test images left alone: to choose settings by

Trained on the 60,000 images of the train part; the pairs of the test are of the 10,000 others. Beside the figure of the
images as they are stands one with each image's vector averaged with its mirror image's.
"""

import sys
from collections.abc import Sequence

import image_parts
import siamese

from topkin.models.metric_training.augment import Chain, Flip, Shift

SETTINGS = {
    "mlp": siamese.Settings(epochs=40, pairs="drawn", learning_rate=1e-3, weight_decay=0.2, augment=Flip()),
    "cnn": siamese.Settings(
        epochs=15, pairs="batch", learning_rate=2e-3, weight_decay=0.0, augment=Chain([Flip(), Shift(1)])
    ),
}


def main(argv: Sequence[str]) -> dict:
    """Train and measure; returns the figures."""
    options = siamese.arguments(__doc__, argv, SETTINGS)
    return siamese.run(options, image_parts.clothes(options), image_parts.CLOTHES, mirrored=True)


if __name__ == "__main__":
    main(sys.argv[1:])
