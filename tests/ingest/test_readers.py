from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from topkin.ingest.cleaning import clean_purchases
from topkin.ingest.contract import InputSource
from topkin.ingest.files import FILE, ROW
from topkin.ingest.readers import escape_invalid_utf8
from topkin.ingest.rules import Rules

BYTES = [b"ok", b"\xff\xfe", None, "ü\\xff".encode(), b"x\xc3"]
SOUND = ["ok", "\\xff\\xfe", None, "ü\\xff", "x\\xc3"]


def text(kind: pa.DataType) -> pa.Array:
    """A string array of bytes that are no text, as a careless writer makes one."""
    raw = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}[kind]
    values = pa.array(BYTES, raw)
    return pa.Array.from_buffers(kind, len(values), values.buffers())


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_only_texts_that_are_not_utf8_are_told_and_changed(kind: pa.DataType) -> None:
    escaped = escape_invalid_utf8(pa.table({"good": ["a"] * 5, "n": range(5), "bad": text(kind)}))
    assert {c: mask.tolist() for c, mask in escaped.invalid.items()} == {"bad": [False, True, False, False, True]}
    assert escaped.rows["bad"].to_pylist() == SOUND
    assert escaped.rows["bad"].type == kind
    escaped.rows.validate(full=True)


def test_sound_rows_come_back_as_they_are() -> None:
    rows = pa.table({"a": ["ü", None], "d": pa.array(["x", "y"]).dictionary_encode()})
    assert escape_invalid_utf8(rows).rows is rows
    assert not escape_invalid_utf8(rows).invalid


def test_a_purchase_by_a_user_that_is_no_text_is_rejected_before_sql_sees_it() -> None:
    day = datetime(2020, 1, 1)
    raw = pa.table(
        {
            "user_id": text(pa.string()),
            "item_id": ["i"] * 5,
            "timestamp": pa.array([day] * 5, pa.timestamp("us")),
            FILE: ["f"] * 5,
            ROW: range(5),
        }
    )
    rules = Rules.of("purchases", {"user_id": "upper(trim(user_id))"}, {"blank": "trim(user_id) <> ''"})
    columns = {name: name for name in ("user_id", "item_id", "timestamp")}
    cleaned = clean_purchases(raw, InputSource(name="purchases", path="", columns=columns, rules=rules), day)
    assert cleaned.accepted["user_id"].to_pylist() == ["OK", "Ü\\XFF"]
    assert cleaned.rejects["reason"].to_pylist() == [
        "user_id is not UTF-8",
        "user_id is null",
        "user_id is not UTF-8",
    ]
    assert '\\\\xff\\\\xfe"' in cleaned.rejects["record"][0].as_py()


def is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


PIECES = [b"", b"a", "é".encode(), "€".encode(), "😀".encode(), b"\x80", b"\xbf", b"\xc2", b"\xe2\x82", b"\xf0\x9f\x98"]
PIECES += [
    b"\xc0\x80",
    b"\xe0\x9f\xbf",
    b"\xe0\xa0\x80",
    b"\xed\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xf0\x8f\xbf\xbf",
    b"\xf5\x80\x80\x80",
]
PIECES += [b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xff"]
ANY = st.one_of(st.none(), st.binary(max_size=6), st.lists(st.sampled_from(PIECES), max_size=4).map(b"".join))


@given(st.lists(ANY, max_size=12), st.integers(0, 3))
@example([b"\xc3", b"\xa9", None, b"\xa9"], 0)
@example([b"\xe0", b"\x00\x80"], 0)
def test_what_is_text_is_what_python_decodes(values: list[bytes | None], skipped: int) -> None:
    raw = pa.array([b"\xff"] * skipped + values, pa.large_binary())
    column = pa.Array.from_buffers(pa.large_string(), len(raw), raw.buffers()).slice(skipped)
    escaped = escape_invalid_utf8(pa.table({"text": column}))
    broken = [v is not None and not is_text(v) for v in values]
    assert escaped.invalid.get("text", np.zeros(len(values), bool)).tolist() == broken
    assert escaped.rows["text"].to_pylist() == [v if v is None else v.decode(errors="backslashreplace") for v in values]
