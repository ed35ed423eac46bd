"""Whitening: an encoder's output turned onto its main directions, the wide ones made narrower; no labels needed."""

import keras
import numpy as np

from topkin.linalg.gram import principal_axes
from topkin.models.ops.encoders import embedding_dim, fitting

_LEAST = 1e-6


def principal(vectors: np.ndarray, dim: int, power: float) -> tuple[np.ndarray, np.ndarray]:
    """What whitens: (d, dim) and (dim,), so that ``vectors @ matrix + shift`` is centred and turned.

    The result's columns are the ``dim`` directions of largest variance, each divided by its standard
    deviation to ``power``: 0 turns only, 1 makes all equal. vectors: (n, d) finite. Raises ValueError for a dim
    outside 1..d, fewer than two rows, or a power outside 0..1.

    Jégou and Chum, Negative evidences and co-occurrences in image retrieval: the benefit of PCA and
    whitening, ECCV 2012.
    """
    x = np.asarray(vectors)
    if x.ndim != 2 or len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"vectors must be finite, (n, d), two rows at least, got shape {x.shape}")
    if not 1 <= dim <= x.shape[1] or not 0 <= power <= 1:
        raise ValueError(f"dim must be from 1 to {x.shape[1]} and power from 0 to 1, got {dim} and {power}")
    mean, variances, axes = principal_axes(x)
    floor = max(float(variances[0]) * _LEAST, np.finfo(np.float64).tiny)
    matrix = axes[:, :dim] / np.sqrt(np.maximum(variances[:dim], floor)) ** power
    return matrix, -mean @ matrix


def whitened(
    encoder: keras.Model, inputs: object, *, dim: int | None = None, power: float = 0.5, batch_size: int = 256
) -> keras.Model:
    """The encoder with a dense layer that whitens, fitted to its outputs for ``inputs``; see :func:`principal`.

    What an encoder learned without labels has a few directions in which all rows differ much (how bright, how
    large), and these rule its cosines. Divided by a power of its standard deviation each direction gets its say.

    Args:
        encoder: shared, not copied.
        inputs: what the directions are fitted to; no labels needed.
        dim: of the result; the encoder's where None.
        power: 0 turns only, 1 makes all directions equally wide.
        batch_size: rows encoded at once.

    Raises:
        ValueError: fewer than two rows, or a dim or power out of range.

    Examples:
        >>> from topkin.models import mlp, whitened
        >>> images = np.arange(32).reshape(8, 2, 2, 1)
        >>> whitened(mlp((2, 2, 1), units=(4,)), images, dim=2).predict(images, verbose=0).shape
        (8, 2)
    """
    embedding_dim(encoder)
    inputs, rows = fitting(encoder, inputs)
    if rows is not None and rows < 2:
        raise ValueError(f"whitening needs two rows at least, got {rows}: give it more inputs")
    vectors = encoder.predict(inputs, batch_size=batch_size, verbose=0)
    return whitened_by(encoder, vectors, dim=dim or vectors.shape[1], power=power)


def whitened_by(encoder: keras.Model, vectors: np.ndarray, *, dim: int, power: float) -> keras.Model:
    """As :func:`whitened`, fitted to vectors that the encoder gave, (n, d). Raises ValueError as :func:`principal`."""
    matrix, shift = principal(vectors, dim, power)
    layer = keras.layers.Dense(matrix.shape[1], trainable=False, name="whitening", dtype="float32")
    model = keras.Model(encoder.input, layer(encoder.output), name="whitened")
    layer.set_weights([matrix.astype(np.float32), shift.astype(np.float32)])
    return model
