import uuid

import pyarrow as pa
import pytest

from topkin.artifacts.ids import canonical, canonical_type, vocabulary_hash


@pytest.mark.parametrize(
    ("values", "kind", "kept", "expected"),
    [
        ([1, None], pa.int8(), pa.int64(), [1, None]),
        ([2**32 - 1], pa.uint32(), pa.int64(), [2**32 - 1]),
        ([2**63 - 1, -(2**63)], pa.int64(), pa.int64(), [2**63 - 1, -(2**63)]),
        (["a", None, ""], pa.string(), pa.string(), ["a", None, ""]),
        (["é"], pa.large_string(), pa.string(), ["é"]),
        (["é"], pa.string_view(), pa.string(), ["é"]),
        (["a", "b", None, "a"], pa.dictionary(pa.int8(), pa.string()), pa.string(), ["a", "b", None, "a"]),
        ([7, None], pa.dictionary(pa.int8(), pa.int16()), pa.int64(), [7, None]),
        ([b"\x00\xff", None], pa.binary(), pa.binary(), [b"\x00\xff", None]),
        ([b"\x00"], pa.large_binary(), pa.binary(), [b"\x00"]),
        ([b"\x00\x01"], pa.binary(2), pa.binary(), [b"\x00\x01"]),
    ],
)
def test_ids_keep_their_value_in_one_of_three_types(
    values: list[object], kind: pa.DataType, kept: pa.DataType, expected: list[object]
) -> None:
    ids = canonical(pa.chunked_array([pa.array(values, kind), pa.array([], kind)]))
    assert (ids.type, ids.to_pylist()) == (kept, expected)


def test_uuids_are_binary() -> None:
    one = uuid.UUID(int=7)
    values = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([one.bytes, None], pa.binary(16)))
    assert canonical(pa.chunked_array([values])).to_pylist() == [one.bytes, None]


def test_an_id_above_int64_becomes_null() -> None:
    assert canonical(pa.chunked_array([pa.array([2**63, 2**63 - 1, None], pa.uint64())])).to_pylist() == [
        None,
        2**63 - 1,
        None,
    ]


@pytest.mark.parametrize(
    "kind", [pa.float64(), pa.decimal128(10, 0), pa.bool_(), pa.timestamp("us"), pa.list_(pa.int8())]
)
def test_other_types_are_no_ids(kind: pa.DataType) -> None:
    assert canonical_type(kind) is None
    with pytest.raises(TypeError, match="ids must be an integer, a string or binary, got"):
        canonical(pa.chunked_array([], kind))


def test_the_hash_of_ids_sees_type_order_and_borders_and_no_slices():
    text = vocabulary_hash(pa.array(["1", "2"]))
    assert text == vocabulary_hash(pa.array(["0", "1", "2"]).slice(1))
    others = [
        pa.array([1, 2]),
        pa.array([b"1", b"2"]),
        pa.array(["2", "1"]),
        pa.array(["12", ""]),
        pa.array([], pa.string()),
    ]
    hashes = {text, *(vocabulary_hash(ids) for ids in others)}
    assert len(hashes) == 6
    assert vocabulary_hash(pa.array([1, 2])) == vocabulary_hash(pa.array([0, 1, 2]).slice(1))
