"""SwAV: each view must tell to which prototypes the other view was assigned; no negatives."""

import keras
import tensorflow as tf

from topkin.models.ops.cosine import unit_rows
from topkin.models.self_supervised.base import Augment, SelfSupervised


def sinkhorn(scores: tf.Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> tf.Tensor:
    """Assignments of rows to prototypes that use every prototype about equally: (n, k) scores to (n, k) shares.

    exp(scores / epsilon), its columns and rows scaled to equal sums in turn; each row of the result sums to
    1, each column to about n / k. Computed in float32 with the largest score taken off first.

    Cuturi, Sinkhorn distances, NeurIPS 2013.
    """
    logs = tf.cast(scores, tf.float32) / epsilon
    for _ in range(iterations):
        logs -= tf.reduce_logsumexp(logs, axis=0, keepdims=True)
        logs -= tf.reduce_logsumexp(logs, axis=1, keepdims=True)
    return tf.exp(logs)


def swapped_loss(
    first: tf.Tensor, second: tf.Tensor, *, temperature: float, epsilon: float, iterations: int
) -> tf.Tensor:
    """Cross-entropy of each view's softmax(scores / temperature) with the other's assignment, averaged; a scalar.

    first, second: (n, k) cosines with the prototypes. Assignments get no gradient.
    """
    ways = []
    for predictor, assigned in ((first, second), (second, first)):
        target = tf.stop_gradient(sinkhorn(assigned, epsilon=epsilon, iterations=iterations))
        guess = tf.nn.log_softmax(tf.cast(predictor, tf.float32) / temperature, axis=1)
        ways.append(-tf.reduce_mean(tf.reduce_sum(target * guess, axis=1)))
    return tf.add_n(ways) / 2.0


class SwAV(SelfSupervised):
    """Two views with swapped assignments to ``prototypes`` trained unit vectors.

    Batches should have at least as many rows as there are prototypes, for the assignment is made equal within
    the batch; the paper's crops of other sizes and its queue for small batches are not here.

    Caron et al., Unsupervised learning of visual features by contrasting cluster assignments, NeurIPS 2020.

    Args:
        encoder: a built Keras model with one output (n, dim).
        augment: from a batch to a random version of it, called twice a step; see :mod:`base`.
        prototypes: how many, at least 2.
        temperature: of the predictions.
        epsilon: how soft the assignment is; larger is softer, and too large collapses.
        iterations: of :func:`sinkhorn`.
        frozen_steps: how many steps the prototypes stay as they are at the start.
        seed: of the first prototypes.
        **kwargs: ``projector``, see :class:`SelfSupervised`; of ``keras.Model``.

    Examples:
        >>> from topkin.models import HistoryCrops, SwAV
        >>> items = keras.Input((6,), dtype="int64")
        >>> pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(20, 8, mask_zero=True)(items))
        >>> learner = SwAV(keras.Model(items, pooled), HistoryCrops(), prototypes=3)
        >>> learner.compile("adam")
        >>> history = learner.fit(np.arange(1, 19).reshape(3, 6), verbose=0)
        >>> sorted(history.history)
        ['loss', 'spread']
    """

    def __init__(
        self,
        encoder: keras.Model,
        augment: Augment,
        *,
        prototypes: int = 100,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        frozen_steps: int = 0,
        seed: int | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(encoder, augment, **kwargs)
        if prototypes < 2 or iterations < 1:
            raise ValueError(f"prototypes must be at least 2 and iterations 1, got {prototypes} and {iterations}")
        if not temperature > 0 or not epsilon > 0:
            raise ValueError(f"temperature and epsilon must be above 0, got {temperature} and {epsilon}")
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations
        self.frozen_steps = frozen_steps
        start = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
        self.prototypes = self.add_weight((prototypes, self.projector.output_shape[-1]), start, name="prototypes")
        self.prototypes.assign(unit_rows(self.prototypes.value))
        self.done = self.add_weight((), "zeros", dtype="int64", trainable=False, name="steps_done")

    def loss_of(self, first: tf.Tensor, second: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """See the class; each view has its own batch statistics."""
        embeddings = [self.encoder(view, training=training) for view in (first, second)]
        directions = self.prototypes.value
        if training and self.frozen_steps:
            held = self.done.value < self.frozen_steps
            directions = tf.where(held, tf.stop_gradient(directions), directions)
        scores = [
            tf.matmul(
                unit_rows(tf.cast(self.projector(e, training=training), tf.float32)), directions, transpose_b=True
            )
            for e in embeddings
        ]
        loss = swapped_loss(*scores, temperature=self.temperature, epsilon=self.epsilon, iterations=self.iterations)
        return loss, embeddings[0]

    def after_step(self) -> None:
        """Keep the prototypes unit rows."""
        self.prototypes.assign(unit_rows(self.prototypes.value))
        self.done.assign_add(1)
