"""The closed-form block: a truncated decomposition of the purchases, made in a few passes over them.

With R the purchases (users x items), D_u and D_i the sums of its rows and columns, and exponents a and b,
``A = D_u^-a R D_i^-b ~ U diag(s) V'``. In-vectors ``V s^f`` pooled over a history and out-vectors ``D_i^b V``
recommend as a linear graph filter does, to users never seen too, since nothing is kept of a user.

Only items are held: a pass adds ``Y = A'(A Q)`` up over shards of users, and ``C = A'A`` is then approximated
by ``Y (Q'Y)^-1 Y'`` (Nyström; Halko, Martinsson, Tropp, SIAM Review 2011; Tropp et al., NIPS 2017).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue

import numpy as np
import scipy.sparse as sp
from scipy.sparse import _sparsetools

from topkin.interactions import Interactions
from topkin.linalg import gram
from topkin.telemetry.profiling import machine_cores

OUT_POWER = 0.4

DRAWN = 1 << 14
"""Items for which what is random at the start is drawn together, whoever holds their rows."""

Shards = Callable[[], Iterable[sp.csr_matrix]]

COLUMNS = 64
"""Columns multiplied at a time by one thread: a block of so many stays in the cache."""

_USERS = 1 << 17  # most users of a shard multiplied at a time
SHIFT = 0.45  # of the least singular value: a pass of C less this times 1 tells directions apart better
_EVENTS = 1 << 20  # shards of fewer purchases are joined


@dataclass(frozen=True)
class SpectralSettings:
    """What decides a decomposition.

    dim: most singular vectors kept. user_power, item_power: the exponents a and b. passes: reads of the
    purchases. oversampling: columns carried beside ``dim``. least: a sum of weights below it counts as it.
    """

    dim: int = 512
    user_power: float = 0.5
    item_power: float = 0.5
    passes: int = 3
    oversampling: int = 32
    least: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, lowest in {"dim": 1, "passes": 1, "oversampling": 0}.items():
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} must be at least {lowest}, got {getattr(self, name)}")
        if not self.least > 0:
            raise ValueError(f"least must be above 0, got {self.least}")


@dataclass(frozen=True)
class Spectrum:
    """The leading part of a decomposition.

    s: (d,) float32 singular values, largest first. V: (n_items, d) float32, orthonormal columns; zero rows for
    items never bought. degrees: (n_items,) float32 sums of the items' weights. d is ``settings.dim``, or the
    rank where that is smaller.
    """

    s: np.ndarray
    V: np.ndarray
    degrees: np.ndarray
    settings: SpectralSettings

    @property
    def dim(self) -> int:
        """Singular vectors held."""
        return len(self.s)

    def truncated(self, dim: int) -> "Spectrum":
        """The ``dim`` largest singular values and their vectors, or all where there are fewer."""
        return replace(self, s=self.s[:dim], V=self.V[:, :dim], settings=replace(self.settings, dim=dim))


def purchase_weights(history: Interactions, *, half_life_days: float | None = None, most: float = 1.0) -> sp.csr_matrix:
    """R for :func:`decompose`: one weight for each user and item bought, (n_users, n_items) float32 CSR.

    The sum over the purchases of ``2 ** (-age / half_life_days)`` (1 without a half-life), at most
    ``most``. Where there are inputs they take the purchases' place: each item by its greatest weight.
    """
    if history.inputs is not None:
        once = history.inputs.distinct()
        weights = once.weights.astype(np.float64)
        if half_life_days is not None:
            weights = weights * np.exp2(-np.maximum(once.ages, 0).astype(np.float64) / half_life_days)
        matrix = sp.csr_matrix((weights.astype(np.float32), once.items, once.indptr), (once.n_users, once.n_items))
        matrix.sort_indices()
        return matrix
    weights = np.ones(len(history.items))
    if half_life_days is not None:
        weights = np.exp2(-np.maximum(history.ages, 0).astype(np.float64) / half_life_days)
    shape = (history.n_users, history.n_items)
    matrix = sp.csr_matrix((weights, history.items.copy(), history.indptr), shape)
    matrix.sum_duplicates()
    matrix.data = np.minimum(matrix.data, most).astype(np.float32)
    return matrix


def start_rows(seed: int, rows: slice, width: int) -> np.ndarray:
    """What a decomposition starts from in some rows, by their start and stop, (rows, width) float32."""
    drawn = []
    for number in range(rows.start // DRAWN, -(-rows.stop // DRAWN)):
        first = number * DRAWN
        size = min(rows.stop - first, DRAWN), width
        block = np.random.default_rng([seed, number] if number else seed).standard_normal(size, dtype=np.float32)
        drawn.append(block[max(rows.start - first, 0) :])
    return np.concatenate(drawn)


def checked(shard: sp.csr_matrix) -> sp.csr_matrix:
    """R of some users as float32. Raises ValueError where a weight is negative or not finite."""
    shard = sp.csr_matrix(shard, dtype=np.float32)
    if len(shard.data) and not (shard.data.min() >= 0 and np.isfinite(shard.data.max())):
        raise ValueError("weights of purchases must be finite and at least 0; leave returns out")
    return shard


def by_users(shard: sp.csr_matrix, settings: SpectralSettings) -> sp.csr_matrix:
    """``D_u^-a R`` of some users, each with all items; R stays as it is."""
    users = np.maximum(np.asarray(shard.sum(axis=1)).ravel(), settings.least) ** -settings.user_power
    data = shard.data * np.repeat(users, np.diff(shard.indptr)).astype(np.float32)
    return sp.csr_matrix((data, shard.indices, shard.indptr), shard.shape)


def gram_product(matrix: sp.csr_matrix, Z: np.ndarray, met: np.ndarray, out: np.ndarray) -> None:
    """``A' A Z`` into ``out``, which may be Z itself, by SciPy's own products, in arrays that stay.

    matrix: A, (users, m) float32. Z, out: (m, columns) float32, met: (users, columns), what users meet; contiguous.
    """
    (users, m), columns, arrays = matrix.shape, Z.shape[1], (matrix.indptr, matrix.indices, matrix.data)
    met[:] = 0
    _sparsetools.csr_matvecs(users, m, columns, *arrays, Z.reshape(-1), met.reshape(-1))
    out[:] = 0
    _sparsetools.csc_matvecs(m, users, columns, *arrays, met.reshape(-1), out.reshape(-1))


def decompose(
    shards: Shards, n_items: int, settings: SpectralSettings | None = None, *, threads: int | None = None
) -> Spectrum:
    """The leading singular values and item vectors of the normalised purchases.

    shards: gives the same blocks of R each time it is called, each (users of a shard, n_items) CSR of weights
    of at least 0, every user in one block; it is called ``settings.passes`` times. threads: columns multiplied
    at once, by default one thread a processor; the result does not depend on it. The order of the shards
    and of their users changes rounding alone; vectors of equal singular values are determined up to rotation.
    Raises ValueError where there is no purchase, a block has another width, a weight is negative or not
    finite, or the passes see different purchases. Memory beside the shard in hand: three float32 arrays of n_items x
    (dim + oversampling), six float64 squares of the latter, and of each thread the columns and users multiplied.
    """
    settings = settings or SpectralSettings()
    width = min(settings.dim + settings.oversampling, n_items)
    threads = machine_cores() if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    scratch = [_Scratch(n_items) for _ in range(min(threads, -(-width // COLUMNS)))]
    if width == n_items:  # every direction is carried, so that one pass tells all
        products = _Products(shards, np.eye(n_items, dtype=np.float32), None, settings, scratch)
        C = (products.normalised()[1] * products.scale).astype(np.float64)
        values, vectors = gram.eigh((C + C.T) / 2)
        return _spectrum(values, vectors.astype(np.float32), products.degrees, settings)
    Q = start_rows(settings.seed, slice(0, n_items), width)
    products = _Products(shards, Q, None, settings, scratch)
    Q, Y = products.normalised()
    for done in range(1, settings.passes):
        T = gram.root(gram.inner(Y, Y))
        if done > 1 and T.shape[0] == T.shape[1]:
            gram.subtract(Y, np.float32(SHIFT * gram.least(T)), Q)
            T = gram.root(gram.inner(Y, Y))
        Q = gram.times_root(Y, T)
        del Y
        again = _Products(shards, Q, products.scale, settings, scratch)
        again.same_as(products)
        Q, Y = again.normalised()
    return _nystrom(Q, Y, products.degrees, settings)


@dataclass(frozen=True)
class InOut:
    """The vectors of a block: in-vectors E and out-vectors O, (n_items, d) float32, score = (sum w E) . O.

    spread: (d,) float32, the variance of each coordinate of O over the items sold; coordinates do not covary.
    into, onto: (D, d) float32, by which a row v of the spectrum's V became ``v into`` and, made longer, ``v onto``.
    """

    E: np.ndarray
    O: np.ndarray  # noqa: E741
    spread: np.ndarray
    into: np.ndarray
    onto: np.ndarray


def in_out(
    spectrum: Spectrum,
    *,
    dim: int | None = None,
    power: float = 0.7,
    out_power: float = OUT_POWER,
    inverse_popularity: float = 0.4,
) -> InOut:
    """The vectors of a block of ``dim`` coordinates, by default as many as the spectrum has.

    The scores wanted are those of ``E = V s^power`` and ``O = D_i^out_power V``, pooled with the weights
    ``d_i^-inverse_popularity``. Of them, for all users, each weighed by ``d_u^-2a``, less each user's mean over the
    items sold, ``dim`` coordinates keep as much as any could (Eckart and Young; the users' second moments follow from
    the spectrum), so that a spectrum of twice the dimension gives a better block than one of the same. Coordinates do
    not covary over the items sold, largest spread first: a user's scores have the variance ``sum_k spread_k p_k^2``.
    """
    settings, V = spectrum.settings, spectrum.V
    dim = min(spectrum.dim if dim is None else dim, spectrum.dim)
    degrees = np.maximum(spectrum.degrees, np.float32(settings.least))
    sold = int((spectrum.degrees > 0).sum())  # rows of the other items are zero
    lengths = degrees ** np.float32(out_power)
    mean = gram.inner(V, lengths[:, None])[:, 0] / sold
    covariance = gram.inner_weighted(V, lengths * lengths) / sold - np.outer(mean, mean)
    s = spectrum.s.astype(np.float64)
    turned = gram.inner_weighted(V, degrees ** np.float32(settings.item_power - inverse_popularity))
    users = s[:, None] * turned * s**power  # of orthonormal rows for users times this, all users' p consist
    spread, axes = gram.eigh(users @ covariance @ users.T)
    axes = axes[:, :dim] * gram.signs(axes[:, :dim])
    into = ((s**power)[:, None] * np.linalg.solve(users, axes)).astype(np.float32)
    onto = (users.T @ axes).astype(np.float32)
    out = gram.product(V, onto)
    out *= lengths[:, None]
    return InOut(gram.product(V, into), out, np.maximum(spread[:dim], 0).astype(np.float32), into, onto)


class _Products:
    """``Y = M Z`` with ``M = R' D_u^-2a R``, and the degrees, from one pass; Z is ``Q`` scaled by rows."""

    def __init__(
        self,
        shards: Shards,
        Q: np.ndarray,
        scale: np.ndarray | None,
        settings: SpectralSettings,
        scratch: "Sequence[_Scratch]",
    ) -> None:
        self.Q, self.scaled, self.settings = Q, scale, settings
        n, width = Q.shape
        self.Y = np.zeros((n, width), np.float32)
        degrees, self.events = np.zeros(n), 0
        idle = SimpleQueue[_Scratch]()
        for one in scratch:
            idle.put(one)
        with ThreadPoolExecutor(len(scratch)) as pool:
            for block in _blocks(shards(), n):
                self.events += block.nnz
                degrees += np.bincount(block.indices, block.data, n)
                block = by_users(block, settings)
                list(pool.map(partial(self._add, block, idle), range(0, width, COLUMNS)))
        self.degrees = degrees.astype(np.float32)
        self.scale = scale_of(self.degrees, settings)

    def _add(self, block: sp.csr_matrix, idle: "SimpleQueue[_Scratch]", start: int) -> None:
        columns, users = slice(start, start + COLUMNS), block.shape[0]
        mine = idle.get()
        try:
            asked, met, products = mine.of(users, self.Q[:, columns].shape[1])
            np.multiply(self.Q[:, columns], 1 if self.scaled is None else self.scaled[:, None], out=asked)
            gram_product(block, asked, met, products)
            self.Y[:, columns] += products
        finally:  # or the other threads would wait for it
            idle.put(mine)

    def same_as(self, first: "_Products") -> None:
        if self.events != first.events or not np.allclose(self.degrees, first.degrees, rtol=1e-5):
            raise ValueError(
                f"shards must give the same purchases each time it is called, got {first.events}, then {self.events}; "
                "give a function that starts from the beginning"
            )

    def normalised(self) -> tuple[np.ndarray, np.ndarray]:
        """Q and ``Y = C Q`` for ``C = D_i^-b M D_i^-b``, in place: these are the caller's from then on."""
        if not self.degrees.any():
            raise ValueError("a decomposition needs at least one purchase of a weight above 0, got none")
        Q, Y = self.Q, self.Y
        del self.Q, self.Y
        Y *= self.scale[:, None]
        if self.scaled is None:
            Q *= (1 / self.scale)[:, None]
        return Q, Y


class _Scratch:
    """Arrays of one thread: columns of items, what users meet of them, what items get back.

    They stay from pass to pass: fresh pages would take a third of a pass's time.
    """

    def __init__(self, n_items: int) -> None:
        self.items, self.users = np.empty((2, n_items * COLUMNS), np.float32), np.empty(0, np.float32)

    def of(self, users: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(n_items, columns), (users, columns) and (n_items, columns)."""
        if len(self.users) < users * COLUMNS:
            self.users = np.empty(users * COLUMNS, np.float32)
        n = len(self.items[0]) // COLUMNS
        asked, products = (part[: n * columns].reshape(n, columns) for part in self.items)
        return asked, self.users[: users * columns].reshape(users, columns), products


def scale_of(degrees: np.ndarray, settings: SpectralSettings) -> np.ndarray:
    """``D_i^-b`` of items of these degrees, (n_items,) float32."""
    return np.maximum(degrees, np.float32(settings.least)) ** np.float32(-settings.item_power)


def _blocks(shards: Iterable[sp.csr_matrix], n_items: int) -> Iterator[sp.csr_matrix]:
    """Shards as float32 CSR blocks of many purchases and not too many users; small shards are joined."""
    waiting: list[sp.csr_matrix] = []
    for shard in shards:
        if shard.shape[1] != n_items:
            raise ValueError(f"a shard must have a column for each of {n_items} items, got {shard.shape[1]}")
        shard = checked(shard)
        for start in range(0, shard.shape[0], _USERS):
            waiting.append(shard[start : start + _USERS] if shard.shape[0] > _USERS else shard)
            if sum(w.nnz for w in waiting) >= max(_EVENTS, n_items) or sum(w.shape[0] for w in waiting) > _USERS // 2:
                yield _joined(waiting)
                waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(blocks: list[sp.csr_matrix]) -> sp.csr_matrix:
    return sp.vstack(blocks, format="csr") if len(blocks) > 1 else blocks[0]


def _nystrom(Q: np.ndarray, Y: np.ndarray, degrees: np.ndarray, settings: SpectralSettings) -> Spectrum:
    """From ``Y = C Q`` the eigenvalues s^2 and vectors of ``Y (Q'Y)^-1 Y'``."""
    T = gram.root(gram.inner_symmetric(Q, Y))
    values, P = gram.eigh(T.T @ gram.inner(Y, Y) @ T)
    r = min(settings.dim, gram.rank(values))
    V = gram.product(Y, (T @ (P[:, :r] / np.sqrt(values[:r]))).astype(np.float32))
    return _spectrum(values[:r], V, degrees, settings)


def _spectrum(values: np.ndarray, V: np.ndarray, degrees: np.ndarray, settings: SpectralSettings) -> Spectrum:
    r = min(settings.dim, gram.rank(values))
    V = V[:, :r]
    V *= gram.signs(V)
    return Spectrum(np.sqrt(values[:r]).astype(np.float32), V, degrees, settings)
