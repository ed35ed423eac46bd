"""The closed form against a dense decomposition, whatever the shards, and what it refuses."""

import itertools
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

from topkin.encoding import svd
from topkin.encoding.svd import SpectralSettings, decompose, in_out, purchase_weights
from topkin.interactions import Interactions
from topkin.linalg.gram import signs


def purchases(n_users=120, n_items=60, kinds=5, seed=0):
    """Users who mostly buy of one kind, weights between .3 and 1.5; float32 CSR with some empty rows and columns."""
    rng = np.random.default_rng(seed)
    taste, kind = rng.integers(kinds, size=n_users), rng.integers(kinds, size=n_items)
    chance = np.where(taste[:, None] == kind, 0.4, 0.05) * rng.uniform(0.2, 1, n_items)
    R = np.where(rng.random(chance.shape) < chance, rng.uniform(0.3, 1.5, chance.shape), 0)
    R[7], R[:, 11] = 0, 0
    return sp.csr_matrix(R.astype(np.float32))


def shards_of(R, parts):
    cuts = np.linspace(0, R.shape[0], parts + 1).astype(int)
    return [R[a:b] for a, b in itertools.pairwise(cuts)]


def dense(R, chosen):
    """Singular values and right vectors of A by LAPACK."""
    R = R.toarray().astype(np.float64)
    du, di = (np.maximum(R.sum(axis=axis), chosen.least) for axis in (1, 0))
    A = du[:, None] ** -chosen.user_power * R * di**-chosen.item_power
    _, s, Vt = np.linalg.svd(A)
    return s, Vt.T


def product(spectrum, power=1.0):
    """``V s^power V'``: what a decomposition says, free of signs and of rotations within equal values."""
    return (spectrum.V * spectrum.s**power) @ spectrum.V.T


@pytest.mark.parametrize("powers", [(0.5, 0.5), (0.25, 0.5), (0.7, 0.3)])
@pytest.mark.parametrize("shape", [(120, 60), (30, 90)])
def test_all_directions_equal_the_dense_decomposition(shape, powers):
    R = purchases(*shape)
    chosen = SpectralSettings(dim=200, user_power=powers[0], item_power=powers[1])
    s, V = dense(R, chosen)
    spectrum = decompose(lambda: [R], R.shape[1], chosen)
    rank = int((s > 1e-3 * s[0]).sum())
    assert spectrum.dim == rank
    np.testing.assert_allclose(spectrum.s, s[:rank], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(product(spectrum), (V[:, :rank] * s[:rank]) @ V[:, :rank].T, atol=2e-4)


def test_random_directions_find_the_leading_ones():
    R = purchases(900, 400)
    chosen = SpectralSettings(dim=6, oversampling=20, passes=6)
    s, V = dense(R, chosen)
    spectrum = decompose(lambda: [R], 400, chosen)
    np.testing.assert_allclose(spectrum.s[:5], s[:5], rtol=1e-3)
    np.testing.assert_allclose(product(spectrum.truncated(5)), (V[:, :5] * s[:5]) @ V[:, :5].T, atol=2e-3)
    np.testing.assert_allclose(spectrum.V.T @ spectrum.V, np.eye(6), atol=1e-4)


@pytest.mark.parametrize(("dim", "passes"), [(8, 3), (200, 1)])
def test_shards_in_any_order_give_the_same_vectors(dim, passes):
    R = purchases(600, 120)
    chosen = SpectralSettings(dim=dim, passes=passes)
    whole = decompose(lambda: [R], 120, chosen)
    pieces = shards_of(R, 7)
    for order in ([3, 0, 6, 1, 5, 2, 4], [6, 5, 4, 3, 2, 1, 0]):
        spectrum = decompose(lambda order=order: (pieces[i] for i in order), 120, chosen)
        np.testing.assert_allclose(spectrum.s, whole.s, rtol=1e-4)
        apart = np.r_[True, np.diff(whole.s) < -0.01] & np.r_[np.diff(whole.s) < -0.01, True]
        assert apart.sum() >= 3
        np.testing.assert_allclose(spectrum.V[:, apart], whole.V[:, apart], atol=2e-3)
        np.testing.assert_array_equal(spectrum.degrees > 0, whole.degrees > 0)


def test_the_number_of_threads_changes_no_byte():
    R = purchases(300, 400)
    chosen = SpectralSettings(dim=150)
    one, many = (decompose(lambda: [R], 400, chosen, threads=t) for t in (1, 4))
    np.testing.assert_array_equal(one.V, many.V)
    np.testing.assert_array_equal(one.s, many.s)


def test_the_stated_memory_holds():
    n = 20_000
    R = sp.random(3000, n, 0.001, "csr", np.float32, rng=np.random.default_rng(0))
    chosen = SpectralSettings(dim=96)
    tracemalloc.start()
    try:
        decompose(lambda: [R], n, chosen, threads=2)
        width = chosen.dim + chosen.oversampling
        stated = 12 * n * width + 48 * width**2 + 2 * 4 * svd.COLUMNS * (3 * n + svd._USERS) + (1 << 22)
        assert tracemalloc.get_traced_memory()[1] <= stated + 4 * (R.data.nbytes + R.indices.nbytes)
    finally:
        tracemalloc.stop()


def test_turning_the_vectors_changes_no_score_and_leaves_no_covariance():
    R = purchases(500, 150)
    spectrum = decompose(lambda: [R], 150, SpectralSettings(dim=12))
    block = in_out(spectrum, power=0.7, out_power=0.4)
    plain_in = spectrum.V * spectrum.s**0.7
    plain_out = spectrum.V * np.maximum(spectrum.degrees, 0.3)[:, None] ** 0.4
    np.testing.assert_allclose(block.E @ block.O.T, plain_in @ plain_out.T, atol=1e-5)
    sold = block.O[spectrum.degrees > 0]
    covariance = np.cov(sold.T, bias=True)
    np.testing.assert_allclose(covariance, np.diag(block.spread), atol=1e-5)
    user = R[:5] @ block.E
    np.testing.assert_allclose((user @ sold.T).std(axis=1), np.sqrt(user**2 @ block.spread), rtol=1e-3)


@pytest.mark.parametrize(("user_power", "inverse_popularity"), [(0.5, 0.5), (0.25, 0.5), (0.5, 0.1)])
def test_fewer_coordinates_keep_as_much_of_the_scores_as_any_could(user_power, inverse_popularity):
    R = purchases(500, 150)
    chosen = SpectralSettings(dim=60, user_power=user_power)
    spectrum = decompose(lambda: [R], 150, chosen)
    sold = spectrum.degrees > 0
    users = np.maximum(np.asarray(R.sum(axis=1)), chosen.least) ** -user_power
    weights = np.maximum(spectrum.degrees, 0.3)[:, None] ** -inverse_popularity

    def centred(block):
        scores = users * (R @ (weights * block.E)) @ block.O[sold].T
        return scores - scores.mean(axis=1, keepdims=True)

    wanted = centred(in_out(spectrum, inverse_popularity=inverse_popularity))
    lengths = np.linalg.svd(wanted, compute_uv=False)
    for dim in (5, 20, 40):
        error = np.linalg.norm(wanted - centred(in_out(spectrum, dim=dim, inverse_popularity=inverse_popularity)))
        assert error == pytest.approx(np.linalg.norm(lengths[dim:]), rel=0.05, abs=1e-3)
        assert error < np.linalg.norm(
            wanted - centred(in_out(spectrum.truncated(dim), inverse_popularity=inverse_popularity))
        )


def test_signs_do_not_hang_on_how_an_eigensolver_starts():
    R = purchases(600, 120)
    for chosen in (SpectralSettings(dim=8), SpectralSettings(dim=200)):
        V = decompose(lambda: [R], 120, chosen).V
        np.testing.assert_array_equal(signs(V), np.ones(V.shape[1]))


def test_weights_are_decayed_sums_up_to_the_most():
    history = Interactions(
        indptr=np.array([0, 3, 4]),
        items=np.array([1, 0, 1], np.int32).repeat([1, 1, 2])[:4],
        ages=np.array([10, 5, 0, 20], np.float32),
        weights=np.array([2, 3, 1, 4], np.float32),
        n_items=3,
    )
    np.testing.assert_array_equal(purchase_weights(history).toarray(), [[1, 1, 0], [0, 1, 0]])
    weights = purchase_weights(history, half_life_days=10, most=1.25).toarray()
    np.testing.assert_allclose(weights, [[2**-0.5, 1.25, 0], [0, 0.25, 0]])


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        (lambda: [purchases()[:, :50]], "a column for each of 60 items, got 50"),
        (lambda: [-purchases()], "finite and at least 0"),
        (lambda: [purchases() * np.float32(np.nan)], "finite and at least 0"),
        (lambda: [purchases() * 0], "at least one purchase"),
        (lambda: [], "at least one purchase"),
    ],
)
def test_what_is_no_purchases_is_refused(shards, message):
    with pytest.raises(ValueError, match=message):
        decompose(shards, 60)


def test_shards_that_can_be_read_only_once_are_refused():
    once = iter([purchases(600, 200)])
    with pytest.raises(ValueError, match="the same purchases each time"):
        decompose(lambda: once, 200, SpectralSettings(dim=10))


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        SpectralSettings(dim=0)
    with pytest.raises(ValueError, match="least must be above 0"):
        SpectralSettings(least=0)


def test_no_pass_holds_arrays_of_an_earlier_one():
    n_items, settings, held = 20_000, SpectralSettings(dim=64, passes=4), []
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(0, 500, 5_000), rng.permutation(n_items)[:5_000]
    matrix = sp.csr_matrix((np.ones(5_000, np.float32), (rows, columns)), (500, n_items))

    def shards():
        held.append(tracemalloc.get_traced_memory()[0])
        return [matrix]

    tracemalloc.start()
    try:
        decompose(shards, n_items, settings, threads=1)
    finally:
        tracemalloc.stop()
    tall = 4 * n_items * (settings.dim + settings.oversampling)
    assert len(held) == 4
    assert max(held[1:]) < held[0] + tall / 2
