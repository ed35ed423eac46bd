"""Rows of users that were forgotten: counted, never shown, never taken in again."""

from dataclasses import replace
from datetime import datetime

import pyarrow as pa

from topkin.config.section import RejectLimits
from topkin.ingest.cleaning import clean_purchases, clean_users
from topkin.ingest.contract import InputSource
from topkin.ingest.files import FILE, ROW
from topkin.ingest.judging.limits import faults_of_rejects
from topkin.privacy.forgotten import REASON, Forgotten

DAY = datetime(2024, 1, 1)
COLUMNS = {"user_id": "u", "item_id": "i", "timestamp": "t"}
SOURCE = InputSource(name="purchases", path="f", columns=COLUMNS, forgotten=Forgotten.none().with_users([7]))


def rows(users: list[int | None], items: list[str | None]) -> pa.Table:
    n = len(users)
    place = {FILE: ["f"] * n, ROW: pa.array(range(n), pa.int64())}
    return pa.table({"u": pa.array(users, pa.int32()), "i": pa.array(items, pa.string()), "t": [DAY] * n, **place})


def test_rows_in_are_rows_out_and_no_record_shows_them() -> None:
    raw = rows([7, 1, 7, 2, None], ["a", "b", None, None, "c"])
    cleaned = clean_purchases(raw, SOURCE, datetime(2025, 1, 1))
    assert cleaned.accepted["user_id"].to_pylist() == [1]
    assert [(r["row"], r["reason"], r["record"] == "{}") for r in cleaned.rejects.to_pylist()] == [
        (0, REASON, True),
        (2, REASON, True),
        (3, "i is null", False),
        (4, "u is null", False),
    ]
    nobody = clean_purchases(raw, replace(SOURCE, forgotten=None), datetime(2025, 1, 1))
    assert nobody.accepted["user_id"].to_pylist() == [7, 1]


def test_the_table_of_users_passes_them_over_too() -> None:
    source = InputSource(name="users", path="f", columns={"user_id": "u"}, forgotten=SOURCE.forgotten)
    cleaned = clean_users(rows([7, 1], ["a", "b"]), source)
    assert cleaned.accepted["user_id"].to_pylist() == [1]
    assert cleaned.rejects["reason"].to_pylist() == [REASON]


def test_however_many_were_forgotten_the_input_is_no_worse_for_it() -> None:
    assert faults_of_rejects(SOURCE, {REASON: 99}, 100, RejectLimits(), {}) == []
    assert faults_of_rejects(SOURCE, {"t is null": 99}, 100, RejectLimits(), {})
