"""Losses at the edges of their numbers: rows in line, labels beyond float32, eager, graph and XLA."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from topkin.models import miners, reducers
from topkin.models.metric_learning.losses import ArcFace, Contrastive, CrossBatchMemory, NTXent, Triplet
from topkin.models.ops.cosine import unit_rows

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 0, 3])
N, DIM = len(LABELS), 5
ROWS = np.random.default_rng(7).normal(size=(N, DIM)).round(2)
COUNTS = np.array([40, 5, 1, 0])


@pytest.mark.parametrize("end", [1.0, -1.0, 1.0000001])
def test_the_gradient_of_arcface_is_finite_where_row_and_proxy_are_in_line(end: float) -> None:
    cosines = tf.Variable(np.where(np.eye(4)[LABELS] > 0, end, 0.1))
    with tf.GradientTape() as tape:
        value = ArcFace(0.5, 16)(LABELS, cosines)
    assert np.isfinite(tape.gradient(value, cosines).numpy()).all()


def test_int64_labels_beyond_float32_stay_apart() -> None:
    labels = 2**53 + np.arange(N) // 2
    x = tf.constant(ROWS)
    assert float(Triplet()(labels, x)) == float(Triplet()(np.arange(N) // 2, x))


XLA = [
    Triplet(0.5, miner=miners.SemiHard(0.5)),
    Triplet(0.5, miner=miners.DistanceWeighted(seed=3)),
    NTXent(0.2, miner=miners.PopularHard(COUNTS, 2)),
    Contrastive(reducer=reducers.PerClass()),
    CrossBatchMemory(Triplet(0.5, miner=miners.BatchHard()), 20, DIM),
]


@pytest.mark.parametrize(
    "loss", XLA, ids=lambda loss: f"{type(loss).__name__}-{type(getattr(loss, 'miner', 0)).__name__}"
)
def test_eager_graph_and_xla_give_one_value(loss: Any) -> None:
    x = tf.cast(unit_rows(ROWS), tf.float32)
    fresh = [type(loss).from_config(loss.get_config()) for _ in range(3)]  # a state of its own for each
    eager = float(fresh[0](LABELS, x))
    assert eager > 0
    spec = [tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, DIM], tf.float32)]
    for jit in (False, True):
        copy = fresh[1 + jit]
        compiled = tf.function(lambda y, x, copy=copy: copy(y, x), jit_compile=jit, autograph=False)
        concrete = compiled.get_concrete_function(*spec)
        np.testing.assert_allclose(float(concrete(tf.constant(LABELS), x)), eager, rtol=1e-5)
