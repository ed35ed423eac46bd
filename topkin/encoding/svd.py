"""The closed-form block: a truncated decomposition of the purchases, made in a few passes over them.

With R the purchases (users x items), D_u and D_i the sums of its rows and columns, and exponents a and b,
``A = D_u^-a R D_i^-b ~ U diag(s) V'``. In-vectors ``V s^f`` pooled over a history and out-vectors ``D_i^b V``
recommend as a linear graph filter does, to users never seen too, since nothing is kept of a user.

Only items are held: a pass adds ``Y = A'(A Q)`` up over shards of users, and ``C = A'A`` is then approximated
by ``Y (Q'Y)^-1 Y'`` (Nyström; Halko, Martinsson, Tropp, SIAM Review 2011; Tropp et al., NIPS 2017).
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import scipy.sparse as sp

from topkin.interactions import Interactions
from topkin.linalg import gram
from topkin.telemetry.profiling import machine_cores

OUT_POWER = 0.4

Shards = Callable[[], Iterable[sp.csr_matrix]]

_COLUMNS = 64  # columns multiplied at a time by one thread: a block of so many stays in the cache
_USERS = 1 << 17  # most users of a shard multiplied at a time
_SHIFT = 0.45  # of the least singular value: a pass of C less this times 1 tells directions apart better
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
    ``most``.
    """
    weights = np.ones(len(history.items))
    if half_life_days is not None:
        weights = np.exp2(-np.maximum(history.ages, 0).astype(np.float64) / half_life_days)
    shape = (history.n_users, history.n_items)
    matrix = sp.csr_matrix((weights, history.items.copy(), history.indptr), shape)
    matrix.sum_duplicates()
    matrix.data = np.minimum(matrix.data, most).astype(np.float32)
    return matrix


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
    rng = np.random.default_rng(settings.seed)
    if width == n_items:  # every direction is carried, so that one pass tells all
        products = _Products(shards, np.eye(n_items, dtype=np.float32), None, settings, threads)
        C = (products.normalised()[1] * products.scale).astype(np.float64)
        values, vectors = gram.eigh((C + C.T) / 2)
        return _spectrum(values, vectors.astype(np.float32), products.degrees, settings)
    products = _Products(shards, rng.standard_normal((n_items, width), dtype=np.float32), None, settings, threads)
    Q, Y = products.normalised()
    for done in range(1, settings.passes):
        T = gram.root(gram.inner(Y, Y))
        if done > 1 and T.shape[0] == T.shape[1]:
            Y -= np.float32(_SHIFT * gram.least(T)) * Q
            T = gram.root(gram.inner(Y, Y))
        Q = gram.times_root(Y, T)
        again = _Products(shards, Q, products.scale, settings, threads)
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
    sold = spectrum.degrees > 0
    out = V * (degrees ** np.float32(out_power))[:, None]
    mean = out[sold].mean(axis=0, dtype=np.float64)
    covariance = gram.inner(out, out) / sold.sum() - np.outer(mean, mean)  # rows of items not sold are zero
    s = spectrum.s.astype(np.float64)
    turned = gram.inner(V, V * (degrees ** np.float32(settings.item_power - inverse_popularity))[:, None])
    users = s[:, None] * turned * s**power  # of orthonormal rows for users times this, all users' p consist
    spread, axes = gram.eigh(users @ covariance @ users.T)
    axes = axes[:, :dim] * gram.signs(axes[:, :dim])
    into = ((s**power)[:, None] * np.linalg.solve(users, axes)).astype(np.float32)
    onto = (users.T @ axes).astype(np.float32)
    return InOut(V @ into, out @ onto, np.maximum(spread[:dim], 0).astype(np.float32), into, onto)


class _Products:
    """``Y = M Z`` with ``M = R' D_u^-2a R``, and the degrees, from one pass; Z is ``Q`` scaled by rows."""

    def __init__(
        self, shards: Shards, Q: np.ndarray, scale: np.ndarray | None, settings: SpectralSettings, threads: int | None
    ) -> None:
        self.Q, self.scaled, self.settings = Q, scale, settings
        n, width = Q.shape
        self.Y = np.zeros((n, width), np.float32)
        degrees, self.events = np.zeros(n), 0
        threads = machine_cores() if threads is None else threads
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        with ThreadPoolExecutor(threads) as pool:
            for block in _blocks(shards(), n):
                self.events += block.nnz
                degrees += np.bincount(block.indices, block.data, n)
                users = np.maximum(np.asarray(block.sum(axis=1)).ravel(), settings.least) ** -settings.user_power
                block.data = block.data * np.repeat(users, np.diff(block.indptr)).astype(np.float32)
                back = block.T
                list(pool.map(partial(self._add, block, back), range(0, width, _COLUMNS)))
        self.degrees = degrees.astype(np.float32)
        self.scale = _scale(self.degrees, settings)

    def _add(self, block: sp.csr_matrix, back: sp.csc_matrix, start: int) -> None:
        columns = slice(start, start + _COLUMNS)
        some = self.Q[:, columns]
        some = np.ascontiguousarray(some if self.scaled is None else some * self.scaled[:, None])
        self.Y[:, columns] += back @ (block @ some)

    def same_as(self, first: "_Products") -> None:
        if self.events != first.events or not np.allclose(self.degrees, first.degrees, rtol=1e-5):
            raise ValueError(
                f"shards must give the same purchases each time it is called, got {first.events}, then {self.events}; "
                "give a function that starts from the beginning"
            )

    def normalised(self) -> tuple[np.ndarray, np.ndarray]:
        """Q and ``Y = C Q`` for ``C = D_i^-b M D_i^-b``, in place."""
        if not self.degrees.any():
            raise ValueError("a decomposition needs at least one purchase of a weight above 0, got none")
        self.Y *= self.scale[:, None]
        if self.scaled is None:
            self.Q *= (1 / self.scale)[:, None]
        return self.Q, self.Y


def _scale(degrees: np.ndarray, settings: SpectralSettings) -> np.ndarray:
    return np.maximum(degrees, np.float32(settings.least)) ** np.float32(-settings.item_power)


def _blocks(shards: Iterable[sp.csr_matrix], n_items: int) -> Iterator[sp.csr_matrix]:
    """Shards as float32 CSR blocks of many purchases and not too many users; small shards are joined."""
    waiting: list[sp.csr_matrix] = []
    for shard in shards:
        if shard.shape[1] != n_items:
            raise ValueError(f"a shard must have a column for each of {n_items} items, got {shard.shape[1]}")
        shard = sp.csr_matrix(shard, dtype=np.float32)
        if len(shard.data) and not (shard.data.min() >= 0 and np.isfinite(shard.data.max())):
            raise ValueError("weights of purchases must be finite and at least 0; leave returns out")
        for start in range(0, shard.shape[0], _USERS):
            waiting.append(shard[start : start + _USERS] if shard.shape[0] > _USERS else shard)
            if sum(w.nnz for w in waiting) >= max(_EVENTS, n_items) or sum(w.shape[0] for w in waiting) > _USERS // 2:
                yield _joined(waiting)
                waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(blocks: list[sp.csr_matrix]) -> sp.csr_matrix:
    block = sp.vstack(blocks, format="csr") if len(blocks) > 1 else blocks[0]
    return sp.csr_matrix((block.data, block.indices, block.indptr), block.shape)  # data is replaced, not written


def _nystrom(Q: np.ndarray, Y: np.ndarray, degrees: np.ndarray, settings: SpectralSettings) -> Spectrum:
    """From ``Y = C Q`` the eigenvalues s^2 and vectors of ``Y (Q'Y)^-1 Y'``."""
    T = gram.root(gram.inner_symmetric(Q, Y))
    values, P = gram.eigh(T.T @ gram.inner(Y, Y) @ T)
    r = min(settings.dim, gram.rank(values))
    return _spectrum(values[:r], Y @ (T @ (P[:, :r] / np.sqrt(values[:r]))).astype(np.float32), degrees, settings)


def _spectrum(values: np.ndarray, V: np.ndarray, degrees: np.ndarray, settings: SpectralSettings) -> Spectrum:
    r = min(settings.dim, gram.rank(values))
    V = V[:, :r]
    return Spectrum(np.sqrt(values[:r]).astype(np.float32), V * gram.signs(V), degrees, settings)
