"""Whatever a column is called, the settings that messages show can be pasted: TOML reads them, and DuckDB theirs."""

import sqlite3
import tomllib
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from topkin.config.sections import PrepareSettings
from topkin.ingest.contract import InputSource, inspect_table
from topkin.ingest.files import FILE, ROW
from topkin.ingest.folders.dates import time_expression
from topkin.ingest.folders.foreign import DUCKDB, SQLITE
from topkin.ingest.joins.words import NamedColumn
from topkin.ingest.judging.limits import BY_REASON, faults_of_rejects
from topkin.ingest.rules import Rules
from topkin.ingest.sql import Expression, query
from topkin.ingest.values.baskets import PLACE, flat_schema
from topkin.ingest.values.findings import time_unit_finding, value_findings
from topkin.ingest.values.type_cures import type_cure

CLOCK = datetime(2026, 1, 1)
RESERVED = query("SELECT keyword_name AS word FROM duckdb_keywords()")["word"].to_pylist()
TROUBLE = ["user id", "it's", 'the "id"', "'\"", "a.b", "Größe", "列", "a{}b", "{key}", "line\nbreak", "tab\there",
           "back\\slash", "#", "[x]", "1st", "", "-", "Upper", "current_date", "uuid", "now", "user", "\x7f", "x=1",
           "{normalise}", "$1", "?", "--", "/*", ";", "e\u0301", "\u2003", "\ufeff"]  # fmt: skip
NAMES = (
    st.sampled_from([t for t in TROUBLE if t])
    | st.sampled_from(RESERVED)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
).filter(lambda name: name.lower() not in (FILE, ROW, PLACE))  # topkin keeps these for itself, and says so


def settings_in(text: str, section: str = "purchases") -> list[tuple[str, str | None]]:
    """Each ``normalise`` of a message as TOML reads it: column and expression, None where the key stands alone."""
    start, shown = f"{section}.normalise.", []
    at = text.find(start)
    while at >= 0:
        ends = [i + 1 for i in range(at + len(start), len(text)) if text[i] in "'\"" or i + 1 == len(text)]
        whole = [value for end in ends if (value := _read(text[at:end])) is not None]
        keys = [v for end in range(at + len(start) + 1, len(text) + 1) if (v := _read(f"{text[at:end]} = 0"))]
        ((column, expression),) = (whole or keys)[-1][section]["normalise"].items()
        shown.append((column, expression if whole else None))
        at = text.find(start, at + len(start))
    return shown


def _read(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def check(text: str, name: str, schema: pa.Schema, section: str = "purchases") -> None:
    """All settings of a message are for a column, and give a value of rows of a schema."""
    shown = settings_in(text, section)
    assert shown
    for column, expression in shown:
        assert column == name
        if expression is not None:
            asked = Expression(f"{section}.normalise", expression)
            asked.check_columns([*schema.names, "order_date"])
            rows = schema.empty_table().append_column("order_date", pa.array([], pa.date32()))
            assert len(asked.evaluate(rows)) == 0


def source(**columns: str) -> InputSource:
    return InputSource(name="purchases", path="p", columns=columns)


FIELDS = st.lists(NAMES, min_size=1, max_size=3, unique_by=str.lower)


@given(NAMES, FIELDS, st.sampled_from(["user_id", "item_id", "timestamp", "quantity", "segment"]), st.data())
def test_the_cure_of_every_type(name: str, fields: list[str], role: str, data: st.DataObject) -> None:
    inner = pa.struct([(field, pa.string()) for field in fields])
    types = [pa.string(), pa.float64(), pa.bool_(), pa.binary(), pa.time64("us"), pa.duration("us")]
    nested = [inner, pa.list_(inner), pa.list_(pa.list_(inner)), pa.list_(pa.int64()), pa.map_(pa.string(), pa.int64())]
    kind = data.draw(st.sampled_from([*types, *nested]))
    text = type_cure("purchases", role, name, kind)
    if "purchases.normalise." in text:
        check(text, name, pa.schema([(name, kind)]))


@given(NAMES, FIELDS)
def test_a_basket_that_is_proposed_is_one(name: str, fields: list[str]) -> None:
    assume("[]" not in name and not any("." in field for field in fields))
    kind = pa.list_(pa.struct([(field, pa.string()) for field in fields]))
    text = type_cure("purchases", "item_id", name, kind)
    paths = [f"{name}[].{field}" for field in fields]
    proposed = text[text.index("purchases.item_id = ") : text.index(", and each element")]
    for path in paths:
        assert any(_read(line) == {"purchases": {"item_id": path}} for line in proposed.split(" or "))
        assert path in flat_schema(pa.schema([(name, kind)]), [path]).names


@given(NAMES)
def test_the_finding_about_a_type_or_a_missing_time(name: str) -> None:
    assume(name.lower() not in ("u", "i", "year", "month", "day") and "[]" not in name)
    ids = {"u": ["a"], "i": ["b"]}
    wrong = pa.table({**ids, name: [True]})
    (fault,) = inspect_table(source(user_id="u", item_id="i", timestamp=name), wrong).findings
    check(str(fault), name, wrong.schema)
    parts = pa.table({**ids, "Year": [2024], "month": [1], "day": [1]})
    (fault,) = inspect_table(source(user_id="u", item_id="i", timestamp=name), parts).findings
    check(str(fault), name, parts.schema)


@given(NAMES)
def test_the_finding_about_values(name: str) -> None:
    assume(name.lower() not in ("u", "i", "t"))
    ids = {"u": ["a"] * 30, "i": ["b"] * 30}
    for values in (["31/12/2024"] * 30, ["05/06/2024"] * 30, [45_000 + n for n in range(30)], [5] * 30):
        rows = pa.table({**ids, name: values})
        inspection = inspect_table(source(user_id="u", item_id="i", timestamp=name), rows)
        (fault,) = value_findings(inspection, rows, CLOCK)
        check(str(fault), name, rows.schema)
    times = pa.array([datetime(2024, 1, 1 + n % 28) for n in range(30)])
    rows = pa.table({"u": ids["u"], name: pa.array([2**64 - 1] * 30, pa.uint64()), "t": times})
    inspection = inspect_table(source(user_id="u", item_id=name, timestamp="t"), rows)
    (fault,) = value_findings(inspection, rows, CLOCK)
    check(str(fault), name, rows.schema)


REASONS = ("is null", "is above the largest int64", "is not readable as a time", "is in the future", "is odd")


@given(NAMES, st.sampled_from(REASONS))
def test_the_fault_about_rejects(name: str, reason: str) -> None:
    reason = f"{name} {reason}"
    (fault,) = faults_of_rejects(source(item_id=name, timestamp=name), {reason: 40}, 100, PrepareSettings(), {})
    check(fault, name, pa.schema([(name, pa.string())]))
    limit = fault[fault.index(f"{BY_REASON}.") :]
    assert _read(limit) == {"prepare": {"max_reject_share_by_reason": {reason: 0.61}}}


@given(NAMES)
def test_the_place_of_a_rule_is_a_key(reason: str) -> None:
    rules = Rules.of("purchases", {reason: "1"}, {reason: "true"})
    assert _read(f"{rules.rules[0][1].key} = 1") == {"purchases": {"rules": {reason: 1}}}
    assert _read(f"{rules.normalise[0][1].key} = 1") == {"purchases": {"normalise": {reason: 1}}}


@given(NAMES)
def test_the_line_that_makes_a_join_meet(name: str) -> None:
    line, _, _ = NamedColumn("items", name).line("upper({})").rpartition(" under [")
    read = _read(line)
    assert read is not None
    ((column, expression),) = read.items()
    assert column == name
    Expression("items.normalise", expression).check_columns([name])
    assert Expression("k", expression).evaluate(pa.table({name: ["a"]})).to_pylist() == ["A"]


@given(st.tuples(*(st.sampled_from([w, w.upper(), w.title()]) for w in ("year", "month", "day", "hour"))))
def test_the_time_of_parts_whatever_their_letters(names: tuple[str, ...]) -> None:
    rows = pa.table(dict(zip(names, ([2024], [2], [3], [4]), strict=True)))
    expression = time_expression(rows.schema)
    assert expression is not None
    assert Expression("k", expression).evaluate(rows).to_pylist() == [datetime(2024, 2, 3, 4)]


@pytest.mark.parametrize("name", ["order", "Order Lines", "it's", 'a "b"', "group", "größe", "x.y", "values", "1st"])
@pytest.mark.parametrize("kind", [DUCKDB, SQLITE])
def test_the_command_that_converts_a_table_of_a_database(kind: Any, name: str, tmp_path: Path) -> None:
    path, out = f"{tmp_path}/shop.db", f"{tmp_path}/shop.parquet"
    create = f'CREATE TABLE "{name.replace(chr(34), chr(34) * 2)}" AS SELECT 7 AS n'
    connect = duckdb.connect if kind is DUCKDB else sqlite3.connect
    with closing(connect(path)) as engine:
        engine.execute(create)
        engine.commit() if kind is SQLITE else None
    exec(kind.code(path, out), {})
    assert pq.read_table(out).to_pylist() == [{"n": 7}]


def test_a_unit_that_is_wrong_is_told_of_a_column_that_an_expression_makes() -> None:
    rows = pa.table({"u": ["a"] * 3, "i": ["b"] * 3, "raw": [None, 1_700_000_000_000, 1_700_000_000_001]})
    own_source = InputSource(
        name="purchases",
        path="p",
        columns={"user_id": "u", "item_id": "i", "timestamp": "when"},
        rules=Rules.of("purchases", {"when": "raw + 1"}, {}),
        time_unit="s",
    )
    fault = time_unit_finding(inspect_table(own_source, rows), rows, CLOCK)
    assert "got milliseconds such as 1700000000001: set purchases.time_unit = 'ms' or 'auto'" in str(fault)
