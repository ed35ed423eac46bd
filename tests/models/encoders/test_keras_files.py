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
from topkin.models import KerasEncoder, MetricEmbedding, history_encoder, save_encoder
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
    ("name", "data", "message"),
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
def test_what_is_no_model_is_said(tmp_path: Path, name: str, data: bytes | None, message: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
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
    embedded = KerasEncoder(saved, signature, batch_size=7).embed(pa.table({"rows": list(rows)}))
    np.testing.assert_allclose(embedded.vectors, net.predict(rows, verbose=0), atol=1e-6)


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
    embedded = KerasEncoder.load(str(tmp_path / "tower"), batch_size=2).embed(pa.table({"rows": list(rows)}))
    np.testing.assert_allclose(embedded.vectors, expected, atol=1e-6)


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

    for layer, words in ((Loses(), "must come back from its file with its weights"), (Wide(2), "cannot be read by")):
        with pytest.raises(InputError, match=words):
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
    numbers = model(layers.IntegerLookup(vocabulary=[7], output_mode="one_hot", name="shops"), (1,), dtype="int64")
    save_encoder(keras.Model(numbers.inputs, layers.Dense(2)(numbers.outputs[0])), str(tmp_path / "n"))
    with pytest.raises(ConfigError, match=r"jit_compile must be false for a model that looks ids up.* layer 'shops'"):
        KerasEncoder.load(str(tmp_path / "n"), jit_compile=True)
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
    embedded = KerasEncoder.load(str(tmp_path / "m"), batch_size=8, **settings).embed(pa.table({"x": list(rows)}))
    assert embedded.vectors.dtype == np.float32
    difference = np.abs(embedded.vectors - net.predict(rows, verbose=0)).max()
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
    embedded = KerasEncoder.load(str(tmp_path / "m")).embed(pa.table({"x": [1.0, -1.0, None, 0.0]}))
    assert embedded.vectors.tolist() == [[0.0]]
    not_finite = "the encoder gives a number that is not finite"
    assert embedded.reasons.to_pylist() == [not_finite, "x is missing", not_finite]


BOUGHT: dict[str, Any] = {"items": {"column": "bought", "kind": "history"}}


def histories(rows: int, longest: int) -> list[list[str]]:
    rng = np.random.default_rng(0)
    return [[f"i{n}" for n in rng.integers(0, 12, rng.integers(0, longest + 1))] for _ in range(rows)]


def padded(lists: list[list[str]], length: int) -> Any:
    return keras.ops.convert_to_tensor(
        [row[-length:] + [""] * (length - len(row[-length:])) for row in lists], "string"
    )


@pytest.fixture(scope="module")
def users() -> keras.Model:
    return history_encoder([f"i{n}" for n in range(10)], 4, time_gaps=False, seed=1)


def test_a_folder_of_both_sides_embeds_items_and_users(tmp_path: Path, users: keras.Model) -> None:
    items = model(MetricEmbedding(4, seed=2))
    signature = save_encoder(items, str(tmp_path / "both"), user=users, user_inputs=BOUGHT)
    assert sorted(signature.files) == ["item.keras", "user.keras"]
    assert signature.hash != save_encoder(items, str(tmp_path / "items")).hash
    encoder = KerasEncoder.load(str(tmp_path / "both"), batch_size=8)
    rows, lists = np.eye(3, dtype="f4"), histories(50, 90)
    np.testing.assert_allclose(encoder.embed(pa.table({"x": list(rows)})).vectors, items(rows), atol=1e-6)
    embedded = encoder.embed_users(pa.table({"bought": pa.array(lists, pa.list_(pa.string()))}))
    np.testing.assert_allclose(embedded.vectors, np.asarray(users(padded(lists, 64))), atol=1e-5)
    alone = KerasEncoder.load(str(tmp_path / "both"), side="users", batch_size=8)
    same = alone.embed_users(pa.table({"bought": pa.array(lists, pa.list_(pa.string()))}))
    np.testing.assert_array_equal(same.vectors, embedded.vectors)
    kept = sum(min(len(row), 64) for row in lists)
    assert same.padding.worked - same.padding.padded == kept
    assert same.padding.worked < 7 * 8 * 64


def test_histories_that_do_not_fit_in_memory_are_embedded_in_halved_batches(
    tmp_path: Path, users: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_encoder(model(MetricEmbedding(4)), str(tmp_path), user=users, user_inputs=BOUGHT)
    encoder = KerasEncoder.load(str(tmp_path), side="users", batch_size=16)
    rows = pa.table({"bought": pa.array(histories(60, 40), pa.list_(pa.string()))})
    whole, call, sizes = encoder.embed(rows).vectors, encoder._call, set()

    def small_memory(feeds: dict[str, Any]) -> Any:
        if feeds["items"].shape[0] * feeds["items"].shape[1] > 300:
            raise MemoryError
        sizes.add(tuple(feeds["items"].shape))
        return call(feeds)

    monkeypatch.setattr(encoder, "_call", small_memory)
    np.testing.assert_allclose(encoder.embed(rows).vectors, whole, atol=1e-5)
    assert {size for size, width in sizes if width == 64} == {4}
    assert {width for _, width in sizes} == {8, 16, 32, 64}
    assert encoder.batch_size == 4


def test_a_side_that_is_not_there_and_sides_that_do_not_fit_are_said(tmp_path: Path, users: keras.Model) -> None:
    save_encoder(model(MetricEmbedding(4)), str(tmp_path / "items"))
    with pytest.raises(InputError, match=r"must hold user\.keras to embed users, it has item\.keras alone: save both"):
        KerasEncoder.load(str(tmp_path / "items")).embed_users(pa.table({"bought": [["i1"]]}))
    with pytest.raises(InputError, match=r"items must hold user\.keras to embed users"):
        KerasEncoder.load(str(tmp_path / "items"), side="users")
    with pytest.raises(InputError, match=r"model of users must give vectors of 5 coordinates .* got 4: end both"):
        save_encoder(model(MetricEmbedding(5)), str(tmp_path / "no"), user=users, user_inputs=BOUGHT)
    with pytest.raises(InputError, match="user_inputs must come with user"):
        save_encoder(model(MetricEmbedding(5)), str(tmp_path / "no"), user_inputs=BOUGHT)
    save_encoder(model(MetricEmbedding(4)), str(tmp_path / "both"), user=users, user_inputs=BOUGHT)
    (tmp_path / "both" / "user.keras").write_bytes(b"another")
    with pytest.raises(ArtifactError, match=r"user\.keras must have the SHA-256 of its signature"):
        read_model(str(tmp_path / "both"))


@pytest.mark.parametrize("pad", ["after", "before"])
def test_a_model_whose_result_depends_on_its_padding_gets_one_length(tmp_path: Path, pad: str) -> None:
    """A mean over all places, padding included, and a masked one."""
    history = {"x": {"kind": "history", "length": 20, "pad": pad}}
    lists = [[1, 2, 3], [4] * 30, [5]]
    feeds = np.zeros((3, 20), np.int64)
    for row, values in zip(feeds, lists, strict=True):
        kept = values[-20:]
        row[slice(len(kept)) if pad == "after" else slice(20 - len(kept), 20)] = kept
    for masked, widths in ((False, ()), (True, (8, 16, 20))):
        means = model(
            lambda x, masked=masked: layers.GlobalAveragePooling1D()(layers.Embedding(9, 4, mask_zero=masked)(x)),
            (None,),
            dtype="int64",
        )
        signature = save_encoder(means, str(tmp_path / str(masked)), history)
        assert signature.inputs[0].buckets == widths
        encoder = KerasEncoder.load(str(tmp_path / str(masked)), batch_size=2)
        rows = pa.table({"x": pa.array(lists, pa.list_(pa.int64()))})
        np.testing.assert_allclose(encoder.embed(rows).vectors, means.predict(feeds, verbose=0), atol=1e-6)


def test_a_length_that_a_model_does_not_take_is_said(tmp_path: Path) -> None:
    def two_halves(x: Any) -> Any:
        return layers.GlobalAveragePooling1D()(layers.Embedding(9, 4)(keras.ops.reshape(x, (-1, 64))))

    save_encoder(model(two_halves, (64,), dtype="int64"), str(tmp_path / "fixed"), {"x": {"kind": "history"}})
    with pytest.raises(InputError, match=r"takes 64 values a row, got length 9: leave length out"):
        save_encoder(
            model(two_halves, (64,), dtype="int64"), str(tmp_path / "a"), {"x": {"kind": "history", "length": 9}}
        )
    dense = model(lambda x: layers.Dense(2)(keras.ops.reshape(x, (-1, 64))), (None,))
    with pytest.raises(InputError, match=r"the model must take histories of 8 values, it fails: .*; set a length"):
        save_encoder(dense, str(tmp_path / "b"), {"x": {"kind": "history"}})


def test_a_folder_read_as_another_kind_forgets_what_was_of_the_kind_before(tmp_path: Path) -> None:
    means = model(lambda x: layers.GlobalAveragePooling1D()(layers.Embedding(9, 4)(x)), (None,), dtype="int64")
    save_encoder(means, str(tmp_path), {"x": {"kind": "history", "pad": "before", "length": 9}})
    saved, lists = read_model(str(tmp_path)), {"x": pa.list_(pa.int64())}
    other = saved.bound({"x": InputChoice(kind="categories")}, lists.get, ["x"])
    assert (other.inputs[0].kind, other.inputs[0].pad, other.inputs[0].shape) == ("categories", "after", (9,))
