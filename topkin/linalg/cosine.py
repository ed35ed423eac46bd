"""Cosine similarity in NumPy: row by row, all against all, batched; a zero row scores 0.

Any float dtype: the result has the inputs' common dtype (float16 is computed in float32 and rounded
once), integers are taken as float64. NaN stays NaN: callers count and set aside such vectors.
"""

import numpy as np


def _floats(*arrays: np.ndarray) -> tuple[np.dtype, list[np.ndarray]]:
    arrays = tuple(np.asarray(a) for a in arrays)
    out = np.result_type(*arrays)
    if out.kind not in "fiub":
        raise TypeError(f"vectors must be real numbers, got dtype {out}")
    out = out if out.kind == "f" else np.dtype(np.float64)
    work = np.promote_types(out, np.float32)
    return out, [a.astype(work, copy=False) for a in arrays]


def _unit(x: np.ndarray) -> np.ndarray:
    if x.ndim < 1:
        raise ValueError(f"vectors must have at least one axis, got shape {x.shape}")
    x = np.ascontiguousarray(x)  # a row's sum is added up in the same order wherever the row stands
    square = np.einsum("...d,...d->...", x, x)
    kind = np.finfo(x.dtype)
    # Squares that leave the dtype's range, zero rows and NaN: those rows are done with more care.
    fine = (square > kind.tiny / kind.eps**2) & (square <= kind.max)
    out = x / np.sqrt(np.where(fine, square, 1))[..., None]
    if not fine.all():
        out[~fine] = _careful(x[~fine])
    return out


def _careful(x: np.ndarray) -> np.ndarray:
    """Rows (n, d) of any scale, by their largest coordinate first."""
    largest = np.max(np.abs(x), axis=-1, keepdims=True, initial=0)
    x = x / np.where(largest > 0, largest, 1)
    length = np.sqrt(np.einsum("nd,nd->n", x, x))[:, None]
    return np.divide(x, length, out=np.where(np.isnan(x), x, np.zeros_like(x)), where=length > 0)


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Each vector along the last axis divided by its length, (..., d); a zero vector stays zero."""
    out, (x,) = _floats(x)
    return _unit(x).astype(out, copy=False)


def cosine_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cosine of each vector of ``a`` with the same of ``b``: (..., d) and (..., d) give (...,).

    The leading axes broadcast. Raises ValueError where d differs.
    """
    out, (a, b) = _floats(a, b)
    _same_dim(a, b)
    return np.einsum("...d,...d->...", _unit(a), _unit(b)).astype(out, copy=False)


def cosine_matrix(a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """The cosine of every vector of ``a`` with every one of ``b``; a zero vector has cosine 0 with all.

    Args:
        a: (..., n, d) of any real dtype.
        b: (..., m, d), ``a`` by default; the leading axes broadcast.

    Returns:
        (..., n, m), of the common float dtype; float64 for integers.

    Raises:
        ValueError: d differs, or an array has fewer than two axes.

    Examples:
        >>> import topkin
        >>> topkin.cosine_similarity([[1.0, 0.0]], [[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]]).tolist()
        [[1.0, 0.0, 0.0]]
    """
    out, (a, b) = _floats(a, a if b is None else b)
    if min(a.ndim, b.ndim) < 2:
        raise ValueError(f"a cosine matrix needs arrays of rows, (..., n, d), got {a.shape} and {b.shape}")
    _same_dim(a, b)
    return np.matmul(_unit(a), np.swapaxes(_unit(b), -1, -2)).astype(out, copy=False)


def _same_dim(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape[-1:] != b.shape[-1:]:
        raise ValueError(f"vectors must have the same number of coordinates, got {a.shape} and {b.shape}")
