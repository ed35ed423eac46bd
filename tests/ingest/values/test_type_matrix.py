"""Twenty types of column in four roles: read right, or told with the rule, what came and a cure that works."""

import json
import re
import tomllib
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from topkin.ingest.cleaning import clean_items, clean_purchases
from topkin.ingest.contract import InputSource, inspect_table
from topkin.ingest.files import FILE, ROW
from topkin.ingest.rules import Rules
from topkin.ingest.values.baskets import unnest
from topkin.ingest.values.findings import value_findings
from topkin.ingest.values.records import records
from topkin.ingest.values.type_cures import type_cure

CLOCK, DAY = datetime(2026, 1, 1), datetime(2024, 4, 2, 8, 22, 18)
N = 4
SECONDS = [1712046138 + n for n in range(N)]
COLUMNS: dict[str, pa.Array] = {
    "int8": pa.array(range(1, N + 1), pa.int8()),
    "int64": pa.array(SECONDS),
    "uint64": pa.array([2**64 - 1 - n for n in range(N)], pa.uint64()),
    "half": pa.array([1.0, 2.0, 3.0, 4.0], pa.float16()),
    "double": pa.array([float(s) for s in SECONDS]),
    "double above 2**53": pa.array([1.2e18 + 3 * n for n in range(N)]),
    "decimal": pa.array([Decimal(n) for n in SECONDS], pa.decimal128(12, 0)),
    "decimal256": pa.array([Decimal(10**30 + n) for n in range(N)], pa.decimal256(50, 0)),
    "string": pa.array([datetime.fromtimestamp(s).isoformat() for s in SECONDS]),
    "large_string": pa.array([f"2024-04-0{n} 08:22:18 UTC" for n in range(1, N + 1)], pa.large_string()),
    "string_view": pa.array([f"2024/04/0{n}" for n in range(1, N + 1)], pa.string_view()),
    "dictionary": pa.array(["20240401", "20240402", None, "20240403"]).dictionary_encode(),
    "binary": pa.array([b"\x00a", b"b", b"c", b"d"]),
    "fixed binary": pa.array([bytes([n] * 16) for n in range(N)], pa.binary(16)),
    "bool": pa.array([True, False, None, True]),
    "date32": pa.array([date(2024, 4, n) for n in range(1, N + 1)]),
    "timestamp[ns, zone]": pa.array([s * 10**9 + 1 for s in SECONDS], pa.timestamp("ns", "Europe/Berlin")),
    "time64": pa.array([time(8, n) for n in range(N)]),
    "duration": pa.array([timedelta(seconds=s) for s in SECONDS]),
    "null": pa.nulls(N),
    "list": pa.array([[1, 2], [3], [], None], pa.list_(pa.int64())),
    "list of struct": pa.array([[{"sku": "a"}], [], None, [{"sku": "b"}]], pa.list_(pa.struct([("sku", pa.string())]))),
    "struct": pa.array([{"id": s} for s in SECONDS]),
    "struct of struct": pa.array([{"of": {"the id": s}} for s in SECONDS]),
    "list of list": pa.array([[[s]] for s in SECONDS]),
    "struct of list": pa.array([{"all": [s, 1]} for s in SECONDS]),
    "map": pa.array([[("key", s)] for s in SECONDS], pa.map_(pa.string(), pa.int64())),
}
READ = {
    "user_id": {"int8", "int64", "string", "large_string", "string_view", "dictionary", "binary", "fixed binary"},
    "timestamp": {"int64", "double", "double above 2**53", "decimal", "string", "large_string", "string_view",
                  "dictionary", "date32", "timestamp[ns, zone]"},
    "quantity": {"int8", "int64", "uint64", "half", "double", "double above 2**53", "decimal", "decimal256", "null"},
}  # fmt: skip
READ["item_id"] = READ["user_id"]
NO_CURE = {
    "user_id": {"double above 2**53", "bool", "null", "duration", "list"},
    "item_id": {"double above 2**53", "bool", "null", "duration"},
    "timestamp": {"int8", "uint64", "half", "decimal256", "binary", "fixed binary", "bool", "null",
                  "time64", "list", "list of struct"},
    "quantity": {"string", "large_string", "string_view", "dictionary", "binary", "fixed binary", "date32",
                 "timestamp[ns, zone]", "time64", "duration", "list of struct"},
}  # fmt: skip
"""What holds no such value, whatever is written."""


def looked_at(role: str, values: pa.Array, section: dict[str, Any]) -> tuple[list[str], int]:
    """What check finds in a table of this column, and how many rows prepare accepts."""
    n = len(values)
    times = pa.array([DAY + timedelta(days=i) for i in range(n)], pa.timestamp("us"))
    rows = pa.table({"user_id": [f"u{i}" for i in range(n)], "item_id": ["i"] * n, "timestamp": times, role: values})
    normalise = section.pop("normalise", {})
    columns = {**{c: c for c in rows.column_names}, **section}
    source = InputSource(name="purchases", path="t", columns=columns, rules=Rules.of("purchases", normalise, {}))
    inspection = inspect_table(source, rows)
    if inspection.findings:
        return [str(f) for f in inspection.findings], 0
    read = rows.append_column(FILE, pa.array(["f"] * n)).append_column(ROW, pa.array(range(n)))
    read = unnest(read, inspection.columns, keep=(FILE, ROW))
    accepted, rejects = clean_purchases(read, source, CLOCK)
    assert len(accepted) + len(rejects) == len(read)
    return [str(f) for f in value_findings(inspection, read, CLOCK)], len(accepted)


def cures(message: str) -> list[dict[str, Any]]:
    """The settings that a message names, as TOML reads them."""
    lines = re.findall(r"purchases\.(\S+ = (?:\"(?:[^\"\\]|\\.)*\"|'[^']*'))", message)
    return [tomllib.loads(text) for text in lines]


@pytest.mark.parametrize("role", READ)
@pytest.mark.parametrize("kind", COLUMNS)
def test_each_type_in_each_role_is_read_or_told_with_a_cure_that_works(kind: str, role: str) -> None:
    values = COLUMNS[kind]
    findings, accepted = looked_at(role, values, {})
    if kind in READ[role]:
        assert findings == []
        assert accepted >= len(values) - values.null_count - (len(values) if kind == "null" else 0)
        return
    [message] = findings
    assert f"column {role!r} (purchases.{role}) must" in message
    assert "got " in message
    assert re.search("set |name |write |written ", message)
    if kind in NO_CURE[role]:
        return
    [cure, *_] = cures(message)
    findings, accepted = looked_at(role, values, cure)
    assert (findings, accepted > 0) == ([], True), (message, cure)


AVAILABLE = [
    (pa.array([1, 0, None]), [True, False, True]),
    (pa.array([17, -3, 0]), [True, False, False]),
    (pa.array(["Yes", "in stock", "no"]), [True, True, False]),
    (pa.array(["true", "Y", "N"]).dictionary_encode(), [True, True, False]),
    (pa.array([1.0, 0.0, float("nan")]), [True, False, True]),
]


@pytest.mark.parametrize(("values", "expected"), AVAILABLE)
def test_numbers_and_words_are_available_by_the_named_expression(values: pa.Array, expected: list[bool]) -> None:
    [cure] = cures(type_cure("purchases", "available", "Sold!", values.type).replace("{}", ""))
    rows = pa.table({"item_id": ["a", "b", "c"], "Sold!": values, FILE: ["f"] * 3, ROW: range(3)})
    columns, rules = {"item_id": "item_id", "available": "Sold!"}, Rules.of("items", cure["normalise"], {})
    accepted = clean_items(rows, InputSource(name="items", path="t", columns=columns, rules=rules)).accepted
    assert accepted["available"].to_pylist() == expected


def test_records_of_nested_columns_of_every_kind_are_json() -> None:
    nan = float("nan")
    rows = pa.table(
        {
            "one": pa.array([{"id": 1}, None]),
            "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
            "floats": pa.array([[("a", nan)], []], pa.map_(pa.string(), pa.float64())),
            "lines": pa.array([[{"sku": "a", "price": nan}, None], []]),
            "deep": pa.array([[[nan, 1.0], None], None], pa.list_(pa.list_(pa.float32()))),
            "pair": pa.array([[nan, 1.0], None], pa.list_(pa.float32(), 2)),
            "half": pa.array([[1.5], None], pa.list_(pa.float16())),
            "none": pa.array([{}, None], pa.struct([])),
        }
    )
    first, second = (json.loads(r, parse_constant=pytest.fail) for r in records(rows).to_pylist())
    assert first == {
        "one": {"id": 1}, "map": {"a": 1}, "floats": {"a": "nan"}, "lines": [{"sku": "a", "price": "nan"}, None],
        "deep": [["nan", 1.0], None], "pair": ["nan", 1.0], "half": [1.5], "none": None,
    }  # fmt: skip
    assert second == {**dict.fromkeys(first), "floats": {}, "lines": []}
