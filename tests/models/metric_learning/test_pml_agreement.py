"""The losses' values are those of pytorch-metric-learning on the same arrays (see make_pml_fixtures.py)."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from topkin.models.metric_learning.distances import SNR, Cosine, Euclidean, Manhattan
from topkin.models.metric_learning.heads import Proxies
from topkin.models.metric_learning.losses.cross_batch_memory import CrossBatchMemory
from topkin.models.metric_learning.losses.pair import Circle, Contrastive, LiftedStructure, MultiSimilarity, Triplet
from topkin.models.metric_learning.losses.proxy import ArcFace, CosFace, ProxyAnchor, ProxyLoss
from topkin.models.metric_learning.losses.softmax import NPair, NTXent, SoftNearestNeighbour
from topkin.models.metric_learning.miners import BatchHard, MultiSimilarityMiner, TripletMargin
from topkin.models.metric_learning.reducers import Mean, PerAnchor

FIXTURES = json.loads(Path(__file__).with_name("pml_fixtures.json").read_text())
ARRAYS = {name: np.array(value) for name, value in FIXTURES["arrays"].items()}
PLAIN = {"squared": False}
LOSSES: dict[str, Any] = {
    "contrastive": Contrastive(0, 1, **PLAIN),
    "contrastive wide": Contrastive(0.3, 4, **PLAIN),
    "contrastive cosine": Contrastive(0.9, 0.1, **PLAIN, distance=Cosine()),
    "contrastive per anchor": Contrastive(0.5, 4, **PLAIN, reducer=PerAnchor()),
    "contrastive mean": Contrastive(0.5, 4, **PLAIN, reducer=Mean()),
    "contrastive manhattan": Contrastive(0, 8, **PLAIN, distance=Manhattan()),
    "contrastive snr": Contrastive(0, 3, **PLAIN, distance=SNR()),
    "triplet": Triplet(0.2),
    "triplet cosine": Triplet(0.1, distance=Cosine()),
    "triplet soft": Triplet(0, soft=True, reducer=Mean()),
    "ntxent": NTXent(0.07),
    "ntxent inner": NPair(),
    "ntxent euclidean": NTXent(0.5, distance=Euclidean()),
    "multi-similarity": MultiSimilarity(2, 50, 0.5),
    "circle": Circle(0.4, 80),
    "circle soft": Circle(0.25, 2, reducer=Mean()),
    "lifted": LiftedStructure(),
    "nca": SoftNearestNeighbour(2),
    "multi-similarity mined": MultiSimilarity(2, 50, 0.5, miner=MultiSimilarityMiner(0.1)),
    "triplet semihard": Triplet(0.3, distance=Cosine(), miner=TripletMargin(0.3, "semihard")),
    "triplet batch hard": Triplet(0.3, miner=BatchHard(distance=Euclidean())),
    "arcface": ArcFace(np.radians(28.6).item(), 64),
    "arcface past": ArcFace(np.radians(120).item(), 8),
    "cosface": CosFace(0.35, 64),
    "proxy anchor": ProxyAnchor(0.1, 32),
}


def value(name: str, x: Any) -> Any:
    """Our loss of the batch."""
    loss = LOSSES[name]
    if isinstance(loss, ProxyLoss):
        head = Proxies(4, dtype="float64" if x.dtype == "float64" else "float32")
        head.build(x.shape)
        head.set_weights([ARRAYS["proxies"]])
        x = head(x)
    return loss(ARRAYS["labels"], x)


@pytest.mark.parametrize("name", FIXTURES["losses"])
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-9), ("float32", 1e-5), ("float16", 1e-2)])
def test_the_value_on_a_batch(name: str, dtype: str, rtol: float) -> None:
    x = tf.constant(ARRAYS["embeddings"], dtype)
    np.testing.assert_allclose(float(value(name, x)), FIXTURES["losses"][name], rtol=rtol)


@pytest.mark.parametrize("name", FIXTURES["gradients"])
def test_the_gradient_on_a_batch(name: str) -> None:
    x = tf.constant(ARRAYS["embeddings"])
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = value(name, x)
    np.testing.assert_allclose(tape.gradient(total, x), FIXTURES["gradients"][name], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", FIXTURES["against"])
def test_the_value_against_references(name: str) -> None:
    x, references = (tf.constant(ARRAYS[k], tf.float64) for k in ("embeddings", "references"))
    result = LOSSES[name].forward_pairs(ARRAYS["labels"], x, ARRAYS["ref_labels"], references)
    np.testing.assert_allclose(float(result), FIXTURES["against"][name], rtol=1e-9)


def test_the_values_with_a_memory_step_by_step() -> None:
    memory = CrossBatchMemory(Contrastive(0, 4, **PLAIN), size=8, dim=6)
    x, y = ARRAYS["embeddings"], ARRAYS["labels"]
    values = [float(memory(y[i : i + 3], tf.constant(x[i : i + 3], tf.float64))) for i in range(0, len(y), 3)]
    np.testing.assert_allclose(values, FIXTURES["memory_of_8"], rtol=1e-6)  # the memory is kept in float32


def test_every_loss_here_is_known_by_name() -> None:
    assert set(FIXTURES["losses"]) == set(LOSSES)
    assert all(keras.saving.get_registered_name(type(loss)).startswith("topkin>") for loss in LOSSES.values())
