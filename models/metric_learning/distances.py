"""Distances and similarities between rows: one object each, which says whether larger is nearer.

``rows`` compares row by row, ``matrix`` all with all, ``far`` is the matrix turned so that larger is farther:
what losses and miners are written in. Gradients are finite everywhere, at distance zero too. Dtypes as in
``topkin.models.ops.cosine``.
"""

import tensorflow as tf

from topkin.models.metric_learning.serialization import Configured, Tensor, serializable
from topkin.models.ops.cosine import cosine_matrix, cosine_rows, same_dim, working

__all__ = ["SNR", "Cosine", "Distance", "Euclidean", "InnerProduct", "Manhattan", "SquaredEuclidean"]


class Distance(Configured):
    """A distance or a similarity of embeddings: the interface, for one of your own.

    ``larger_is_nearer`` says which of the two; :meth:`rows` compares row by row, :meth:`matrix` all with all.
    A subclass has ``_rows`` and ``_matrix``.

    Examples:
        >>> from topkin.models import distances
        >>> distances.Euclidean().matrix(np.array([[0.0, 0.0], [3.0, 4.0]])).numpy()
        array([[0., 5.],
               [5., 0.]])
    """

    larger_is_nearer = False

    @property
    def sign(self) -> float:
        """What turns a value of this distance into one where larger is farther: 1 or -1."""
        return -1.0 if self.larger_is_nearer else 1.0

    def rows(self, a: Tensor, b: Tensor) -> Tensor:
        """Each row of ``a`` with the same row of ``b``: (n, d), (n, d) -> (n,)."""
        out, (a, b) = working(a, b)
        same_dim(a, b)
        return tf.cast(self._rows(a, b), out)

    def matrix(self, a: Tensor, b: Tensor | None = None) -> Tensor:
        """Every row of ``a`` with every row of ``b`` (or of ``a``): (n, d), (m, d) -> (n, m)."""
        out, (a, b_) = working(a, a if b is None else b)
        if len(a.shape) != 2 or len(b_.shape) != 2:
            raise ValueError(f"a matrix of distances needs rows, (n, d) and (m, d), got {a.shape} and {b_.shape}")
        same_dim(a, b_)
        result = self._matrix(a, b_)
        if b is None and not self.larger_is_nearer:
            result = tf.linalg.set_diag(result, tf.zeros_like(tf.linalg.diag_part(result)))
        return tf.cast(result, out)

    def dissimilarity(self, a: Tensor, b: Tensor | None = None) -> Tensor:
        """:meth:`matrix`, turned so that larger is farther."""
        return self.sign * self.matrix(a, b)

    def _rows(self, a: Tensor, b: Tensor) -> Tensor:
        raise NotImplementedError

    def _matrix(self, a: Tensor, b: Tensor) -> Tensor:
        raise NotImplementedError


@serializable
class Cosine(Distance):
    """Cosine similarity; a zero row is at 0 of everything.

    Examples:
        >>> from topkin.models import distances
        >>> a, b = np.array([[3.0, 4.0, 0.0]]), np.array([[4.0, 3.0, 0.0]])
        >>> round(float(distances.Cosine().rows(a, b)[0]), 4)
        0.96
    """

    larger_is_nearer = True

    def _rows(self, a: Tensor, b: Tensor) -> Tensor:
        return cosine_rows(a, b)

    def _matrix(self, a: Tensor, b: Tensor) -> Tensor:
        return cosine_matrix(a, b)


@serializable
class InnerProduct(Distance):
    """The inner product: the cosine of rows that are unit rows already, but lengths count where they are not.

    Examples:
        >>> from topkin.models import distances
        >>> a, b = np.array([[3.0, 4.0, 0.0]]), np.array([[4.0, 3.0, 0.0]])
        >>> round(float(distances.InnerProduct().rows(a, b)[0]), 4)
        24.0
    """

    larger_is_nearer = True

    def _rows(self, a: Tensor, b: Tensor) -> Tensor:
        return tf.reduce_sum(a * b, axis=-1)

    def _matrix(self, a: Tensor, b: Tensor) -> Tensor:
        return tf.matmul(a, b, transpose_b=True)


@serializable
class SquaredEuclidean(Distance):
    """The sum of squared differences.

    ``matrix`` is made of one product of matrices, as |a|² + |b|² - 2ab about the mean of ``b``: exact to
    about 1e-6 of the squared lengths in float32, and never negative. ``rows`` is exact.

    Examples:
        >>> from topkin.models import distances
        >>> a, b = np.array([[3.0, 4.0, 0.0]]), np.array([[4.0, 3.0, 0.0]])
        >>> round(float(distances.SquaredEuclidean().rows(a, b)[0]), 4)
        2.0
    """

    def _rows(self, a: Tensor, b: Tensor) -> Tensor:
        return tf.reduce_sum(tf.square(a - b), axis=-1)

    def _matrix(self, a: Tensor, b: Tensor) -> Tensor:
        centre = tf.stop_gradient(tf.reduce_mean(b, axis=0, keepdims=True))
        # Where b has no rows its mean is NaN, and nothing is compared.
        a, b = a - centre, b - centre
        lengths = tf.reduce_sum(tf.square(a), axis=1)[:, None] + tf.reduce_sum(tf.square(b), axis=1)[None, :]
        square = lengths - 2.0 * tf.matmul(a, b, transpose_b=True)
        return tf.where(square > 0, square, tf.zeros_like(square))


def root(square: Tensor) -> Tensor:
    """The square root, with gradient 0 at 0."""
    positive = square > 0
    return tf.where(positive, tf.sqrt(tf.where(positive, square, tf.ones_like(square))), tf.zeros_like(square))


@serializable
class Euclidean(SquaredEuclidean):
    """The length of the difference; its gradient at zero distance is taken as zero.

    Examples:
        >>> from topkin.models import distances
        >>> a, b = np.array([[3.0, 4.0, 0.0]]), np.array([[4.0, 3.0, 0.0]])
        >>> round(float(distances.Euclidean().rows(a, b)[0]), 4)
        1.4142
    """

    def _rows(self, a: Tensor, b: Tensor) -> Tensor:
        return root(super()._rows(a, b))

    def _matrix(self, a: Tensor, b: Tensor) -> Tensor:
        return root(super()._matrix(a, b))


@serializable
class Manhattan(Distance):
    """The sum of absolute differences. ``matrix`` needs n · m · d numbers at once.

    Examples:
        >>> from topkin.models import distances
        >>> a, b = np.array([[3.0, 4.0, 0.0]]), np.array([[4.0, 3.0, 0.0]])
        >>> round(float(distances.Manhattan().rows(a, b)[0]), 4)
        2.0
    """

    def _rows(self, a: Tensor, b: Tensor) -> Tensor:
        return tf.reduce_sum(tf.abs(a - b), axis=-1)

    def _matrix(self, a: Tensor, b: Tensor) -> Tensor:
        return tf.reduce_sum(tf.abs(a[:, None, :] - b[None, :, :]), axis=-1)


@serializable
class SNR(Distance):
    """The noise-to-signal ratio: the variance of (b - a) over the coordinates, by that of the anchor ``a``.

    Not symmetric. An anchor whose coordinates are all equal has no signal: 0 from everything, no gradient.

    Yuan et al., Signal-to-Noise Ratio: a robust distance metric for deep metric learning, CVPR 2019.

    Examples:
        >>> from topkin.models import distances
        >>> a, b = np.array([[3.0, 4.0, 0.0]]), np.array([[4.0, 3.0, 0.0]])
        >>> round(float(distances.SNR().rows(a, b)[0]), 4)
        0.2308
    """

    def _rows(self, a: Tensor, b: Tensor) -> Tensor:
        return tf.math.divide_no_nan(tf.math.reduce_variance(b - a, axis=-1), tf.math.reduce_variance(a, axis=-1))

    def _matrix(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = (x - tf.reduce_mean(x, axis=1, keepdims=True) for x in (a, b))
        noise = SquaredEuclidean()._matrix(a, b)
        return tf.math.divide_no_nan(noise, tf.reduce_sum(tf.square(a), axis=1, keepdims=True))
