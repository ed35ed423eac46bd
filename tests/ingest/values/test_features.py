"""What is kept of the values of a feature, by their type, and the message where its kind does not take that."""

import math
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from topkin.artifacts.schemas import FLOAT, LABELS, STRING, TIME
from topkin.ingest.values.features import feature_column, kept_type, struct_of, type_fault

DAY = datetime(2024, 5, 1)


@pytest.mark.parametrize(
    ("kind", "values", "t", "kept", "want"),
    [
        (None, [1, None], pa.int64(), FLOAT, [1.0, None]),
        ("number", [1.5, math.nan, math.inf, None], pa.float64(), FLOAT, [1.5, None, None, None]),
        (None, ["red", "", None], pa.string(), STRING, ["red", None, None]),
        ("category", [3, None], pa.int32(), STRING, ["3", None]),
        (None, [True, False], pa.bool_(), STRING, ["true", "false"]),
        ("time", [DAY, None], pa.timestamp("ms"), TIME, [DAY, None]),
        (None, [["a", None, "b"], None, []], pa.list_(pa.string()), LABELS, [["a", "b"], [], []]),
        ("categories", [[1, 2], [2]], pa.large_list(pa.int64()), LABELS, [["1", "2"], ["2"]]),
    ],
)
def test_values_are_kept_as_one_of_four_types(
    kind: str | None, values: list[Any], t: pa.DataType, kept: pa.DataType, want: list[Any]
) -> None:
    assert kept_type(kind, t) == kept
    fields = struct_of({"features.x": kept, "title": pa.string()})
    assert fields is not None
    column = feature_column({"x": pa.chunked_array([pa.array(values, t)])}, fields)
    assert [row["x"] for row in column.to_pylist()] == want


def test_a_text_is_the_list_of_its_words() -> None:
    assert kept_type("text", pa.string()) == LABELS
    fields = struct_of({"features.x": LABELS}, unlearned=["x"])
    assert fields is not None
    assert fields[0].metadata
    column = feature_column({"x": pa.chunked_array([["Red mug, red", None]])}, fields)
    assert set(column.to_pylist()[0]["x"]) == {"red", "mug"}


@pytest.mark.parametrize(
    ("section", "kind", "t", "message"),
    [
        ("items", "number", pa.string(), "of kind 'number' must be a number, got string: give TRY_CAST"),
        ("items", "category", pa.float64(), "must be a string, an integer or a boolean, got double: give CAST"),
        ("items", None, pa.struct([("a", pa.int64())]), "name one of its fields, a"),
        ("items", None, pa.list_(pa.float64()), "name one element, as in tags[1]"),
        ("items", "time", pa.string(), "give TRY_CAST(… AS TIMESTAMP)"),
        ("items", "number", pa.timestamp("us"), "or kind = 'time' for rules of the lists"),
        ("purchases", "number", pa.timestamp("us"), "give epoch(…) of it, or a part of it such as month(…)"),
        ("users", None, pa.binary(), "give CAST(… AS VARCHAR)"),
    ],
)
def test_a_type_that_a_kind_does_not_take_is_told_with_what_makes_it(
    section: str, kind: str | None, t: pa.DataType, message: str
) -> None:
    fault = type_fault(section, "x", kind, t)
    assert fault is not None
    assert fault.startswith(f": {section}.features.x")
    assert message in fault
    assert section != "purchases" or "kind = 'time'" not in fault
