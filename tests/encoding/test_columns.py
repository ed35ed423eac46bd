from dataclasses import replace
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.encoding.columns import Rejections, ask_lengths, read_column
from topkin.encoding.signature import EncoderInput


def no_files(column: pa.Array, spec: EncoderInput, rejections: Rejections) -> np.ndarray:
    raise AssertionError("these are no files")


def spec(kind: str, dtype: str = "float32", shape: tuple[int, ...] = (), missing: Any = None) -> EncoderInput:
    return EncoderInput(name="x", column="x", kind=kind, dtype=dtype, shape=shape, missing=missing)


def read(values: Any, wanted: EncoderInput, kind: pa.DataType | None = None) -> tuple[np.ndarray, list[str | None]]:
    """The array, and the reason of each row."""
    column = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([pa.array(values, kind)])
    rejections = Rejections(len(column))
    rows = read_column(column, wanted, rejections, no_files)
    reasons = iter(rejections.reasons().to_pylist())
    return rows, [None if good else next(reasons) for good in rejections.good]


def test_numbers_of_the_models_type_are_a_view_of_the_column() -> None:
    column = pa.array([1.5, 2.5], pa.float32())
    rows, reasons = read(column, spec("number"))
    assert rows.tolist() == [1.5, 2.5]
    assert reasons == [None, None]
    assert np.shares_memory(rows, np.asarray(column))


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float16(), pa.decimal128(5, 1), pa.bool_()])
def test_numbers_of_any_type_are_read(kind: pa.DataType) -> None:
    rows, _ = read(pa.array([1, 0, 1], pa.int8()).cast(kind), spec("number", shape=(1,)))
    assert rows.dtype == np.float32
    assert rows.tolist() == [[1], [0], [1]]


def test_null_and_nan_are_missing_and_infinity_is_never_a_number() -> None:
    values = [1.0, None, float("nan"), float("inf"), 1e300]
    rows, reasons = read(values, spec("number"))
    assert reasons == [None, "x is missing", "x is missing", "x is not finite", "x is not finite"]
    rows, reasons = read(values, spec("number", missing=-1.0))
    assert rows[:3].tolist() == [1, -1, -1]
    assert reasons == [None, None, None, "x is not finite", "x is not finite"]


def test_integers_that_the_model_cannot_hold_are_rejected_and_never_wrapped() -> None:
    rows, reasons = read([7, 2**40, -1, None], spec("category", "int32", missing=0))
    assert reasons == [None, "x does not fit into int32", None, None]
    assert rows[[0, 2, 3]].tolist() == [7, -1, 0]
    assert read([2**24 + 1], spec("category", "float32"))[1] == ["x does not fit into float32"]
    assert read([2**24 + 1], spec("number", "float32"))[1] == [None]


INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


@pytest.mark.parametrize("kind", ["number", "category", "vector"])
@pytest.mark.parametrize("held", INTEGERS)
@pytest.mark.parametrize("wanted", INTEGERS)
def test_an_integer_of_any_type_is_itself_or_a_reject(kind: str, held: str, wanted: str) -> None:
    ends = [np.iinfo(t) for t in INTEGERS]
    near = {int(end) + step for e in ends for end in (e.min, e.max) for step in (-1, 0, 1, 5)}
    values = sorted(v for v in near if np.iinfo(held).min <= v <= np.iinfo(held).max)
    column = pa.array(values, getattr(pa, held)())
    shape = (1,) if kind == "vector" else ()
    rows, reasons = read(pa.FixedSizeListArray.from_arrays(column, 1) if shape else column, spec(kind, wanted, shape))
    bounds = np.iinfo(wanted)
    fit = [bounds.min <= v <= bounds.max for v in values]
    assert reasons == [None if f else f"x does not fit into {wanted}" for f in fit]
    assert rows[fit].reshape(-1).tolist() == [v for v, f in zip(values, fit, strict=True) if f]


def test_texts_are_bytes_of_utf8_and_a_missing_one_may_be_filled() -> None:
    rows, reasons = read(["tea", None, "café"], spec("text", "string"))
    assert (rows[0], rows[2], reasons) == (b"tea", "café".encode(), [None, "x is missing", None])
    rows, reasons = read(["tea", None], spec("text", "string", missing="none"))
    assert (rows.tolist(), reasons) == ([b"tea", b"none"], [None, None])


def test_a_dictionary_and_views_are_read_as_what_they_hold() -> None:
    values = pa.chunked_array([pa.array(["a", "b"]), pa.array(["a", None])])
    for column in (values.dictionary_encode(), values.cast(pa.string_view()), values.cast(pa.large_string())):
        rows, reasons = read(column, spec("category", "string"))
        assert rows[:3].tolist() == [b"a", b"b", b"a"]
        assert reasons == [None, None, None, "x is missing"]


def test_vectors_of_another_length_or_with_gaps_are_rejected() -> None:
    values = [[1.0, 2.0], [1.0], None, [1.0, None], [float("nan"), 0.0], [], [3.0, 4.0]]
    rows, reasons = read(values, spec("vector", shape=(2,)))
    short, gap = "x has not 2 numbers", "x has a number that is missing"
    assert reasons == [None, short, "x is missing", gap, "x is not finite", short, None]
    assert rows[[0, 6]].tolist() == [[1, 2], [3, 4]]
    rows, reasons = read(values[2:3], spec("vector", shape=(2,), missing=0.0), pa.list_(pa.float64()))
    assert (rows.tolist(), reasons) == ([[0, 0]], [None])


def test_vectors_of_a_fixed_size_are_a_view_whatever_the_slice() -> None:
    flat = pa.array(np.arange(12, dtype=np.float32))
    column = pa.FixedSizeListArray.from_arrays(flat, 3).slice(1, 2)
    rows, _ = read(column, spec("vector", shape=(3,)))
    assert rows.tolist() == [[3, 4, 5], [6, 7, 8]]
    assert np.shares_memory(rows, np.asarray(flat))
    rows, _ = read(pa.array([[0] * 4, [1, 2, 3, 4]]).slice(1), spec("vector", "uint8", (2, 2)))
    assert rows.tolist() == [[[1, 2], [3, 4]]]


def test_lists_are_cut_and_padded() -> None:
    rows, reasons = read([[1, 2, 3, 4], [5], []], spec("categories", "int64", (3,)))
    assert rows.tolist() == [[1, 2, 3], [5, 0, 0], [0, 0, 0]]
    assert reasons == [None] * 3
    rows, reasons = read([["a"], ["b", None], None], spec("texts", "string", (2,)))
    assert rows[0].tolist() == [b"a", b""]
    assert reasons == [None, "x has a value that is missing or does not fit", "x is missing"]
    rows, reasons = read([["b", None], None], spec("texts", "string", (2,), missing="?"))
    assert (rows.tolist(), reasons) == ([[b"b", b"?"], [b"", b""]], [None, None])


lists = st.lists(st.none() | st.lists(st.none() | st.integers(0, 9), max_size=5), max_size=8)


@given(lists, st.integers(0, 3), st.integers(1, 4))
def test_lists_are_what_a_loop_would_give(values: list[list[int | None] | None], skip: int, length: int) -> None:
    column = pa.array(values, pa.list_(pa.int64())).slice(min(skip, len(values)))
    rows, reasons = read(column, spec("categories", "int64", (length,), missing=7))
    expected = [[7 if v is None else v for v in (row or [])][:length] for row in values[skip:]]
    assert rows.tolist() == [row + [0] * (length - len(row)) for row in expected]
    assert reasons == [None] * len(column)


def test_raw_pixels_are_a_view_whether_their_size_is_in_the_type_or_not() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 3, 2, 1)
    for kind in (pa.binary(6), pa.binary(), pa.large_binary()):
        rows, reasons = read(pa.array([p.tobytes() for p in pixels], kind).slice(1), spec("image", shape=(3, 2, 1)))
        assert rows.dtype == np.uint8
        np.testing.assert_array_equal(rows, pixels[1:])
        assert reasons == [None] * 3


def test_a_missing_image_is_rejected_or_of_one_value() -> None:
    column = pa.array([b"abcdef", None], pa.binary(6))
    assert read(column, spec("image", shape=(3, 2)))[1] == [None, "x is missing"]
    rows, reasons = read(column, spec("image", shape=(3, 2), missing=9))
    assert (rows[1].tolist(), reasons) == ([[9, 9]] * 3, [None, None])


MARKS = [b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF"]


def fake_files(column: pa.Array, spec: EncoderInput, rejections: Rejections) -> np.ndarray:
    """What ends in ``!`` is a file, of an image that is 0.5 all over."""
    files = column.to_pylist()
    rejections.reject(np.array([not f.endswith(b"!") for f in files], bool), "x is no image")
    return np.full((len(files), *spec.shape), 0.5 if "float" in spec.dtype else 1, spec.dtype)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_one_row_that_is_no_image_leaves_the_raw_pixels_of_the_others(kind: pa.DataType) -> None:
    for odd, reason in ((None, "x is missing"), (b"short", "x is no image"), (b"", "x is no image")):
        column = pa.array([b"abcdef", odd, b"ghijkl"], kind)
        rejections = Rejections(3)
        rows = read_column(pa.chunked_array([column]), spec("image", shape=(3, 2)), rejections, fake_files)
        assert rejections.reasons().to_pylist() == [reason]
        assert bytes(rows[[0, 2]].astype(np.uint8)) == b"abcdefghijkl"


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@given(data=st.data())
def test_each_image_is_read_by_itself_whatever_the_others_are(dtype: str, data: st.DataObject) -> None:
    pixels = st.binary(min_size=6, max_size=6) | st.sampled_from(MARKS).map(lambda mark: mark.ljust(6, b"."))
    images = data.draw(st.lists(st.none() | pixels | st.sampled_from([b"BMfil!", b"a file!", b"odd"]), max_size=8))
    missing = data.draw(st.sampled_from([None, 7]))
    wanted, skip = spec("image", dtype, (3, 2), missing), data.draw(st.integers(0, 2))
    column = pa.array(images, pa.binary()).slice(min(skip, len(images)))
    rejections = Rejections(len(column))
    rows = read_column(pa.chunked_array([column]), wanted, rejections, fake_files)
    given_images, reasons = [], []
    for image in images[skip:]:
        if image is None:
            reasons += ["x is missing"] if missing is None else []
            given_images.append(missing)
        elif len(image) == 6 and not (image.endswith(b"!") and image.startswith(tuple(MARKS))):
            given_images.append(list(image))
        else:
            reasons += [] if image.endswith(b"!") else ["x is no image"]
            given_images.append((0.5 if dtype == "float32" else 1) if image.endswith(b"!") else None)
    assert rejections.reasons().to_pylist() == reasons
    assert rejections.good.tolist() == [image is not None for image in given_images]
    for row, image in zip(rows, given_images, strict=True):
        assert image is None or np.array_equal(row.reshape(-1), np.broadcast_to(image, 6))


def test_a_missing_image_may_be_of_any_value_that_the_model_takes() -> None:
    for kind in (pa.binary(), pa.binary(6)):
        rows, _ = read(pa.array([b"abcdef", None], kind), spec("image", shape=(3, 2), missing=-0.5))
        assert rows[:, 0].tolist() == [[97, 98], [-0.5, -0.5]]


def test_bytes_that_begin_as_a_file_are_not_taken_for_pixels() -> None:
    file = b"\x89PNG" + bytes(20)
    seen: list[bytes] = []

    def decode(column: pa.Array, wanted: EncoderInput, rejections: Rejections) -> np.ndarray:
        seen.extend(column.to_pylist())
        return np.zeros((len(column), 24), np.float32)

    read_column(pa.chunked_array([[file]]), spec("image", shape=(4, 6)), Rejections(1), decode)
    assert seen == [file]


def test_no_rows_are_an_empty_array() -> None:
    for kind, t, shape in (
        ("number", pa.float64(), ()),
        ("text", pa.string(), (1,)),
        ("vector", pa.list_(pa.float32()), (3,)),
        ("texts", pa.list_(pa.string()), (3,)),
        ("image", pa.binary(4), (2, 2)),
    ):
        dtype = "string" if kind.startswith("text") else "float32"
        assert read(pa.chunked_array([], t), spec(kind, dtype, shape))[0].shape == (0, *shape)


def test_reasons_of_some_rows_are_taken_over_where_there_are_none() -> None:
    some = Rejections(3)
    some.reject(np.array([False, True, True]), "inner")
    rejections = Rejections(5)
    rejections.reject(np.array([True, False, False, False, True]), "outer")
    rejections.include(some, np.array([False, True, True, False, True]))
    rejections.reject(np.array([False, False, False, True, True]), "late")
    assert rejections.good.tolist() == [False, True, False, False, False]
    assert rejections.reasons().to_pylist() == ["outer", "inner", "late", "outer"]


def test_the_first_reason_of_a_row_counts() -> None:
    rejections = Rejections(3)
    rejections.reject(np.array([True, False, False]), "first")
    rejections.reject(np.array([True, True, False]), "second")
    assert rejections.reasons().to_pylist() == ["first", "second"]
    assert rejections.good.tolist() == [False, False, True]


@given(
    st.lists(st.one_of(st.none(), st.lists(st.integers(1, 9), max_size=7)), min_size=1, max_size=9),
    st.integers(1, 5),
    st.sampled_from(["after", "before"]),
    st.booleans(),
    st.data(),
)
def test_of_a_history_the_last_values_are_kept_and_its_padding_is_where_it_was_asked_for(
    lists: list[list[int] | None], length: int, pad: str, text: bool, data: st.DataObject
) -> None:
    of = str if text else int
    values = [None if row is None else [of(v) for v in row] for row in lists]
    dtype, value = ("string", pa.string()) if text else ("int32", pa.int16())
    history = replace(spec("history", dtype, (length,)), pad=pad)
    begin = data.draw(st.integers(0, len(lists) - 1))
    rows, reasons = read(pa.array(values, pa.list_(value)).slice(begin), history)
    nothing = b"" if text else 0
    for row, given_row, reason in zip(rows.tolist(), values[begin:], reasons, strict=True):
        assert reason == ("x is missing" if given_row is None else None)
        kept = [v.encode() if text else v for v in (given_row or [])[-length:]]
        padding = [nothing] * (length - len(kept))
        assert row == (kept + padding if pad == "after" else padding + kept)


@pytest.mark.parametrize("kind", [pa.timestamp("ns"), pa.timestamp("s", "Europe/Paris"), pa.date32(), pa.date64()])
def test_times_of_a_history_are_days_before_its_last_one(kind: pa.DataType) -> None:
    midnight = pa.types.is_date(kind)
    hours = (0, 0) if midnight else (6, 18)
    times = [[datetime(2024, 2, 28, hours[0]), datetime(2024, 3, 1, hours[1])], [], [datetime(1960, 1, 1)]]
    values = [[t.date() for t in row] for row in times] if midnight else times
    rows, reasons = read(pa.array(values, pa.list_(kind)), spec("history", shape=(3,)))
    assert rows.tolist() == [[2.0 if midnight else 2.5, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert reasons == [None] * 3
    only_last = replace(spec("history", shape=(1,)), pad="before")
    assert read([[date(2024, 1, 1), date(2024, 1, 9)]], only_last)[0].tolist() == [[0]]


def test_a_history_with_a_value_that_is_missing_or_that_the_model_cannot_hold_is_rejected() -> None:
    broken = "x has a value that is missing or does not fit"
    assert read([[1, None], [2**24 + 1], [2**24]], spec("history", shape=(2,)))[1] == [broken, broken, None]
    assert read([[datetime(2024, 1, 1), None]], spec("history", shape=(2,)))[1] == [broken]
    rows, reasons = read([["a", None], None], spec("history", "string", (2,), missing="?"))
    assert rows.tolist() == [[b"a", b"?"], [b"", b""]]
    assert reasons == [None, None]


def test_a_history_of_numbers_has_as_many_as_one_of_ids() -> None:
    bought, seen = (replace(spec("history", "int64", (4,)), name=n, column=n) for n in ("bought", "seen"))
    days = replace(spec("history", shape=(4,)), name="days", column="days")
    columns = {
        bought: pa.chunked_array([[[1, 2], [3], [3], None, [4]]]),
        days: pa.chunked_array([[[5.0, 6.0], [7.0, 8.0], None, [9.0]], [[]]]),
    }
    rejections = Rejections(5)
    ask_lengths(columns, rejections)
    assert rejections.good.tolist() == [True, False, True, True, False]
    assert set(rejections.reasons().to_pylist()) == {"days has not as many values as bought"}
    rejections = Rejections(5)
    ask_lengths({**columns, seen: pa.chunked_array([[[1], [1, 1], [], [], [1]]])}, rejections)
    assert rejections.reasons().to_pylist() == ["days has not as many values as bought or seen"]
    rejections = Rejections(5)
    ask_lengths({days: columns[days]}, rejections)
    assert rejections.good.all()
