"""Which models can be encoders, and what is said of those that cannot."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pytest

from topkin.encoding.inputs import InputChoice
from topkin.errors import ArtifactError, ConfigError, InputError
from topkin.models import KerasEncoder, save_encoder
from topkin.models.encoders.keras_files import read_model

layers = keras.layers


def model(make: Callable[[Any], Any], shape: tuple[int | None, ...] = (3,), **options: Any) -> keras.Model:
    inputs = keras.Input(shape, name="x", **options)
    return keras.Model(inputs, make(inputs))


def lambda_layer() -> keras.Model:
    return model(layers.Lambda(lambda x: x * 2, name="twice"))


def two_outputs() -> keras.Model:
    return model(lambda x: [layers.Dense(2)(x), layers.Dense(3)(x)])


def an_image() -> keras.Model:
    return model(layers.Conv2D(2, 3), (8, 8, 1))


def whole_numbers() -> keras.Model:
    return model(layers.StringLookup(vocabulary=["a"]), (1,), dtype="string")


def fixed_rows() -> keras.Model:
    inputs = keras.Input(batch_shape=(4, 3), name="x")
    return keras.Model(inputs, layers.Dense(2)(inputs))


WRONG: dict[Callable[[], keras.Model], str] = {
    lambda_layer: r"must hold no code, got a Lambda layer: twice\. Save the model with a layer of Keras",
    two_outputs: r"must have one output, the vectors, got 2: save keras\.Model\(model\.inputs, model\.outputs\[i\]\)",
    an_image: r"must give vectors, \(rows, dim\) of floats, got \(None, 6, 6, 2\) of float32: end the model with",
    whole_numbers: r"must give vectors, \(rows, dim\) of floats, got \(None, 1\) of int64",
    fixed_rows: r"any number of rows, its input 'x' has the fixed shape \(4, 3\): save it with keras\.Input\(\(3,\)\)",
}


@pytest.mark.parametrize("make", WRONG, ids=lambda make: make.__name__)
def test_a_model_that_is_no_encoder_is_refused_when_it_is_saved_and_when_it_is_read(
    make: Callable[[], keras.Model], tmp_path: Path
) -> None:
    wrong = make()
    with pytest.raises(InputError, match=WRONG[make]):
        save_encoder(wrong, str(tmp_path / "folder"))
    assert not (tmp_path / "folder").exists()
    wrong.save(tmp_path / "wrong.keras")
    with pytest.raises(InputError, match=WRONG[make]):
        read_model(str(tmp_path / "wrong.keras"))


def test_a_class_that_nothing_registers_is_named(tmp_path: Path) -> None:
    with keras.saving.CustomObjectScope({}):

        @keras.saving.register_keras_serializable("stranger")
        class Stranger(layers.Layer):
            def call(self, x: Any) -> Any:
                return x

        model(Stranger()).save(tmp_path / "stranger.keras")
    keras.saving.get_custom_objects().pop("stranger>Stranger", None)
    with pytest.raises(InputError, match=r"layers that Keras or topkin registers, got class 'Stranger': save the"):
        read_model(str(tmp_path / "stranger.keras"))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.keras", b"hello", r"must be a \.keras file, a zip archive with config\.json, got b'hell' at its start"),
        (
            "a.keras",
            None,
            r"must be a \.keras file or a folder of save_encoder, .*a\.keras is not there: save",
        ),
        ("a.h5", b"\x89HDF", r"a\.h5 is another file: save the model by model\.save\('my_model\.keras'\)"),
        (".", None, "holds no signature.json"),
    ],
)
def test_what_is_no_model_is_said(tmp_path: Path, name: str, data: bytes | None, said: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=said):
        read_model(str(tmp_path / name))


def test_a_damaged_archive_is_said_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.keras"
    model(layers.Dense(2)).save(path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "b.keras", "w") as new:
        new.writestr("config.json", old.read("config.json"))
        new.writestr("metadata.json", old.read("metadata.json"))
    with pytest.raises(InputError, match=r"b\.keras cannot be read by Keras \d.*; save it again") as caught:
        read_model(str(tmp_path / "b.keras"))
    assert "\n" not in str(caught.value)


def test_a_sequential_model_trained_without_an_input_takes_any_number_of_rows(tmp_path: Path) -> None:
    """Keras keeps the size of its first batch."""
    rows = np.random.default_rng(0).random((20, 3)).astype("f4")
    net = keras.Sequential([layers.Dense(4), layers.Dense(2)])
    net.compile("sgd", "mse")
    net.fit(rows[:8], np.zeros((8, 2)), verbose=0)
    net.save(tmp_path / "net.keras")
    saved = read_model(str(tmp_path / "net.keras"))
    assert (saved.dim, [i.shape for i in saved.inputs]) == (2, [(3,)])
    signature = saved.bound({"rows": InputChoice()}, {"rows": pa.list_(pa.float32())}.get, ["rows"])
    found = KerasEncoder(saved, signature, batch_size=7).embed(pa.table({"rows": list(rows)}))
    np.testing.assert_allclose(found.vectors, net.predict(rows, verbose=0), atol=1e-6)


def test_a_class_of_its_own_that_is_registered_is_an_encoder(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("topkin_tests")
    class Tower(keras.Model):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.dense = layers.Dense(2)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    tower, rows = Tower(), np.eye(3, dtype="f4")
    expected = np.asarray(tower(rows))
    save_encoder(tower, str(tmp_path / "tower"), {"rows": {"column": "rows", "kind": "vector"}})
    found = KerasEncoder.load(str(tmp_path / "tower"), batch_size=2).embed(pa.table({"rows": list(rows)}))
    np.testing.assert_allclose(found.vectors, expected, atol=1e-6)


def test_a_folder_is_read_with_other_columns_and_keeps_its_hash(tmp_path: Path) -> None:
    inputs = keras.Input((None,), name="words", dtype="int32")
    net = keras.Model(inputs, layers.GlobalAveragePooling1D()(layers.Embedding(9, 4)(inputs)))
    first = save_encoder(net, str(tmp_path / "a"), {"words": {"column": "tags", "length": 5, "missing": 3}})
    saved = read_model(str(tmp_path / "a"))
    types = {"tags": pa.list_(pa.int64()), "terms": pa.list_(pa.int32())}
    assert saved.bound({}, types.get, list(types)) == first
    other = saved.bound({"words": InputChoice(column="terms")}, types.get, list(types))
    assert other.hash == first.hash
    assert (other.inputs[0].column, other.inputs[0].shape, other.inputs[0].missing) == ("terms", (5,), 3)


def test_an_encoder_that_is_there_is_replaced_when_asked_and_other_files_never(tmp_path: Path) -> None:
    net, folder = model(layers.Dense(2)), tmp_path / "a"
    save_encoder(net, str(folder))
    with pytest.raises(FileExistsError, match="must be empty or new, it has 2 files: give overwrite=True"):
        save_encoder(net, str(folder))
    (folder / "item.keras").write_bytes(b"")
    save_encoder(net, str(folder), overwrite=True)
    assert read_model(str(folder)).dim == 2
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="it has 1 files"):
        save_encoder(net, str(tmp_path / "b"), overwrite=True)
    for name in ("notes.txt", ".hidden", "items/0.parquet"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
        with pytest.raises(FileExistsError, match="it has 3 files"):
            save_encoder(net, str(folder), overwrite=True)
        assert (folder / name).read_text() == "mine"
        (folder / name).unlink()


def test_a_model_whose_weights_or_arguments_are_not_kept_is_refused(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("topkin_tests")
    class Loses(layers.Layer):
        def build(self, shape: Any) -> None:
            self.scale = self.add_weight((), "random_normal", name="scale")

        def call(self, x: Any) -> Any:
            return x * self.scale

        def save_own_variables(self, store: Any) -> None:
            return

        def load_own_variables(self, store: Any) -> None:
            return

    @keras.saving.register_keras_serializable("topkin_tests")
    class Wide(layers.Layer):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.width = width

        def call(self, x: Any) -> Any:
            return x[:, : self.width]

    for layer, said in ((Loses(), "must come back from its file with its weights"), (Wide(2), "cannot be read by")):
        with pytest.raises(InputError, match=said):
            save_encoder(model(layer), str(tmp_path / "folder"))
        assert not (tmp_path / "folder").exists()


def test_a_replaced_model_is_refused_before_it_is_read(tmp_path: Path) -> None:
    save_encoder(model(layers.Dense(2)), str(tmp_path))
    model(layers.Dense(2)).save(tmp_path / "item.keras")
    with pytest.raises(ArtifactError, match=r"item\.keras must have the SHA-256 of its signature"):
        KerasEncoder.load(str(tmp_path))


def test_settings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    text = keras.Input((), dtype="string", name="t")
    words = layers.TextVectorization(vocabulary=["a"], output_mode="multi_hot")(text)
    save_encoder(keras.Model(text, layers.Dense(2)(words)), str(tmp_path / "t"))
    with pytest.raises(ConfigError, match=r"jit_compile must be false for a model that takes strings.* input 't' does"):
        KerasEncoder.load(str(tmp_path / "t"), jit_compile=True)
    model(layers.Dense(2)).save(tmp_path / "m.keras")
    with pytest.raises(ConfigError, match="must be the folder of an encoder"):
        KerasEncoder.load(str(tmp_path / "m.keras"))


@pytest.mark.parametrize(
    ("settings", "within"), [({"jit_compile": True}, 1e-5), ({"precision": "mixed_bfloat16"}, 0.1)]
)
def test_compiled_and_in_mixed_precision_the_vectors_are_near(
    tmp_path: Path, settings: dict[str, Any], within: float
) -> None:
    rows = np.random.default_rng(0).random((20, 3)).astype("f4")
    net = model(lambda x: layers.Dense(4)(layers.Dense(8, "relu")(x)))
    save_encoder(net, str(tmp_path / "m"))
    found = KerasEncoder.load(str(tmp_path / "m"), batch_size=8, **settings).embed(pa.table({"x": list(rows)}))
    assert found.vectors.dtype == np.float32
    difference = np.abs(found.vectors - net.predict(rows, verbose=0)).max()
    assert difference < within
    assert (difference == 0) <= ("precision" not in settings)


def test_a_batch_that_does_not_fit_in_memory_is_halved_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_encoder(model(layers.Dense(4)), str(tmp_path / "m"))
    encoder = KerasEncoder.load(str(tmp_path / "m"), batch_size=16)
    rows = np.random.default_rng(0).random((40, 3)).astype("f4")
    whole, call, sizes = encoder.encode({"x": rows}), encoder._call, []

    def small_memory(feeds: dict[str, Any]) -> Any:
        sizes.append(len(feeds["x"]))
        if sizes[-1] > 5:
            raise MemoryError
        return call(feeds)

    monkeypatch.setattr(encoder, "_call", small_memory)
    np.testing.assert_allclose(encoder.encode({"x": rows}), whole, atol=1e-6)
    assert sizes == [16, 8, *[4] * 10]
    encoder.encode({"x": rows[:4]})
    assert sizes[-1] == 4


def test_a_vector_that_is_not_finite_is_a_rejected_row(tmp_path: Path) -> None:
    inputs = keras.Input((1,), name="x")
    save_encoder(keras.Model(inputs, keras.ops.log(inputs)), str(tmp_path / "m"))
    found = KerasEncoder.load(str(tmp_path / "m")).embed(pa.table({"x": [1.0, -1.0, None, 0.0]}))
    assert found.vectors.tolist() == [[0.0]]
    not_finite = "the encoder gives a number that is not finite"
    assert found.reasons.to_pylist() == [not_finite, "x is missing", not_finite]
