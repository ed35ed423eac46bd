"""The content map against scikit-learn's ridge, and what its tables add up to."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import Ridge

from topkin.encoding.content_ridge import Content, content_block, content_tables, ridge_map
from topkin.encoding.svd import SpectralSettings, decompose, in_out
from topkin.linalg.cosine import unit_rows


def content(m=80, seed=0):
    rng = np.random.default_rng(seed)
    words = np.where(rng.random((m, 5)) < 0.7, rng.integers(1, 31, (m, 5)), 0).astype(np.int32)
    categories, prices = rng.integers(0, 5, m).astype(np.int32), rng.integers(0, 9, m).astype(np.int32)
    words[3], categories[3], prices[3] = 0, 0, 0
    return Content(words, categories, prices, (40, 6, 8))


def added_up(tables, content, rows):
    """The vectors of some items the way a tower adds them, one at a time."""
    out = []
    for j in rows:
        known = [w for w in content.words[j] if w]
        mean = sum((tables.words[w] for w in known), np.zeros(tables.words.shape[1])) / max(len(known), 1)
        out.append(mean + tables.categories[content.categories[j]] + tables.prices[content.prices[j]])
    return np.array(out)


@pytest.mark.parametrize("head", [0, 3, 20, 1000])
@pytest.mark.parametrize("d", [1, 3, 70])
@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_the_map_is_scikit_learns_ridge(ridge, d, head):
    rng = np.random.default_rng(1)
    X, vectors, weights = content().matrix, rng.standard_normal((80, d)).astype(np.float32), rng.random(80)
    weights[::4] = 0
    wanted = Ridge(alpha=ridge, fit_intercept=False).fit(X.toarray(), vectors, sample_weight=weights).coef_
    actual = ridge_map(X, vectors, weights, ridge=ridge, head=head)
    np.testing.assert_allclose(actual, wanted.reshape(d, -1).T, atol=1e-4)


@pytest.mark.parametrize("head", [0, 5, 1000])
@pytest.mark.parametrize("d", [2, 70])
def test_dense_columns_beside_the_sparse_ones_are_scikit_learns_ridge_too(d, head):
    rng = np.random.default_rng(1)
    X, vectors, weights = content().matrix, rng.standard_normal((80, d)).astype(np.float32), rng.random(80)
    weights[::4] = 0
    dense = (rng.standard_normal((80, 30)) * np.geomspace(1, 1e-3, 30)).astype(np.float32)
    both = np.hstack([X.toarray(), dense])
    wanted = Ridge(alpha=0.1, fit_intercept=False).fit(both, vectors, sample_weight=weights).coef_
    actual = ridge_map(X, vectors, weights, ridge=0.1, dense=dense, head=head)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, wanted.reshape(d, -1).T, atol=1e-4)


def test_without_dense_columns_the_map_is_the_same_number_for_number():
    known, rng = content(), np.random.default_rng(2)
    vectors, sales = rng.standard_normal((80, 6)).astype(np.float32), rng.integers(0, 4, 80).astype(float)
    tables = content_tables(known, vectors, sales)
    none = content_tables(replace(known, vectors=np.zeros((80, 0), np.float32)), vectors, sales)
    assert none.vectors.shape == (0, 6)
    for name in ("words", "categories", "prices", "ids"):
        assert (getattr(tables, name) == getattr(none, name)).all()


def test_a_word_never_seen_with_sales_has_a_zero_row():
    X = sp.csr_matrix(np.array([[1, 0, 1], [0, 1, 0]], np.float32))
    vectors = ridge_map(X, np.ones((2, 4), np.float32), np.array([1.0, 0.0]), ridge=0.5)
    np.testing.assert_allclose(vectors, np.array([0.4, 0, 0.4])[:, None] * np.ones(4), atol=1e-6)


def test_tables_add_up_to_the_content_and_more_of_the_own_vector_with_sales():
    known = content()
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((80, 6)).astype(np.float32)
    sales = rng.integers(0, 4, 80).astype(np.float64)
    sales[5], sales[3] = 1e9, 2
    tables = content_tables(known, vectors, sales, ridge=0.3, half=2.0)
    rows = np.arange(80)
    alone = added_up(tables, known, rows)
    share = (sales / (sales + 2))[:, None]
    share[3] = 1  # nothing is known of it but its sales
    np.testing.assert_allclose(alone + tables.ids[1:], alone + share * (vectors - alone), atol=1e-5)
    np.testing.assert_allclose((alone + tables.ids[1:])[5], vectors[5], atol=1e-4)
    assert not tables.ids[1:][sales == 0].any()
    for table in (tables.words, tables.categories, tables.prices, tables.ids):
        assert not table[0].any()
    assert (tables.words.shape, tables.prices.shape) == ((41, 6), (9, 6))


def test_a_new_item_with_known_words_lands_near_its_kind():
    rng = np.random.default_rng(3)
    kind = rng.integers(4, size=400)
    words = (kind[:, None] * 10 + rng.integers(1, 11, (400, 4))).astype(np.int32)
    centres = rng.standard_normal((4, 16))
    vectors = (centres[kind] + 0.3 * rng.standard_normal((400, 16))).astype(np.float32)
    none = np.zeros(400, np.int32)
    sales = np.where(np.arange(400) < 300, 20.0, 0.0)
    known = Content(words, none, none, (40, 1, 1))
    tables = content_tables(known, vectors, sales, ridge=0.1)
    new = np.arange(300, 400)
    guess = added_up(tables, known, new)
    nearest = ((guess[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == kind[new]).mean() > 0.98


def test_a_new_item_known_by_its_vector_alone_lands_near_its_kind():
    rng = np.random.default_rng(3)
    kind = rng.integers(4, size=400)
    centres, tastes = rng.standard_normal((4, 24)), rng.standard_normal((4, 16))
    brought = unit_rows((centres[kind] + 0.5 * rng.standard_normal((400, 24))).astype(np.float32))
    vectors = (tastes[kind] + 0.3 * rng.standard_normal((400, 16))).astype(np.float32)
    none = np.zeros(400, np.int32)
    sales = np.where(np.arange(400) < 300, 20.0, 0.0)
    known = Content(none[:, None], none, none, (1, 1, 1), brought)
    assert known.present.all()
    tables = content_tables(known, vectors, sales, ridge=0.1)
    assert not np.concatenate([tables.words, tables.categories, tables.prices]).any()
    guess = brought @ tables.vectors
    nearest = ((guess[300:, None] - tastes) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == kind[300:]).mean() > 0.98
    share = (sales / (sales + 5))[:, None]
    np.testing.assert_allclose(guess + tables.ids[1:], guess + share * (vectors - guess), atol=1e-5)


def shop(seed=4, n_users=400, n_items=120, kinds=4):
    """Users and items of a few kinds, and each item's kind in its words; the last 20 items never sold."""
    rng = np.random.default_rng(seed)
    taste, kind = rng.integers(kinds, size=n_users), rng.integers(kinds, size=n_items)
    R = rng.random((n_users, n_items)) < np.where(taste[:, None] == kind, 0.2, 0.02)
    R[:, -20:] = False
    words = (kind[:, None] * 10 + rng.integers(1, 11, (n_items, 4))).astype(np.int32)
    none = np.zeros(n_items, np.int32)
    return sp.csr_matrix(R.astype(np.float32)), kind, taste, Content(words, none, none, (40, 1, 1))


def test_an_item_never_sold_is_scored_high_for_those_who_buy_its_kind():
    R, kind, taste, known = shop()
    sales = np.asarray(R.sum(axis=0)).ravel()
    block = content_block(decompose(lambda: [R], 120, SpectralSettings(dim=12)), known, sales, dim=8).vectors
    scores = (R @ (block.E * np.maximum(sales, 1)[:, None] ** -0.4)) @ block.O[-20:].T
    own = taste[:, None] == kind[-20:]
    assert np.mean(scores[own][:, None] > scores[~own][None, :2000]) > 0.95


def test_tables_of_a_block_add_up_to_its_vectors_and_to_those_of_a_new_item():
    R, _, _, known = shop()
    sales = np.asarray(R.sum(axis=0)).ravel()
    spectrum = decompose(lambda: [R], 120, SpectralSettings(dim=12))
    block = content_block(spectrum, known, sales, dim=8, out_power=0.3)
    rows = np.arange(120)
    assert block.in_tables.vectors.shape == (0, 8)
    for tables, vectors in ((block.in_tables, block.vectors.E), (block.out_tables, block.vectors.O)):
        alone = added_up(tables, known, rows)
        np.testing.assert_allclose(alone + tables.ids[1:], vectors, atol=1e-5)
        np.testing.assert_allclose(alone[-20:], vectors[-20:], atol=1e-4 * np.abs(vectors).max())


def test_where_sales_are_many_content_says_nothing():
    R, _, _, known = shop()
    R = R[:, :100]
    known = Content(known.words[:100], known.categories[:100], known.prices[:100], known.sizes)
    spectrum = decompose(lambda: [R], 100, SpectralSettings(dim=12))
    plain = in_out(spectrum, dim=8)
    block = content_block(spectrum, known, np.ones(100), half=1e-6, head_start=1e-6, dim=8).vectors
    np.testing.assert_allclose(block.E @ block.O.T, plain.E @ plain.O.T, atol=1e-3)


def test_what_does_not_belong_together_is_refused():
    known = content()
    with pytest.raises(ValueError, match="the same items, got 80, 79 and 80"):
        content_tables(known, np.zeros((79, 2), np.float32), np.ones(80))
    with pytest.raises(ValueError, match="ridge must be above 0, got 0"):
        content_tables(known, np.zeros((80, 2), np.float32), np.ones(80), ridge=0)
    with pytest.raises(ValueError, match="one beyond them"):
        Content(known.words, known.categories, known.prices + np.int32(9), known.sizes).predict(np.zeros((1, 1)))


def test_features_are_columns_of_the_map_with_their_shares():
    known, rng = content(), np.random.default_rng(4)
    values = rng.integers(0, 8, (80, 3)).astype(np.int32)
    shares = np.where(values > 0, rng.random((80, 3)), 0).astype(np.float32)
    both = replace(known, sizes=(*known.sizes, 7), values=values, shares=shares)
    wanted = np.zeros((80, 8))
    for item in range(80):
        for row, share in zip(values[item], shares[item], strict=True):
            wanted[item, row] += share
    np.testing.assert_allclose(both.matrix.toarray(), np.hstack([known.matrix.toarray(), wanted[:, 1:]]), atol=1e-6)
    vectors = rng.standard_normal((80, 5)).astype(np.float32)
    tables = content_tables(both, vectors, rng.integers(0, 4, 80).astype(float))
    sums = np.einsum("jw,jwd->jd", shares, tables.values[values])
    rows = np.concatenate([t[1:] for t in (tables.words, tables.categories, tables.prices, tables.values)])
    np.testing.assert_allclose(both.predict(rows), added_up(tables, known, range(80)) + sums, atol=1e-5)


def test_an_item_is_known_by_its_features_alone():
    nothing = np.zeros(2, np.int32)
    known = Content(nothing[:, None], nothing, nothing, (1, 1, 1, 2), None, np.array([[1], [0]]), np.ones((2, 1)))
    assert known.present.tolist() == [True, False]
