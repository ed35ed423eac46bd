"""Which rejects are too many, and how they are told."""

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts import schemas
from topkin.config.sections import PrepareSettings
from topkin.errors import ConfigError
from topkin.ingest.contract import InputSource
from topkin.ingest.judging.limits import (
    check_limited_reasons,
    count_by_reason,
    examples_of,
    faults_of_rejects,
    limits_to_propose,
    percent,
    rejects_in_words,
    rejects_of_inputs,
    rows_judged,
)
from topkin.ingest.rules import Rules

SOURCE = InputSource(
    name="purchases",
    path="p",
    columns={"user_id": "who", "item_id": "what", "timestamp": "when"},
    rules=Rules.of("purchases", {}, {"returned": "qty > 0", "fuel": "item.category <> 'fuel'"}),
)
ITEMS = InputSource(name="items", path="i", columns={"item_id": "sku"})
LIMITS = PrepareSettings()


def rejects(*rows: tuple[str, dict[str, object]]) -> pa.Table:
    return pa.table(
        {
            "source": ["purchases"] * len(rows),
            "file": ["a.parquet"] * len(rows),
            "row": list(range(len(rows))),
            "reason": [reason for reason, _ in rows],
            "record": [json.dumps(record) for _, record in rows],
        },
        schema=schemas.REJECTS,
    )


def test_rejects_are_told_by_reason_the_most_frequent_first() -> None:
    some = {"returned": 234, "when is in the future": 1000, "never": 0}
    assert rejects_in_words(some, 58_762) == "rejected 1,234 (2.1 %): when is in the future 1,000, returned 234"
    assert rejects_in_words({}, 10) == ""
    many = {f"reason {n}": n for n in range(1, 8)}
    assert rejects_in_words(many, 100).endswith("reason 4 4, 3 other reasons 6")
    counts = {"purchases": {"rows": 4, "rejected": {"x": 1}}, "items": {"rows": 4, "rejected": {}}}
    assert rejects_of_inputs(counts) == ["purchases rejected 1 (25.0 %): x 1"]


@pytest.mark.parametrize(
    ("part", "message"), [(0, "0.0 %"), (1, "< 0.1 %"), (20, "0.2 %"), (9_999, "> 99.9 %"), (10_000, "100.0 %")]
)
def test_a_share_is_not_rounded_to_nothing_or_all(part: int, message: str) -> None:
    assert percent(part, 10_000) == message


def test_times_that_cannot_be_read_are_a_fault_above_a_fifth_with_value_and_cure() -> None:
    reason = "when is not readable as a time"
    examples = examples_of(rejects((reason, {"who": 1, "when": "31/12/2024"})), SOURCE)
    (fault,) = faults_of_rejects(SOURCE, {reason: 21}, 100, LIMITS, examples)
    assert "at most 20.0 % of the rows may be rejected (prepare.max_reject_share = 0.2), got 21.0 % of 100" in fault
    assert 'such as when = "31/12/2024" in row 0 of a.parquet' in fault
    assert """coalesce(CAST(try_strptime(\\"when\\", '%d/%m/%Y') AS VARCHAR), \\"when\\")""" in fault
    assert 'prepare.max_reject_share_by_reason."when is not readable as a time" = ' in fault
    assert faults_of_rejects(SOURCE, {reason: 20}, 100, LIMITS, {}) == []


@pytest.mark.parametrize("reason", ["returned", "who is null"])
def test_rules_and_purchases_of_no_user_may_take_half(reason: str) -> None:
    assert faults_of_rejects(SOURCE, {reason: 50}, 100, LIMITS, {}) == []
    (fault,) = faults_of_rejects(SOURCE, {reason: 51}, 100, LIMITS, {})
    assert "at most 50.0 % of the rows may be rejected in all, got 51.0 % of 100" in fault
    assert faults_of_rejects(ITEMS, {"sku is null": 21}, 100, LIMITS, {}) != []


def test_reasons_that_take_most_rows_together_are_one_fault() -> None:
    some = {"returned": 30, "who is null": 25, "when is null": 10}
    (fault,) = faults_of_rejects(SOURCE, some, 100, LIMITS, {"returned": "qty = -1 in row 7 of a"})
    assert "got 65.0 % of 100: returned 30 (such as qty = -1 in row 7 of a), who is null 25, when is null 10" in fault
    assert "look at purchases.rules.'returned'" in fault


def test_a_reason_with_a_limit_of_its_own_is_judged_by_that_alone() -> None:
    limits = PrepareSettings(max_reject_share_by_reason={"returned": 0.9, "who is null": 0.1})
    assert faults_of_rejects(SOURCE, {"returned": 90, "who is null": 10}, 100, limits, {}) == []
    (fault,) = faults_of_rejects(SOURCE, {"returned": 60, "who is null": 11}, 100, limits, {})
    assert 'at most 10.0 % of the rows may be rejected by prepare.max_reject_share_by_reason."who is null"' in fault
    assert "got 11.0 % of 100" in fault


def test_items_listed_twice_lose_none() -> None:
    assert faults_of_rejects(ITEMS, {"item listed twice": 80}, 100, LIMITS, {}) == []
    strict = PrepareSettings(max_reject_share_by_reason={"item listed twice": 0.1})
    assert len(faults_of_rejects(ITEMS, {"item listed twice": 80}, 100, strict, {})) == 1


@given(
    counts=st.dictionaries(
        st.sampled_from(["returned", "fuel", "who is null", "when is null", "what is null"]), st.integers(0, 20)
    ),
    share=st.floats(0, 1),
)
def test_the_value_that_a_message_names_is_one_that_helps(counts: dict[str, int], share: float) -> None:
    limits = PrepareSettings(max_reject_share=share)
    own: dict[str, float] = {}
    for _ in range(6):
        limits = PrepareSettings(max_reject_share=share, max_reject_share_by_reason=own)
        faults = faults_of_rejects(SOURCE, counts, 100, limits, {})
        if not faults:
            break
        if sum(counts.values()) >= 100:  # all of them: no limit makes that a good input
            return
        key, value = faults[0].rpartition("set prepare.max_reject_share_by_reason.")[2].rsplit(" = ", 1)
        own[json.loads(key)] = float(value)
    assert faults == []


@pytest.mark.parametrize("named", ["retruned", "when", "is null"])
def test_a_limit_for_a_reason_that_there_is_not_is_refused(named: str) -> None:
    limits = PrepareSettings(max_reject_share_by_reason={named: 0.5})
    with pytest.raises(ConfigError, match=rf"must name reasons of the rules or of topkin.*got '{named}'"):
        check_limited_reasons(limits, {"purchases": SOURCE})


def test_limits_are_proposed_for_what_is_meant_and_takes_many_rows() -> None:
    shares = {"returned": 0.75, "who is null": 0.4, "fuel": 0.1, "when is null": 0.9}
    proposed = limits_to_propose(SOURCE, shares)
    limits = {reason: float(limit) for reason, limit in proposed.items()}
    assert limits == {"returned": pytest.approx(0.875, abs=0.01), "who is null": pytest.approx(0.6, abs=0.015)}
    assert limits_to_propose(SOURCE, {"returned": 1.0}) == {}  # which would make check content, and prepare not


def test_limits_for_rules_and_reasons_of_topkin_are_taken() -> None:
    own = {"returned": 0.5, "when is in the future": 0.1, "item listed twice": 0.2}
    check_limited_reasons(PrepareSettings(max_reject_share_by_reason=own), {"purchases": SOURCE})


def test_an_example_is_of_the_columns_that_the_reason_is_about() -> None:
    some = rejects(
        ("returned", {"who": 1, "qty": -2, "when": "x"}),
        ("returned", {"who": 1, "qty": -3}),
        ("when is null", {"who": 5, "when": None, "what": "x" * 100}),
        ("what is not UTF-8", {"who": 5, "what": "x" * 100}),
    )
    assert examples_of(some, SOURCE) == {
        "returned": "qty = -2 in row 0 of a.parquet",
        "when is null": "when = null in row 2 of a.parquet",
        "what is not UTF-8": f'what = "{"x" * 56}… in row 3 of a.parquet',
    }
    assert count_by_reason(some) == {"returned": 2, "what is not UTF-8": 1, "when is null": 1}
    assert examples_of(schemas.REJECTS.empty_table(), SOURCE) == {}


def test_rows_that_lists_added_are_judged_too() -> None:
    counts = {"rows": 600, "unnested": 450, "accepted": 900, "rejected": {"items is null or an empty list": 150}}
    assert rejects_of_inputs({"purchases": counts}) == [
        "purchases rejected 150 (14.3 %): items is null or an empty list 150"
    ]
    assert rows_judged(counts) == 1050
