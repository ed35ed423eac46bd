"""From an item's content to its vector: a ridge map learned from the items with sales, as rows of tables.

A new item's vector is the sum of the rows of what is known of it: the mean of its words' rows, its category's, its
price step's, those of its features; and, where items bring vectors of their own, its own times a matrix. As purchases
come, the vector found from them takes over: its share is ``sales / (sales + half)``.
The tables are those of a tower whose vectors are such sums, so that a computed block and a trained one are
held alike; an id row is what an item's own purchases say beyond its content.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import cho_factor, cho_solve

from topkin.encoding.svd import OUT_POWER, InOut, Spectrum, in_out

_COLUMNS = 64  # coordinates solved for at a time: what is iterated stays in the cache
_HEAD = 1024  # columns whose equations are solved directly
_ITERATIONS = 200
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Content:
    """What is known of m items beside their sales: which rows of some tables, 0 for none.

    words: (m, width) int32, the mean of the rows counts. categories: (m,) int32. prices: (m,) int32.
    sizes: rows of each table beside row 0, of features last where there are some. vectors: (m, p) float32, unit rows or
    zeros; none where p is 0. values, shares: (m, w) int32 and float32, rows of features, and what each counts.
    """

    words: np.ndarray
    categories: np.ndarray
    prices: np.ndarray
    sizes: tuple[int, ...]
    vectors: np.ndarray | None = None
    values: np.ndarray | None = None
    shares: np.ndarray | None = None

    @property
    def dense(self) -> np.ndarray:
        """The vectors, (m, p) float32; (m, 0) where there are none."""
        return np.zeros((len(self.words), 0), np.float32) if self.vectors is None else self.vectors

    @property
    def present(self) -> np.ndarray:
        """Of which items anything is known, (m,) bool."""
        looked_up = (self.words > 0).any(axis=1) | (self.categories > 0) | (self.prices > 0)
        featured = False if self.values is None else (self.values > 0).any(axis=1)
        return np.asarray(looked_up | featured | self.dense.any(axis=1))

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """What rows of the tables, then of the vectors' matrix, make of the items, (m, d) float32."""
        sparse = sum(self.sizes)
        predicted = self.matrix @ rows[:sparse]
        return predicted + self.dense @ rows[sparse:] if self.dense.shape[1] else predicted

    @cached_property
    def matrix(self) -> sp.csr_matrix:
        """(m, sum(sizes)) float32 CSR: a vector is its row times the tables' rows from row 1, one under the other."""
        m = len(self.words)
        present = self.words > 0
        share = 1 / np.maximum(present.sum(axis=1), 1)
        rows, columns = [np.nonzero(present)[0]], [self.words[present].astype(np.int64) - 1]
        values = [share[rows[0]]]
        first = self.sizes[0]
        each_table = [(each[:, None], np.ones((m, 1))) for each in (self.categories, self.prices)]
        if self.values is not None and self.shares is not None:
            each_table.append((self.values, self.shares))
        for (each, shares), size in zip(each_table, self.sizes[1:], strict=True):
            has = np.nonzero(each > 0)
            rows.append(has[0])
            columns.append(each[has].astype(np.int64) - 1 + first)
            values.append(shares[has])
            first += size
        cells = np.concatenate(rows), np.concatenate(columns)
        if len(cells[1]) and cells[1].max() >= first:
            raise ValueError(f"rows of content must be at most {self.sizes}, got one beyond them")
        return sp.csr_matrix((np.concatenate(values).astype(np.float32), cells), (m, first))


@dataclass(frozen=True)
class ContentTables:
    """Tables that add up to vectors, each float32 of d columns with a zero row 0.

    words, categories, prices, values: (size + 1, d), the last of features. vectors: (p, d), what a vector is multiplied
    by, no row 0. ids: (m + 1, d), row j + 1 for item j.
    """

    words: np.ndarray
    categories: np.ndarray
    prices: np.ndarray
    values: np.ndarray
    vectors: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class ContentBlock:
    """A block whose vectors content helps: E and O of the items, and the tables that add up to them."""

    vectors: InOut
    in_tables: ContentTables
    out_tables: ContentTables


def content_block(
    spectrum: Spectrum,
    content: Content,
    sales: np.ndarray,
    *,
    ridge: float = 0.3,
    half: float = 40.0,
    head_start: float = 4.0,
    **options: Any,
) -> ContentBlock:
    """:func:`topkin.encoding.svd.in_out` of a spectrum that content has a say in.

    The row of V of an item is the mean of its buyers, as the spectrum places them, times a power of its degree. That
    mean is uncertain where buyers are few: it is blended with what the content says, own purchases counting by
    the share of :func:`content_tables`. sales: (n_items,) distinct buyers. head_start: weight added to every degree,
    so that an item without sales has a vector; it counts as the degree of an item that is not among these. options:
    as for ``in_out``.
    """
    if head_start <= 0:
        raise ValueError(f"head_start must be above 0, got {head_start}")
    settings = spectrum.settings
    growth = np.float32(1 - settings.item_power)
    degrees = np.maximum(spectrum.degrees, np.float32(settings.least))
    rows, _, means = _blended(content, spectrum.V / (degrees**growth)[:, None], sales, ridge=ridge, half=half)
    later = spectrum.degrees + np.float32(head_start)
    means *= (later**growth)[:, None]
    blended = replace(spectrum, V=means, degrees=later)
    block = in_out(blended, **options)
    new = float(head_start) ** float(growth)
    out_power = options.get("out_power", OUT_POWER)
    return ContentBlock(
        block,
        _as_tables(content, rows @ (block.into * np.float32(new)), block.E),
        _as_tables(content, rows @ (block.onto * np.float32(new * head_start**out_power)), block.O),
    )


def content_tables(
    content: Content, vectors: np.ndarray, sales: np.ndarray, *, ridge: float = 1.0, half: float = 5.0
) -> ContentTables:
    """The tables for items whose purchases gave them vectors.

    vectors: (m, d) float32. sales: (m,) at least 0: an item counts for the map, and keeps its own vector, by
    the share ``sales / (sales + half)``. An item without content keeps its vector whole where it has sales. ridge: see
    :func:`ridge_map`. Raises ValueError where the arrays do not belong together.
    """
    if not len(vectors) == len(sales) == len(content.words):
        raise ValueError(
            f"content, vectors and sales must tell of the same items, got {len(content.words)}, "
            f"{len(vectors)} and {len(sales)}"
        )
    rows, predicted, blended = _blended(content, vectors, sales, ridge=ridge, half=half)
    return _as_tables(content, rows, blended, predicted)


def _blended(
    content: Content, vectors: np.ndarray, sales: np.ndarray, *, ridge: float, half: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of content, what they make of the items, and that blended with the items' own vectors."""
    share = sales / (sales + half)
    rows = ridge_map(content.matrix, vectors, share, ridge=ridge, dense=content.dense)
    own = np.where(content.present, share, sales > 0).astype(np.float32)
    predicted = content.predict(rows)
    blended = vectors - predicted
    blended *= own[:, None]
    blended += predicted
    return rows, predicted, blended


def _as_tables(
    content: Content, rows: np.ndarray, wanted: np.ndarray, predicted: np.ndarray | None = None
) -> ContentTables:
    """Rows of content, and the rows of ids that make them up to the wanted vectors of the items.

    predicted: what the rows make of the items, where that is known.
    """
    predicted = content.predict(rows) if predicted is None else predicted
    *parts, dense = np.split(rows, np.cumsum(content.sizes))
    features = parts[3:] or [rows[:0]]
    words, categories, prices, values, ids = (
        np.pad(part, ((1, 0), (0, 0))) for part in (*parts[:3], *features, wanted - predicted)
    )
    return ContentTables(words, categories, prices, values, dense, ids)


def ridge_map(
    X: sp.csr_matrix,
    vectors: np.ndarray,
    weights: np.ndarray,
    *,
    ridge: float,
    dense: np.ndarray | None = None,
    head: int = _HEAD,
) -> np.ndarray:
    """B that minimises ``sum_j w_j |x_j B - v_j|^2 + ridge |B|^2``, (p, d) float32.

    The normal equations of the ``head`` columns that weigh most, and of the dense ones, are solved directly: mostly
    these are all. What is left of the others once these are eliminated is next to diagonal, since rare words seldom
    meet; it is solved by conjugate gradients.

    X: (m, p) float32 CSR. vectors: (m, d). weights: (m,) at least 0. Columns of X that are empty where weights
    are above 0 get zero rows, and cost nothing. dense: (m, q) float32, more columns of x, to the right of X's; B has
    q rows more.
    """
    if ridge <= 0:
        raise ValueError(f"ridge must be above 0, got {ridge}")
    used = np.flatnonzero(weights > 0)
    root = np.sqrt(weights[used])
    some = sp.csr_array(sp.diags_array(root) @ X[used].astype(np.float64))
    part = np.zeros((len(used), 0)) if dense is None else dense[used].astype(np.float64) * root[:, None]
    own = np.asarray(some.multiply(some).sum(axis=0)).ravel()
    order = np.argsort(-own, kind="stable")[: np.count_nonzero(own)]
    first, rest = np.sort(order[:head]), np.sort(order[head:])
    ahead, behind = some[:, first], some[:, rest]
    across = ahead.T @ part
    A = np.block([[(ahead.T @ ahead).toarray(), across], [across.T, part.T @ part]])
    A[np.diag_indices_from(A)] += ridge
    factor = cho_factor(A, lower=True, overwrite_a=True)
    inner = sp.csr_array(behind.T @ behind + ridge * sp.eye_array(len(rest)))
    between = sp.hstack([behind.T @ ahead, sp.csr_array(behind.T @ part)], format="csr")
    inverse = cho_solve(factor, np.eye(len(A))) if len(rest) else A
    out = np.zeros((X.shape[1] + part.shape[1], vectors.shape[1]), np.float32)
    places = np.concatenate([first, np.arange(X.shape[1], len(out))])
    for start in range(0, vectors.shape[1], _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        aim = root[:, None] * vectors[used, columns]
        wanted = np.concatenate([ahead.T @ aim, part.T @ aim])
        if len(rest):
            B = _solve(inner, between, inverse, behind.T @ aim - between @ cho_solve(factor, wanted))
            wanted -= between.T @ B
            out[rest, columns] = B
        out[places, columns] = cho_solve(factor, wanted)
    return out


def _solve(inner: sp.csr_array, between: sp.csr_array, inverse: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(inner - between inverse between') B = wanted: conjugate gradients of each column, by the diagonal of inner."""
    step = (1 / inner.diagonal())[:, None]
    rest, back = wanted.copy(), between.T.tocsr()
    B, size = np.zeros_like(rest), np.linalg.norm(rest, axis=0)
    way = scaled = step * rest
    slope = (rest * scaled).sum(axis=0)
    for _ in range(_ITERATIONS):
        if (np.linalg.norm(rest, axis=0) <= _TOLERANCE * size).all():
            break
        ahead = inner @ way - between @ (inverse @ (back @ way))
        far = slope / np.maximum((way * ahead).sum(axis=0), 1e-300)
        B += far * way
        rest -= far * ahead
        scaled = step * rest
        slope, before = (rest * scaled).sum(axis=0), slope
        way = scaled + slope / np.maximum(before, 1e-300) * way
    return B
