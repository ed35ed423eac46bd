"""A column of any type in any role: init, check and prepare give one answer, and no value is lost between them."""

from datetime import datetime
from decimal import Context, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from topkin.artifacts import ids
from topkin.ingest.cleaning import Cleaned, clean_items, clean_purchases
from topkin.ingest.contract import InputSource, Inspection, inspect_table
from topkin.ingest.files import FILE, ROW
from topkin.ingest.inference.available import availability
from topkin.ingest.inference.columns import InferredColumn, content_score, profile_columns, suggest_normalising
from topkin.ingest.readers import escape_invalid_utf8
from topkin.ingest.rules import Rules
from topkin.ingest.values.baskets import rows_added, unnest
from topkin.ingest.values.findings import value_findings

CONTEXT = Context(prec=80)
CLOCK = datetime(2026, 1, 1)
DAY = datetime(2024, 4, 2, 8, 22, 18)
WHOLE = [
    pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
    pa.dictionary(pa.int8(), pa.int64()),
]  # fmt: skip
FLOATS = [pa.float16(), pa.float32(), pa.float64(), pa.dictionary(pa.int8(), pa.float64())]
DECIMALS = [pa.decimal128(9, 0), pa.decimal128(20, 2), pa.decimal128(38, 0), pa.decimal256(50, 0), pa.decimal256(30, 1)]
TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()),
         pa.dictionary(pa.int8(), pa.string_view())]  # fmt: skip
BYTES = [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(4), pa.binary(16), pa.uuid()]
TIMES = [pa.timestamp(u, z) for u in ("s", "ms", "us", "ns") for z in (None, "UTC", "Europe/Berlin", "+02:00")]
CLOCKS = [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"), *map(pa.duration, ("s", "ms", "us", "ns"))]
NESTED = [
    pa.list_(pa.int64()), pa.large_list(pa.string()), pa.list_(pa.float32(), 2), pa.list_view(pa.int32()),
    pa.list_(pa.struct([("sku", pa.int64()), ("price", pa.float64())])), pa.struct([("id", pa.int64())]),
    pa.struct([("id", pa.string()), ("at", pa.timestamp("us"))]), pa.struct([]), pa.map_(pa.string(), pa.int64()),
    pa.map_(pa.string(), pa.float64()), pa.list_(pa.list_(pa.float16())), pa.struct([("f", pa.float32())]),
]  # fmt: skip
EVERY = [*WHOLE, *FLOATS, *DECIMALS, *TEXTS, *BYTES, *TIMES, pa.date32(), pa.date64(), *CLOCKS, pa.bool_(), pa.null(),
         pa.dictionary(pa.int8(), pa.timestamp("ns")), *NESTED]  # fmt: skip
WORDS = ["19800", " A", "", "7", "1712046138", "20240402", "02/04/2024", "2024-04-02T08:22:18.000+0000", "007", "x",
         "2024-04-02 08:22:18 UTC", "9999-12-31", "true", "1.5", "é", "infinity", "45384.35"]  # fmt: skip
NUMBERS = [0, 1, -1, 7, 100, 255, 2**11 + 1, 2**24 + 1, 2**53, 2**53 + 1, 2**63 - 1, 2**64 - 1, -(2**63), 20240402,
           19800, 45384, 1712046138, 1712046138123, 1712046138123456789, 20240402082218]  # fmt: skip


def values_of(t: pa.DataType) -> st.SearchStrategy[Any]:
    """Values of a type, as Python has them."""
    inner = ids.storage(t)
    if pa.types.is_integer(inner):
        bits, signed = inner.bit_width, pa.types.is_signed_integer(inner)
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        return st.one_of(st.sampled_from([n for n in NUMBERS if low <= n <= high]), st.integers(low, high))
    if pa.types.is_floating(inner):
        most = 60_000 if inner.bit_width == 16 else 2**63
        whole = st.sampled_from([float(n) for n in NUMBERS if abs(n) <= most])
        return st.one_of(whole, st.floats(width=inner.bit_width), st.just(1.5))
    if pa.types.is_decimal(inner):
        digits = st.integers(-(10**inner.precision) + 1, 10**inner.precision - 1)
        small = st.sampled_from([n for n in NUMBERS if abs(n) < 10 ** (inner.precision - inner.scale)])
        return st.one_of(small.map(Decimal), digits.map(lambda n: Decimal(n).scaleb(-inner.scale, CONTEXT)))
    if ids.value_kind(inner) == "text":
        return st.one_of(st.sampled_from(WORDS), st.text(max_size=3))
    if pa.types.is_fixed_size_binary(inner):
        return st.binary(min_size=inner.byte_width, max_size=inner.byte_width)
    if ids.value_kind(inner) == "binary":
        return st.binary(max_size=3)
    if pa.types.is_boolean(inner):
        return st.booleans()
    if pa.types.is_null(inner):
        return st.none()
    if pa.types.is_map(inner):
        pair = st.tuples(st.sampled_from("ab"), values_of(inner.item_type))
        return st.lists(pair, max_size=2, unique_by=lambda p: p[0])
    if pa.types.is_struct(inner):
        fields = [inner.field(i) for i in range(inner.num_fields)]
        return st.fixed_dictionaries({f.name: st.one_of(st.none(), values_of(f.type)) for f in fields})
    if pa.types.is_fixed_size_list(inner):
        return st.lists(values_of(inner.value_type), min_size=2, max_size=2)
    if pa.types.is_nested(inner):
        return st.lists(st.one_of(st.none(), values_of(inner.value_type)), max_size=3)
    if pa.types.is_date32(inner) or pa.types.is_time32(inner):
        return st.integers(0, 86_000) if pa.types.is_time32(inner) else st.integers(-800_000, 4_000_000)
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}.get(getattr(inner, "unit", "ms"), 1)
    usual = st.sampled_from([0, 1_712_046_138 * scale, 1_712_046_138 * scale + 1, -1, 86_399])
    if pa.types.is_time64(inner):
        return st.integers(0, 86_399)
    day = 86_400_000 if pa.types.is_date64(inner) else 1
    return st.one_of(usual, st.integers(-(2**62) // day, 2**62 // day)).map(lambda n: n // day * day)


def column(values: list[Any], t: pa.DataType) -> pa.Array:
    """An array of a type that takes numbers for times."""
    if pa.types.is_dictionary(t):
        return (
            pa.chunked_array([column(values, t.value_type)]).combine_chunks().dictionary_encode()
            if not (pa.types.is_string_view(t.value_type))
            else pa.DictionaryArray.from_arrays(
                pa.array([None if v is None else i for i, v in enumerate(values)], pa.int8()),
                pa.array([v or "" for v in values], pa.string_view()),
            )
        )
    if isinstance(t, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(t, pa.array(values, t.storage_type))
    if pa.types.is_temporal(t):
        return pa.array(values, pa.int32() if t.bit_width == 32 else pa.int64()).view(t)
    if pa.types.is_float16(t):
        return pa.array([None if v is None else np.float16(v) for v in values], t)
    return pa.array(values, t)


@st.composite
def columns(draw: st.DrawFn, types: list[pa.DataType] = EVERY) -> pa.Array:
    t = draw(st.sampled_from(types))
    return column(draw(st.lists(st.one_of(st.none(), values_of(t)), min_size=1, max_size=8)), t)


def table(role: str, values: pa.Array) -> pa.Table:
    n = len(values)
    rows = {
        "user_id": [f"u{i}" for i in range(n)],
        "item_id": ["i"] * n,
        "timestamp": pa.array([DAY] * n, pa.timestamp("us")),
    }
    return pa.table({**rows, role: values})


def source_of(role: str, names: list[str], normalise: dict[str, str]) -> InputSource:
    name = "items" if role in ("available", "title") else "purchases"
    roles = ["item_id", role] if name == "items" else names
    return InputSource(name=name, path="t", columns={r: r for r in roles}, rules=Rules.of(name, normalise, {}))


def looked_at(role: str, values: pa.Array, normalise: dict[str, str]) -> tuple[Inspection, pa.Table]:
    """What check says of a table, and its rows as a reader gives them."""
    rows = table(role, values)
    inspection = inspect_table(source_of(role, rows.column_names, normalise), rows)
    with_place = rows.append_column(FILE, pa.array(["f"] * len(rows))).append_column(ROW, pa.array(range(len(rows))))
    if inspection.findings:
        return inspection, with_place
    return inspection, unnest(with_place, list(inspection.columns), keep=(FILE, ROW))


def cleaned(inspection: Inspection, rows: pa.Table) -> Cleaned:
    if inspection.source.name == "items":
        return clean_items(rows, inspection.source)
    return clean_purchases(rows, inspection.source, CLOCK)


ROLES = ["user_id", "item_id", "timestamp", "quantity", "price", "segment", "available", "title"]


@settings(max_examples=400)
@example("quantity", pa.array([1.7e38, 1.7e38, 1.71e38, 1.71e38], pa.float32()))  # whose sums are too large
@given(st.sampled_from(ROLES), columns())
def test_what_init_proposes_check_accepts_and_prepare_reads_without_losing_a_row(role: str, values: pa.Array) -> None:
    rows = table(role, values)
    profile = next((p for p in profile_columns(rows) if p.name == role), None)
    score = content_score(role, profile)[0] if profile is not None else 0.0
    proposed: dict[str, str] = {}
    if role == "available" and score and profile is not None:
        form = availability([role], profile.type, profile.values).form
        proposed = {role: form.replace("{}", role)} if form else {}
    elif score and (role in ("user_id", "item_id", "timestamp") or ids.value_kind(values.type) in ("integer", "float")):
        proposed = {r.key: r.expression for r in suggest_normalising(rows, [InferredColumn(role, role, "")])}
    for normalise in {}, proposed:
        inspection, read = looked_at(role, values, normalise)
        for finding in inspection.findings:
            assert f"column {role!r}" in str(finding)
            assert "got" in str(finding)
            assert any(cure in str(finding) for cure in ("set ", "name ", "write "))
        if inspection.findings:
            assert normalise is not proposed or not (proposed or score > 0.7), inspection.findings
            continue
        escaped = value_findings(inspection, escape_invalid_utf8(read).rows, CLOCK)
        assert not (proposed and normalise is proposed and role.endswith("_id") and escaped), escaped
        result = cleaned(inspection, read)
        assert len(result.accepted) + len(result.rejects) == len(values) + rows_added(read)
        if role in ("user_id", "item_id") and not escaped:
            kept = [v for i, v in enumerate(values.to_pylist()) if i not in set(result.rejects["row"].to_pylist())]
            different = len({repr(v) for v in kept}) if not proposed else len(set(kept))
            if not proposed or not any(w in str(proposed) for w in ("trim", "upper")):
                assert len(result.accepted[role].unique()) == different


@pytest.mark.parametrize("t", EVERY, ids=str)
@pytest.mark.parametrize("role", ROLES)
def test_a_column_of_nulls_alone_breaks_nothing(role: str, t: pa.DataType) -> None:
    inspection, read = looked_at(role, column([None, None], t), {})
    if not inspection.findings:
        result = cleaned(inspection, read)
        assert len(result.accepted) + len(result.rejects) == 2
