"""Items by length: how an index keeps its recall where popularity lives in the length of the out-vectors.

Published item vectors are unit rows whose last coordinate, sqrt(1 - |o|^2), was added to out-vectors o of different
lengths so that a cosine ranks as the inner product does; user vectors have 0 there. Where lengths differ much, most
items are nearly that one coordinate, and one graph over all of them loses its way (for the trouble with inner
products see Bachrach et al., RecSys 2014; splitting by length is Yan et al., Norm-Ranging LSH, NeurIPS 2018). So
items are split into bands, one for each halving of the length; in a band directions are searched, and their cosines
times the lengths rank its items.
"""

import numpy as np

from topkin.linalg.cosine import unit_rows


def norms(vectors: np.ndarray) -> np.ndarray:
    """The length of each row without its last coordinate, (n,) float64; vectors: (n, dim) float32."""
    return np.sqrt(np.einsum("nd,nd->n", vectors[:, :-1], vectors[:, :-1], dtype=np.float64))


def directions(vectors: np.ndarray) -> np.ndarray:
    """The rows without their last coordinate as unit rows, (n, dim - 1) float32; of length 0, the first unit vector."""
    unit = np.array(unit_rows(vectors[:, :-1]))
    unit[~unit.any(axis=1), 0] = 1
    return unit


def norm_ranges(lengths: np.ndarray, fewest: int) -> list[np.ndarray]:
    """The rows of each band, (m,) int64 ascending, the longest first; at least one band.

    Band n holds lengths from 2**-n down to 2**-(n + 1) of the longest. Where fewer than ``fewest`` rows would be left,
    the band before takes them; rows of length 0 are in the last.
    """
    longest = lengths.max(initial=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        halvings = np.nan_to_num(np.floor(-np.log2(lengths / longest)), nan=0, posinf=64).clip(0, 64).astype(np.int64)
    left = np.cumsum(np.bincount(halvings, minlength=1)[::-1])[::-1]  # rows in each band and those after it
    halvings = np.minimum(halvings, max(int((left >= fewest).sum()) - 1, 0))
    return [np.flatnonzero(halvings == band) for band in np.unique(halvings)] or [np.zeros(0, np.int64)]
