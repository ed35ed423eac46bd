"""Rows of a training: the very arrays that serving makes of the same columns, in any order; what is left out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from topkin.encoding.columns import Rejections
from topkin.encoding.inputs import InputChoice
from topkin.encoding.signature import EncoderInput
from topkin.errors import InputError
from topkin.models import KerasEncoder, save_encoder
from topkin.models.metric_training.changes import Changes, augmenters_of
from topkin.models.metric_training.inputs import specs_of
from topkin.models.metric_training.networks import default_network
from topkin.models.metric_training.rows import read_rows

Parts = Callable[..., list[str]]
KINDS = {
    "photo": "image",
    "price": "number",
    "brand": "category",
    "code": "category",
    "tags": "categories",
    "sizes": "numbers",
    "title": "text",
    "vector": "vector",
}


def shop(rows: int = 50) -> pa.Table:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (rows, 48), dtype=np.uint8)
    words = ["red", "lantern", "blue", "cup", "näh", "kit"]
    return pa.table(
        {
            "item_id": np.arange(rows),
            "label": [None if n == 3 else f"c{n % 4}" for n in range(rows)],
            "photo": pa.FixedSizeBinaryArray.from_buffers(pa.binary(48), rows, [None, pa.py_buffer(pixels)]),
            "price": pa.array([None if n == 5 else n / 7 for n in range(rows)]),
            "brand": pa.array([f"b{n % 5}" for n in range(rows)]).dictionary_encode(),
            "code": rng.integers(-3, 9, rows),
            "tags": [["a", "b", "c"][: n % 4] for n in range(rows)],
            "sizes": [[float(n)] * (n % 3) for n in range(rows)],
            "title": [" ".join(rng.choice(words, n % 4)) for n in range(rows)],
            "vector": rng.normal(size=(rows, 5)).astype(np.float32).tolist(),
        }
    )


def choices() -> dict[str, InputChoice]:
    return {name: InputChoice(kind=kind) for name, kind in KINDS.items()}


def test_the_default_network_takes_every_kind_and_trains_on_what_serving_reads(parts: Parts, tmp_path: Path) -> None:
    table = shop()
    specs = specs_of(table, choices())
    assert [(s.name, s.kind) for s in specs] == list(KINDS.items())
    rows = read_rows(parts(table, 3), specs, memory=1 << 30)
    assert rows.rejects == {"price is missing": 1}
    every = np.arange(len(rows))
    model = default_network(specs, rows.feeds(every), dim=7, seed=1)
    save_encoder(model, str(tmp_path / "encoder"), {n: {"column": n, "kind": k} for n, k in KINDS.items()})
    encoder = KerasEncoder.load(str(tmp_path / "encoder"))
    rejections = Rejections(len(table))
    served = encoder.read(table, rejections)
    order = np.random.default_rng(1).permutation(len(rows))
    for name, feed in rows.feeds(order).items():
        np.testing.assert_array_equal(feed, served[name][order])
    vectors = encoder.embed(table).vectors
    assert vectors.shape == (len(table) - 1, 7)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_labels_are_numbers_of_their_order_and_nulls_are_none(parts: Parts) -> None:
    table = shop().select(["item_id", "label", "code"])
    rows = read_rows(parts(table, 3), specs_of(table, {"code": InputChoice()}), memory=1 << 30)
    labels = [None if code < 0 else rows.classes[code] for code in rows.labels]
    assert labels == table["label"].to_pylist()
    assert rows.ids.to_pylist() == table["item_id"].to_pylist()


def test_kinds_sizes_and_lengths_follow_from_the_columns() -> None:
    table = shop()
    specs = specs_of(table, {name: InputChoice() for name in KINDS if name != "sizes"})
    kinds = {s.name: (s.kind, s.shape) for s in specs}
    assert kinds == {
        "photo": ("image", (4, 4, 3)),
        "price": ("number", (1,)),
        "brand": ("text", ()),
        "code": ("category", ()),
        "tags": ("categories", (3,)),
        "title": ("text", ()),
        "vector": ("vector", (5,)),
    }


@pytest.mark.parametrize(
    ("name", "choice", "part"),
    [
        ("price", InputChoice(kind="image"), "takes binary or text, its column is double"),
        ("title", InputChoice(kind="number"), "takes integer or float or boolean, its column is string"),
        ("price", InputChoice(kind="vector"), "takes lists, its column is double"),
        ("title", InputChoice(kind="image"), "needs the size that images are given in"),
        ("photo", InputChoice(size=(5, 5)), "have a multiple of 25 bytes, got 48"),
        ("code", InputChoice(missing="none"), "missing must be a number"),
    ],
)
def test_a_kind_that_does_not_fit_its_column_is_told_with_the_cure(name: str, choice: InputChoice, part: str) -> None:
    with pytest.raises(InputError, match=part):
        specs_of(shop(), {name: choice})


def test_no_inputs_and_no_rows_that_can_be_given_are_refused(parts: Parts) -> None:
    with pytest.raises(InputError, match=r"\[encoder\.inputs\] is empty"):
        specs_of(shop(), {})
    spec = EncoderInput(name="price", column="price", kind="number", dtype="float32", shape=(1,))
    table = pa.table({"item_id": [1, 2], "price": pa.nulls(2, pa.float64())})
    with pytest.raises(InputError, match="none of 2 can be given to the model: price is missing"):
        read_rows(parts(table, 1), [spec], memory=1 << 30)


def test_a_changed_batch_is_drawn_by_the_generator_and_keeps_what_it_must(parts: Parts) -> None:
    table = shop()
    specs = specs_of(table, choices())
    rows = read_rows(parts(table, 1), specs, memory=1 << 30)
    every = np.arange(len(rows))
    changes = Changes(specs, augmenters_of(rows, ("flip", "erase"), every), corrupt=True)
    feeds = rows.feeds(every)
    first, again, other = (changes(feeds, np.random.default_rng(seed)) for seed in (1, 1, 2))
    for name, came in feeds.items():
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name].shape, first[name].dtype) == (came.shape, came.dtype)
        assert not np.array_equal(first[name], came)
    assert any(not np.array_equal(first[name], other[name]) for name in feeds)
    np.testing.assert_array_equal(np.unique(first["code"]), np.unique(feeds["code"]))
    for words, whole in zip(first["title"], feeds["title"], strict=True):
        assert set(words.split()) <= set(whole.split())
        assert bool(words) == bool(whole)
    np.testing.assert_array_equal(changes.settled()(feeds, np.random.default_rng(0))["photo"].sum(axis=(1, 2)),
                                  feeds["photo"].sum(axis=(1, 2)))  # fmt: skip
