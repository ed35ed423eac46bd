"""What every loss keeps: it equals naive loops, has finite gradients, fits, saves, loads, and explains misuse."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf

from tests.conformance.naive_losses import (
    CLASSES,
    COUNTS,
    DIM,
    LABELS,
    ROWS,
    WEIGHTS,
    N,
    naive_arcface,
    naive_bpr,
    naive_ccl,
    naive_center,
    naive_circle,
    naive_contrastive,
    naive_contrastive_cosine,
    naive_cosface,
    naive_info_nce,
    naive_lifted,
    naive_multi_similarity,
    naive_neighbours,
    naive_npair,
    naive_ntxent,
    naive_pairs,
    naive_proxy_anchor,
    naive_proxy_nca,
    naive_sampled,
    naive_soft_batch_hard,
    naive_soft_triple,
    naive_supcon,
    naive_triplet,
)
from tests.quick import some
from topkin.models import losses, miners, reducers
from topkin.models.metric_learning.distances import Cosine, Euclidean, InnerProduct
from topkin.models.metric_learning.heads import Centres, Proxies
from topkin.models.metric_learning.losses import (
    BPR,
    CCL,
    AMSoftmax,
    ArcFace,
    Center,
    Circle,
    Contrastive,
    CosFace,
    CrossBatchMemory,
    InfoNCE,
    LiftedStructure,
    MultiSimilarity,
    NPair,
    NTXent,
    PairContrastive,
    ProxyAnchor,
    ProxyNCA,
    ProxyNCAPlus,
    SampledSoftmax,
    SoftNearestNeighbour,
    SoftTriple,
    SubCenterArcFace,
    SupCon,
    Triplet,
    WeightedSum,
)


@dataclasses.dataclass
class Case:
    """A loss, its oracle, and what stands between an encoder of (n, 10) inputs and it."""

    name: str
    make: Callable[[], Any]
    naive: Callable[[Any, Any, Any], float]
    kind: str = "embeddings"

    def labels(self) -> np.ndarray:
        if self.kind == "lists":
            return np.array([[1, 0, 0, -1], [0, 1, 1, 0]] * (N // 2))
        return (LABELS == 0).astype(int) if self.kind == "distances" else LABELS

    def predictions(self) -> np.ndarray:
        if self.kind == "views":
            return np.stack([ROWS, np.roll(ROWS, 3, axis=1)], axis=1)
        if self.kind == "distances":
            return np.abs(ROWS[:, 0])
        if self.kind in ("cosines", "lists"):
            return np.clip(ROWS[:, :CLASSES] / 3, -1, 1)
        if self.kind == "centres":
            return np.stack([ROWS[:, :CLASSES], ROWS[:, :CLASSES] ** 2], axis=2)
        return ROWS.copy()

    def model(self) -> keras.Model:
        x = keras.Input((10,))
        y = keras.layers.Dense(2 * DIM, kernel_initializer=keras.initializers.GlorotUniform(seed=1))(x)
        if self.kind == "views":
            y = keras.layers.Reshape((2, DIM))(y)
        elif self.kind == "distances":
            y = keras.layers.Dense(1, activation="softplus")(y)
        elif self.kind == "lists":
            y = keras.layers.Dense(4, activation="tanh")(y)
        elif (head := self.make().head(CLASSES)) is not None:
            y = head(y)
        model = keras.Model(x, y)
        model.compile(keras.optimizers.Adam(0.01), loss=self.make(), jit_compile=False)
        return model


CASES = [
    Case("contrastive", lambda: Contrastive(0, 4), naive_contrastive),
    Case(
        "contrastive of cosines",
        lambda: Contrastive(0.9, 0.1, squared=False, distance=Cosine(), reducer=reducers.Mean()),
        naive_contrastive_cosine,
    ),
    Case("contrastive of pairs", lambda: PairContrastive(2.0), naive_pairs, "distances"),
    Case("triplet", lambda: Triplet(0.5), naive_triplet),
    Case(
        "soft margin, batch hard",
        lambda: Triplet(0, soft=True, miner=miners.BatchHard(distance=Euclidean())),
        naive_soft_batch_hard,
    ),
    Case("lifted structure", lambda: LiftedStructure(), naive_lifted),
    Case("multi-similarity", lambda: MultiSimilarity(beta=20), naive_multi_similarity),
    Case("circle", lambda: Circle(gamma=10), naive_circle),
    Case("NT-Xent", lambda: NTXent(0.2), naive_ntxent),
    Case("SupCon", lambda: SupCon(0.2), naive_supcon),
    Case("N-pair", lambda: NPair(l2=0.02), naive_npair),
    Case("soft nearest neighbour", lambda: SoftNearestNeighbour(3.0), naive_neighbours),
    Case("InfoNCE", lambda: InfoNCE(0.3), naive_info_nce, "views"),
    Case("sampled softmax", lambda: SampledSoftmax(COUNTS, 0.5), naive_sampled, "views"),
    Case("CosFace", lambda: CosFace(scale=16), naive_cosface, "cosines"),
    Case("AM-Softmax", lambda: AMSoftmax(), lambda y, x, w: naive_cosface(y, x, w, 30), "cosines"),
    Case("ArcFace", lambda: ArcFace(2.0, 16), naive_arcface, "cosines"),
    Case("sub-center ArcFace", lambda: SubCenterArcFace(2, 2.0, 16), naive_arcface, "cosines"),
    Case("ProxyNCA", lambda: ProxyNCA(0.5), naive_proxy_nca, "cosines"),
    Case("ProxyNCA++", lambda: ProxyNCAPlus(0.5), lambda y, x, w: naive_proxy_nca(y, x, w, plus=True), "cosines"),
    Case("proxy anchor", lambda: ProxyAnchor(alpha=8), naive_proxy_anchor, "cosines"),
    Case("center", lambda: Center(0.05), naive_center, "centres"),
    Case("SoftTriple", lambda: SoftTriple(2, 8, margin=0.1, pull=0.3), naive_soft_triple, "centres"),
    Case("CCL", lambda: CCL(0.2, 3), naive_ccl, "lists"),
    Case("BPR", lambda: BPR(), naive_bpr, "lists"),
    Case(
        "weighted sum",
        lambda: WeightedSum([NTXent(0.2), Triplet(0.5)], [0.5, 2]),
        lambda y, x, w: 0.5 * naive_ntxent(y, x, w) + 2 * naive_triplet(y, x, w),
    ),
    Case("memory", lambda: CrossBatchMemory(Triplet(0.5), 20, 2 * DIM), lambda y, x, w: naive_triplet(y, x, w)),
]


def test_every_public_loss_has_a_case() -> None:
    abstract = {losses.Loss, losses.MetricLoss, losses.ProxyLoss, losses.ListLoss}
    assert {type(case.make()) for case in CASES} == {getattr(losses, name) for name in losses.__all__} - abstract


every_loss = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def padded(case: Case, x: Any) -> Any:
    """The rows of the memory's case have as many coordinates as its model's."""
    return np.concatenate([x, np.zeros_like(x)], axis=1) if case.name == "memory" else x


@every_loss
@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-6), ("float32", 2e-6), ("float64", 1e-12)])
def test_a_loss_equals_naive_loops(case: Case, dtype: str, tolerance: float) -> None:
    x = case.predictions().astype(dtype)  # the oracle starts from the same rounded numbers
    value = case.make()(case.labels(), tf.constant(padded(case, x)), WEIGHTS)
    assert value.dtype == (tf.float64 if dtype == "float64" else tf.float32)
    # Distances of a matrix product lose digits where rows are close: float32 keeps five or six of the loss's.
    expected = case.naive(case.labels(), x.astype(float), WEIGHTS)
    np.testing.assert_allclose(float(value), expected, rtol=10 * tolerance)


@every_loss
def test_no_weights_are_weights_of_one_and_labels_may_be_a_column(case: Case) -> None:
    x = tf.constant(padded(case, case.predictions()))
    bare = float(case.make()(case.labels(), x))
    np.testing.assert_allclose(float(case.make()(case.labels(), x, np.ones(N))), bare, rtol=1e-12)
    if case.kind != "lists":
        np.testing.assert_allclose(float(case.make()(case.labels()[:, None], x, np.ones((N, 1)))), bare, rtol=1e-12)


@every_loss
def test_gradients_are_finite_for_equal_rows_and_zero_rows(case: Case) -> None:
    x = padded(case, case.predictions().astype("float32"))
    x[1] = x[4] = x[0]
    x[2] = x[3] = x[5] = 0
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = case.make()(case.labels(), x)
    assert np.isfinite(float(value))
    assert np.isfinite(tape.gradient(value, x).numpy()).all()


@every_loss
def test_the_gradient_goes_down(case: Case) -> None:
    x = tf.Variable(padded(case, case.predictions()))
    with tf.GradientTape() as tape:
        before = case.make()(case.labels(), x)
    slope = tape.gradient(before, x)
    x.assign_sub(1e-5 * slope)
    fall = float(before) - float(case.make()(case.labels(), x))
    expected = 1e-5 * float(tf.reduce_sum(tf.square(slope)))
    if case.name != "circle":  # the weights of Circle have no gradient: its direction falls, by another amount
        np.testing.assert_allclose(fall, expected, rtol=0.05)
    assert fall > 0


@every_loss
def test_a_loss_survives_its_configuration(case: Case) -> None:
    loss = case.make()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is type(loss)
    assert repr(again) == repr(loss)
    x = tf.constant(padded(case, case.predictions()))
    assert float(again(case.labels(), x)) == float(loss(case.labels(), x))


@pytest.mark.parametrize("case", some(CASES, 4, name=lambda case: case.name))
def test_a_model_trains_saves_and_loads_in_mixed_precision(case: Case, tmp_path: Path) -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        keras.utils.set_random_seed(3)
        model = case.model()
        x = np.random.default_rng(0).normal(size=(N, 10)).astype("float32")
        x += 2 * np.eye(10)[LABELS]
        weights = np.maximum(WEIGHTS, 0.5)
        before = model.evaluate(x, case.labels(), sample_weight=weights, batch_size=N, verbose=0)
        model.fit(x, case.labels(), sample_weight=weights, batch_size=N, epochs=12, shuffle=False, verbose=0)
        after = model.evaluate(x, case.labels(), sample_weight=weights, batch_size=N, verbose=0)
        assert after < before
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
        again = loaded.evaluate(x, case.labels(), sample_weight=weights, batch_size=N, verbose=0)
        np.testing.assert_allclose(again, after, rtol=1e-5)
    finally:
        keras.config.set_dtype_policy("float32")


@every_loss
def test_nan_is_explained(case: Case) -> None:
    x = padded(case, case.predictions())
    x[2] = np.nan
    with pytest.raises(ValueError, match=r"must be finite, got .* NaN or infinite: look at the inputs"):
        case.make()(case.labels(), tf.constant(x))


@every_loss
def test_lengths_that_differ_are_explained(case: Case) -> None:
    x = tf.constant(padded(case, case.predictions()))
    with pytest.raises(ValueError, match="must have the same length, got 9 and 10"):
        case.make()(case.labels()[:9], x)
    with pytest.raises(ValueError, match="sample weights and embeddings must have the same length, got 3 and 10"):
        case.make()(case.labels(), x, np.ones(3))


@pytest.mark.parametrize("case", [c for c in CASES if c.kind in ("embeddings", "views")], ids=lambda case: case.name)
def test_a_batch_of_one_class_is_explained_unless_checks_are_off(case: Case) -> None:
    x = tf.constant(padded(case, case.predictions()))
    with pytest.raises(ValueError, match="two classes at least, got one in 10 rows: shuffle"):
        case.make()(np.zeros(N, int), x)


def test_without_checks_a_batch_of_one_class_gives_what_is_left() -> None:
    assert float(Triplet(check=False)(np.zeros(N, int), tf.constant(ROWS))) == 0


def test_in_a_graph_the_same_message_comes_from_fit() -> None:
    model = CASES[0].model()
    with pytest.raises(tf.errors.InvalidArgumentError, match="two classes at least"):
        model.fit(np.ones((4, 10)), np.zeros(4), verbose=0)


@pytest.mark.parametrize("eagerly", [False, True])
def test_a_batch_of_one_class_after_others_is_passed_over_and_counted(eagerly: bool) -> None:
    x, y = np.random.default_rng(0).normal(size=(10, 10)).astype("float32"), np.array([0, 1] * 4 + [0, 0])
    for loss in (Triplet(0.2), CrossBatchMemory(NTXent(), 8, DIM), WeightedSum([NTXent(), Contrastive()])):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((10,))
        model = keras.Model(inputs, keras.layers.Dense(DIM)(inputs))
        model.compile(keras.optimizers.SGD(0.1), loss=loss, jit_compile=False, run_eagerly=eagerly)
        history = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
        # Beside a memory of both classes a batch of one is compared with the memory.
        assert loss.skipped == (0 if isinstance(loss, CrossBatchMemory) else 2)

    loss = Triplet(0.2)
    whole = keras.Model(inputs, keras.layers.Dense(DIM)(inputs))
    whole.compile(keras.optimizers.SGD(0.1), loss=loss, jit_compile=False)
    whole.fit(x[:8], y[:8], batch_size=8, verbose=0)
    before = whole.get_weights()
    whole.fit(x[8:], y[8:], verbose=0)
    for old, new in zip(before, whole.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert loss.skipped == 1


def test_a_batch_where_nothing_is_bought_is_passed_over_too() -> None:
    scores, bought = np.full((6, 3), 0.5, "float32"), np.tile([1, 0, 0], (6, 1))
    bought[4:] = 0
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="tanh")(inputs))
    loss = BPR()
    model.compile("sgd", loss=loss, jit_compile=False)
    model.fit(scores, bought, batch_size=4, shuffle=False, verbose=0)
    assert loss.skipped == 1
    first = keras.Model(inputs, keras.layers.Dense(3, activation="tanh")(inputs))
    first.compile("sgd", loss=BPR(), jit_compile=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must hold a bought item"):
        first.fit(scores[4:], bought[4:], verbose=0)


@every_loss
def test_weights_are_checked_as_embeddings_are(case: Case) -> None:
    x = tf.constant(padded(case, case.predictions()))
    for wrong in (np.nan, np.inf, -1.0):
        weights = WEIGHTS.copy()
        weights[3] = wrong
        with pytest.raises(ValueError, match="sample weights must be finite and at least 0, got 1 others"):
            case.make()(case.labels(), x, weights)
    with pytest.raises(ValueError, match=r"sample weights must be one label|same length"):
        case.make()(case.labels(), x, np.ones((N, 2)))
    with pytest.raises(TypeError, match="sample weights must be numbers, got text"):
        case.make()(case.labels(), x, ["much"] * N)


@every_loss
def test_labels_are_checked_as_embeddings_are(case: Case) -> None:
    x, labels = tf.constant(padded(case, case.predictions())), case.labels().astype(float)
    labels[3] = np.nan
    with pytest.raises(ValueError, match=r"labels must (not )?be (NaN|finite), got [14]"):
        case.make()(labels, x)
    text = case.labels().astype(str)
    if case.kind in ("embeddings", "views") and case.name not in ("memory", "sampled softmax"):
        expected = float(case.make()(case.labels(), x, WEIGHTS))
        for same in (text, text.astype(object), text.tolist(), text[:, None], pa.array(text), pd.Series(text)):
            assert float(case.make()(same, x, WEIGHTS)) == expected
        with pytest.raises(ValueError, match=r"one label for each row, \(n,\), got the text 'mug' alone"):
            case.make()("mug", x)
        with pytest.raises(TypeError, match="labels must be of one kind"):
            case.make()([*text[:9], None], x)
    else:
        with pytest.raises(TypeError, match="got text"):
            case.make()(text, x)


def test_labels_that_number_something_are_whole() -> None:
    labels = LABELS + np.r_[0.5, np.zeros(N - 1)]
    for name in ("ArcFace", "center", "memory", "sampled softmax"):
        case = next(case for case in CASES if case.name == name)
        with pytest.raises(ValueError, match="needs labels that are whole numbers, got fractions"):
            case.make()(labels, tf.constant(padded(case, case.predictions())))
    with pytest.raises(ValueError, match=r"1 for alike and 0 for others, got -1.0 to 1.0"):
        PairContrastive()([1, -1], [0.2, 0.6])


def test_rows_that_are_no_unit_rows_are_explained() -> None:
    x = tf.constant(ROWS)
    with pytest.raises(
        ValueError, match=r"Circle by InnerProduct needs unit rows, got rows of lengths up to .*UnitRows"
    ):
        Circle(distance=InnerProduct())(LABELS, x)
    with pytest.raises(ValueError, match=r"ArcFace needs cosines, from -1 to 1, got .*loss.head\(classes\)"):
        ArcFace()(LABELS, x)
    with pytest.raises(ValueError, match="CCL needs cosines"):
        CCL()(np.tile([1, 0, 0, 0, 0], (N, 1)), x)


def test_predictions_of_another_shape_are_explained() -> None:
    x = tf.constant(ROWS)
    with pytest.raises(ValueError, match=r"embeddings must be rows, \(n, dim\), got shape \(10,\)"):
        Triplet()(LABELS, x[:, 0])
    with pytest.raises(ValueError, match="one-hot rows take the argmax"):
        Triplet()(np.eye(4)[LABELS], x)
    with pytest.raises(ValueError, match="two views of each row"):
        InfoNCE()(LABELS, x)
    with pytest.raises(ValueError, match="Center reads logits and squared distances"):
        Center()(LABELS, x)
    with pytest.raises(ValueError, match="labels must number the head's 5 classes from 0, got -1 to 2"):
        CosFace()(LABELS - 1, x / 5)
    with pytest.raises(ValueError, match=r"needs the number of classes: loss.head\(classes=10\)"):
        ArcFace().head()


def test_the_heads_weights_are_trained_with_the_model_and_loaded_with_it(tmp_path: Path) -> None:
    for kind, name, head in (("cosines", "ArcFace", Proxies), ("centres", "center", Centres)):
        model = next(case for case in CASES if case.name == name).model()
        layer = model.layers[-1]
        assert isinstance(layer, head), kind
        before = [w.numpy() for w in layer.trainable_weights]
        model.fit(np.eye(10), LABELS, verbose=0)
        assert all((w.numpy() != old).any() for w, old in zip(layer.trainable_weights, before, strict=True))
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
        for w, kept in zip(layer.weights, loaded.weights, strict=True):
            np.testing.assert_array_equal(w.numpy(), kept.numpy())
