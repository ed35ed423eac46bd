import dataclasses

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from topkin.models.objective.offsets import LogitOffset  # noqa: E402
from topkin.models.training.trainer import Trainer  # noqa: E402


@pytest.fixture(scope="module")
def known(context, purchases, catalogue):
    return context.index(purchases, catalogue)


@pytest.fixture(scope="module")
def base(known):
    rng = np.random.default_rng(0)
    out, pooled = rng.normal(size=(2, len(known.features), 3)).astype(np.float32)
    return LogitOffset.of(
        out * np.array([3.0, 1.0, 0.2], np.float32), pooled, known.counts.buyers, inverse_popularity=0.5
    )


def test_the_base_says_the_z_scores_of_its_block(context, purchases, known, base):
    trainer = Trainer(context.changed(svd_share=0.5), purchases, "refit", known, base)
    batch = next(trainer.batches(1))
    rows = int(batch["question"][-1]) + 1
    vectors = trainer.step._base_vectors({k: tf.constant(v) for k, v in batch.items()}, rows)
    got = np.asarray(tf.matmul(*vectors, transpose_b=True))
    users = np.zeros((rows, 3))
    np.add.at(users, batch["history"][:, 0], base.in_vectors[batch["pooled"][batch["history"][:, 1]]])
    scores = users @ base.out_vectors.T
    deviation = scores[:, known.counts.buyers > 0].std(axis=1, keepdims=True)
    np.testing.assert_allclose(got, 0.5 * (scores / deviation)[:, batch["candidates"]], rtol=2e-4, atol=1e-5)


def test_an_in_vector_of_the_base_weighs_by_rarity():
    pooled = np.ones((2, 2), np.float32)
    base = LogitOffset.of(np.eye(2, dtype=np.float32), pooled, np.array([4, 0]), inverse_popularity=0.5)
    assert base.in_vectors.tolist() == [[0.5, 0.5], [1.0, 1.0]]


@pytest.mark.parametrize(("width", "vector"), [(0, 0), (2, 3)])
def test_a_step_reads_of_items_what_their_features_hold(context, purchases, known, width, vector):
    rng, n = np.random.default_rng(0), len(known.features)
    more = {
        "values": rng.integers(0, 4, (n, width), np.int32),
        "shares": rng.random((n, width), np.float32),
        "vectors": rng.random((n, vector), np.float32),
    }
    features = dataclasses.replace(known.features, **more)
    step = Trainer(context, purchases, "refit", known).step
    step._keep(features)
    items = np.array([3, 0, n - 1], np.int32)
    read = step._read(tf.constant(items))
    assert read.keys() == features.content.keys()
    for name, values in features.content.items():
        np.testing.assert_array_equal(read[name], values[items])


def test_only_the_rows_that_a_batch_touches_move(context, purchases, known):
    trainer = Trainer(context.changed(batch_size=4, negatives=0, neighbours=0), purchases, "refit", known)
    before = np.asarray(trainer.model.id_in.table).copy()
    batch = next(trainer.batches(1))
    trainer.step(batch)
    moved = np.flatnonzero((np.asarray(trainer.model.id_in.table) != before).any(axis=1))
    assert set(moved) == set(batch["pooled_rows"].tolist()) - {0}
    assert len(moved) < len(before) - 1


@pytest.fixture(scope="module")
def usual(context, purchases, known, base):
    """Settings that use every part, with the losses of their first steps."""
    chosen = context.changed(negatives=8, svd_share=0.1, logq=0.7)
    return chosen, first(chosen, purchases, known, base)


def first(context, purchases, known, base):
    """The losses of three steps."""
    trainer = Trainer(context, purchases, "refit", known, base)
    return [float(trainer.step(batch)) for _, batch in zip(range(3), trainer.batches(1), strict=False)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.3),
        ("logq", 0.0),
        ("svd_share", 0.3),
        ("svd_share", 0.0),
        ("negatives", 0),
        ("folds", 2),
        ("neighbours", 2),
        ("neighbours", 0),
        ("smoothing", 0.2),
        ("learning_rate", 0.02),
        ("id_dropout", 0.9),
    ],
)
def test_every_setting_reaches_the_training(usual, purchases, known, base, name, value):
    context, want = usual
    got = first(context.changed(**{name: value}), purchases, known, base)
    assert np.isfinite(got).all()
    assert not np.allclose(got, want, rtol=1e-6)
