"""What feeds a model's input: as chosen, or read off model and table; and what is said of what does not fit."""

from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest

from topkin.encoding.inputs import InputChoice, ModelInput, buckets, resolve
from topkin.encoding.signature import EncoderInput
from topkin.errors import InputError

TYPES = {
    "price": pa.float64(),
    "shop": pa.int64(),
    "title": pa.string(),
    "photo": pa.binary(784),
    "file": pa.binary(),
    "words": pa.list_(pa.string()),
    "ids": pa.list_(pa.int32()),
    "vector": pa.list_(pa.float32(), 6),
    "weights": pa.list_(pa.float64()),
    "when": pa.timestamp("us"),
    "times": pa.list_(pa.timestamp("us")),
    "both": pa.struct({"bytes": pa.binary()}),
}


def resolved(*model: ModelInput, **choices: Any) -> tuple[EncoderInput, ...]:
    asked = {name: c if isinstance(c, InputChoice) else InputChoice(column=c) for name, c in choices.items()}
    return resolve(model, asked, TYPES.get, list(TYPES))


def message(*model: ModelInput, **choices: Any) -> str:
    with pytest.raises(InputError) as caught:
        resolved(*model, **choices)
    return str(caught.value)


def x(dtype: str = "float32", *shape: int | None) -> ModelInput:
    return ModelInput("x", dtype, shape)


@pytest.mark.parametrize(
    ("declared", "column", "kind", "shape"),
    [
        (x(), "price", "number", ()),
        (x("float32", 1), "shop", "number", (1,)),
        (x("int32"), "shop", "category", ()),
        (x("string", 1), "title", "text", (1,)),
        (x("float32", 28, 28, 1), "photo", "image", (28, 28, 1)),
        (x("uint8", 28, 28), "photo", "image", (28, 28)),
        (x("float32", 32, 32, 3), "file", "image", (32, 32, 3)),
        (x("float32", 32, 32, 3), "title", "image", (32, 32, 3)),
        (x("float32", 6), "vector", "vector", (6,)),
        (x("float32", None), "vector", "vector", (6,)),
        (x("float32", 2, 3), "vector", "vector", (2, 3)),
        (x("string", 4), "words", "texts", (4,)),
        (x("int64", 4), "ids", "categories", (4,)),
        (x("float32", 4), "ids", "vector", (4,)),
    ],
)
def test_the_kind_follows_from_the_model_and_the_column(
    declared: ModelInput, column: str, kind: str, shape: tuple[int, ...]
) -> None:
    (chosen,) = resolved(declared, x=column)
    assert (chosen.column, chosen.kind, chosen.shape, chosen.dtype) == (column, kind, shape, declared.dtype)


def test_an_input_takes_the_column_of_its_name() -> None:
    price, title = resolved(ModelInput("price", "float32", ()), ModelInput("title", "string", ()))
    assert (price.column, title.column) == ("price", "title")


def test_the_one_input_of_a_model_may_be_called_anything() -> None:
    (chosen,) = resolved(ModelInput("input_layer_7", "float32", ()), cost="price")
    assert (chosen.name, chosen.column) == ("input_layer_7", "price")
    (chosen,) = resolved(ModelInput("input_layer_7", "float32", ()), price=InputChoice(missing=0))
    assert (chosen.column, chosen.missing) == ("price", 0)


def test_lengths_and_sizes_that_the_model_leaves_open_are_set() -> None:
    (words,) = resolved(x("string", None), x=InputChoice(column="words", length=9))
    assert (words.kind, words.shape) == ("texts", (9,))
    (image,) = resolved(x("float32", None, None, None), x=InputChoice(column="file", size=(64, 48)))
    assert image.shape == (64, 48, 3)


@pytest.mark.parametrize(
    ("declared", "choice", "words"),
    [
        (x(), "prise", "has no 'prise', did you mean 'price': name one, as in --input x=COLUMN"),
        (x(), "title", "takes float32, column 'title' is string: name a column of numbers, or save the model with"),
        (x(), "when", "takes numbers, column 'when' is timestamp[us]: give an SQL expression"),
        (x("string"), "shop", "takes strings, column 'shop' is int64: give CAST(shop AS VARCHAR)"),
        (x("int32"), "price", "takes int32, column 'price' is double: give CAST(price AS BIGINT)"),
        (x("float32", 3), "price", "rows of shape (3,), kind 'number' is one value"),
        (x(), "vector", "is one value a row, column 'vector' is"),
        (x("float32", 3), "vector", "takes 3 numbers a row, column 'vector' has 6"),
        (x("float32", None), "weights", "need a length, its shape is (None,): set length"),
        (x("float32", 8, 8, 1), "photo", "8 x 8 x 1, 64 bytes, column 'photo' has raw pixels of 784 bytes"),
        (x("float32", 8, 8, 1), "both", "give its field, both.bytes, in its place"),
        (x("float32", None, None, 3), "file", "images of any size, a batch needs one: set size, as in x=64x64"),
        (x("float32", 8, 8, 1), InputChoice(column="file", size=(9, 8)), "images of 8 x 8, got size 9 x 8: leave"),
        (x(), InputChoice(column="price", missing="none"), "missing must be a number, got 'none'"),
        (x("string"), InputChoice(column="title", missing=0), "missing must be a text, got 0"),
        (x("uint8"), InputChoice(column="shop", missing=-1), "missing must be a whole number of 0 to 255, got -1"),
        (x("int64"), InputChoice(column="shop", missing=0.5), "missing must be a whole number of -9223372036854775808"),
        (x("int32"), InputChoice(column="shop", missing=float("nan")), "must be a whole number of -2147483648 to"),
        (x("float32", 3), InputChoice(column="ids", length=4), "takes 3 values a row, got length 4"),
        (x("int64", 9), InputChoice(column="title", kind="history"), "kind 'history' takes a list, column 'title' is"),
        (x("int64", 9), InputChoice(column="times", kind="history"), "times are given as ages in days, save the model"),
        (x("int64", 9), InputChoice(column="words", kind="history"), "save the model with its StringLookup"),
        (x("int64", 9), InputChoice(column="weights", kind="history"), "CAST(weights AS BIGINT[]) in its place"),
        (x("string", 9), InputChoice(column="ids", kind="history"), "CAST(ids AS VARCHAR[]) in its place"),
        (x("float32", 9, 2), InputChoice(column="weights", kind="history"), "a list has one dimension"),
        (x(), InputChoice(column="ids", kind="history"), "is one value a row, column 'ids' is"),
        (x("int64", 9), InputChoice(column="ids", pad="before"), "of kind 'categories', pad is for histories: leave"),
        (x(), InputChoice(column="title", kind="image"), "an image is (height, width, channels)"),
    ],
)
def test_what_does_not_fit_is_said_with_the_cure(declared: ModelInput, choice: Any, words: str) -> None:
    assert words in message(declared, x=choice)


def test_everything_wrong_is_said_at_once() -> None:
    text = message(ModelInput("price", "float32", ()), ModelInput("cup", "string", ()), prise="price", cup="shop")
    assert "the model has no input 'prise', did you mean 'price'" in text
    assert "input 'cup' of the model: it takes strings" in text


def test_an_input_is_described_in_words() -> None:
    (image,) = resolved(x("uint8", 28, 28, 1), x=InputChoice(column="photo", missing=0))
    assert image.described() == "x = photo (image of 28 x 28 x 1, uint8, 0 where missing)"


def test_histories_have_a_few_lengths_where_the_model_takes_any() -> None:
    (history,) = resolved(x("int64", None), x=InputChoice(column="ids", kind="history"))
    assert (history.shape, history.buckets, history.pad) == ((64,), (8, 16, 32, 64), "after")
    assert history.described() == "x = ids (history of the last 64, int64)"
    (history,) = resolved(x("int64", None), x=InputChoice(column="ids", kind="history", length=40, pad="before"))
    assert (history.shape, history.buckets) == ((40,), (8, 16, 32, 40))
    assert history.described() == "x = ids (history of the last 40, padded before, int64)"
    (history,) = resolved(x("float32", 20), x=InputChoice(column="times", kind="history"))
    assert (history.shape, history.buckets) == ((20,), ())


@pytest.mark.parametrize("length", [1, 7, 8, 9, 64, 100])
def test_buckets_double_up_to_the_length(length: int) -> None:
    widths = buckets(length)
    assert (widths[-1] if widths else length) == length
    assert all(b <= 2 * a for a, b in pairwise(widths))
    assert bool(widths) == (length > 8)
