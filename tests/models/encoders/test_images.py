"""Images from Parquet and their encoders, and the head of length 1."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.errors import InputError
from topkin.models.encoders.images import images_of, mlp, pixels, read_images, small_cnn, small_resnet
from topkin.models.metric_learning.layers import MetricEmbedding

RAW = np.random.default_rng(0).integers(0, 256, (7, 4, 3, 2)).astype(np.uint8)


def column(values: list[Any] | None = None, width: int = 24) -> pa.Array:
    return pa.array([row.tobytes() for row in RAW] if values is None else values, pa.binary(width))


def table(**columns: Any) -> pa.Table:
    return pa.table({"image": column(), "label": [3, 1, 4, 1, 5, 9, 2], **columns})


def test_images_are_read_as_they_were_written(tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "images.parquet", row_group_size=3)
    got = read_images(str(tmp_path / "images.parquet"), shape=(4, 3, 2))
    assert (got.images == RAW).all()
    assert got.labels.tolist() == [3, 1, 4, 1, 5, 9, 2]


def test_slices_and_chunks_keep_their_rows() -> None:
    chunked = pa.chunked_array([column()[2:5], column()[6:], column()[:0]])
    assert (pixels(chunked, (4, 3, 2)) == RAW[[2, 3, 4, 6]]).all()
    assert pixels(chunked[:0], (4, 3, 2)).shape == (0, 4, 3, 2)


def test_labels_may_be_words() -> None:
    words = pa.array(["hat", "bag"] * 3 + ["hat"]).dictionary_encode()
    assert images_of(table(label=words), (4, 3, 2)).labels.tolist() == ["hat", "bag"] * 3 + ["hat"]


def test_what_cannot_be_read_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got .*absent.parquet, which is not there: look at the path"):
        read_images(str(tmp_path / "absent.parquet"))
    pq.write_table(table(), tmp_path / "images.parquet")
    with pytest.raises(InputError, match="must have a column 'kind', got image, label"):
        read_images(str(tmp_path / "images.parquet"), shape=(4, 3, 2), label="kind")
    with pytest.raises(InputError, match=r"fixed_size_binary\[784\], got fixed_size_binary\[24\]: give the shape"):
        read_images(str(tmp_path / "images.parquet"))
    with pytest.raises(InputError, match="1 of 7 have none: drop them"):
        images_of(table(image=column([None] + [row.tobytes() for row in RAW[1:]])), (4, 3, 2))
    with pytest.raises(InputError, match="each image must have a label, 1 of 7"):
        images_of(table(label=[None, 1, 1, 1, 1, 1, 1]), (4, 3, 2))


ENCODERS = {"mlp": mlp, "small_cnn": small_cnn, "small_resnet": small_resnet}


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_repeats_from_its_seed_takes_uint8_and_survives_saving(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"units": (8, 5)} if name == "mlp" else {"widths": (4, 6)}
    encoder, again, other = (ENCODERS[name]((8, 8, 1), seed=seed, **options) for seed in (1, 1, 2))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
    features = encoder.predict(images, verbose=0)
    assert features.shape == (3, 5 if name == "mlp" else 12)
    assert (features == again.predict(images, verbose=0)).all()
    assert (features != other.predict(images, verbose=0)).any()
    assert (features == encoder.predict(images.astype(np.float32), verbose=0)).all()
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras", safe_mode=True)
    assert (loaded.predict(images, verbose=0) == features).all()


def test_the_perceptron_is_the_articles() -> None:
    kinds = [type(layer).__name__ for layer in mlp().layers[1:]]
    assert kinds == ["Rescaling", "Flatten"] + ["Dense", "Dropout"] * 3
    assert mlp().count_params() == 785 * 128 + 2 * 129 * 128
    assert {layer.rate for layer in mlp().layers if isinstance(layer, keras.layers.Dropout)} == {0.1}


@pytest.mark.parametrize(
    ("shape", "axis"), [((5, 6), -1), ((5, 6), 1), ((4, 3, 6), 1), ((4, 3, 6), -2), ((4, 3, 6), 2)]
)
def test_an_embedding_has_length_one_along_its_axis(shape: tuple[int, ...], axis: int) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    head = MetricEmbedding(7, axis=axis, seed=3)
    got = np.asarray(head(x))
    want = np.tensordot(x, np.asarray(head.kernel), 1)
    want /= np.sqrt((want**2).sum(axis=axis, keepdims=True))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert head.compute_output_shape(shape) == (*shape[:-1], 7) == got.shape


def test_a_head_without_weights_only_normalises_and_zero_stays_zero() -> None:
    got = np.asarray(MetricEmbedding()(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)))
    np.testing.assert_allclose(got, [[0.6, 0.8], [0, 0]])


def test_a_head_survives_saving_and_mixed_precision(tmp_path: Path) -> None:
    inputs = keras.Input((6,))
    head = MetricEmbedding(3, use_bias=True, seed=1, dtype="mixed_float16")
    model = keras.Model(inputs, head(inputs))
    x = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    got = model.predict(x, verbose=0)
    assert got.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, rtol=1e-5)
    model.save(tmp_path / "head.keras")
    loaded = keras.saving.load_model(tmp_path / "head.keras", safe_mode=True)
    assert (loaded.predict(x, verbose=0) == got).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MetricEmbedding(0), "dim must be at least 1, or None"),
        (lambda: MetricEmbedding(3, axis=0), "axis must not be 0, the rows of a batch"),
        (lambda: MetricEmbedding(3, axis=2)(np.zeros((2, 3), np.float32)), "1 to 1 or below 0, got 2"),
        (lambda: MetricEmbedding(3, axis=-2)(np.zeros((2, 3), np.float32)), "1 to 1 or below 0, got -2"),
    ],
)
def test_a_wrong_axis_or_dim_is_explained(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
