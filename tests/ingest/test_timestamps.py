from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.ingest.timestamps import BROKEN, NULL, READ, accepts, to_micros, unit_mistake

WHEN = datetime(2010, 12, 1, 8, 26)
MICROS = 1_291_191_960_000_000


def micros(values: list[object], kind: pa.DataType | None = None, unit: str = "auto") -> tuple[list[int], list[int]]:
    times, state = to_micros(pa.chunked_array([pa.array(values, kind)]), unit)
    assert times.dtype == np.int64
    return times.tolist(), state.tolist()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/London"])
def test_timestamps_of_every_unit_and_zone_are_the_same_instant(unit: str, zone: str | None) -> None:
    when = WHEN if zone is None else WHEN.replace(tzinfo=UTC)
    assert micros([when, None], pa.timestamp(unit, zone)) == ([MICROS, 0], [READ, NULL])


def test_dates_are_midnight() -> None:
    midnight = MICROS - (8 * 60 + 26) * 60_000_000
    assert micros([date(2010, 12, 1), None], pa.date32()) == ([midnight, 0], [READ, NULL])
    assert micros([date(2010, 12, 1)], pa.date64()) == ([midnight], [READ])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2010-12-01T08:26:00", MICROS),
        ("2010-12-01 08:26", MICROS),
        ("2010-12-01T08:26:00Z", MICROS),
        ("2010-12-01T08:26:00.5Z", MICROS + 500_000),
        ("2010-12-01T08:26:00,123456789", MICROS + 123_456),
        ("2010-12-01T09:26:00+01:00", MICROS),
        ("2010-12-01T09:26:00+0100", MICROS),
        ("2010-12-01 03:26:00-05", MICROS),
        ("20101201T082600Z", MICROS),
        ("  2010-12-01T08:26 ", MICROS),
        ("2010-12-01", MICROS - (8 * 60 + 26) * 60_000_000),
        ("20101201", MICROS - (8 * 60 + 26) * 60_000_000),
    ],
)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_iso_strings_are_read(text: str, expected: int, kind: pa.DataType) -> None:
    assert micros([text], kind) == ([expected], [READ])


def test_one_broken_string_breaks_its_row_alone() -> None:
    broken = [
        "n/a",
        "",
        "2010-13-01",
        "2010-02-30",
        "infinity",
        "epoch",
        "2010-12-01T25:00:00",
        "0000-01-01",
    ]
    result, state = micros([*broken, "2010-12-01T08:26:00", None])
    assert state == [BROKEN] * len(broken) + [READ, NULL]
    assert result == [0] * len(broken) + [MICROS, 0]


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), st.integers(-14 * 60, 14 * 60))
def test_what_python_writes_as_iso_is_read_as_python_means_it(when: datetime, offset: int) -> None:
    zoned = when.replace(tzinfo=timezone(timedelta(minutes=offset)))
    expected = (zoned - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    if not -62_135_596_800_000_000 <= expected < 253_402_300_800_000_000:
        return
    assert micros([zoned.isoformat()]) == ([expected], [READ])
    assert micros([expected], pa.int64(), "us") == ([expected], [READ])


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.decimal128(20, 0)])
@pytest.mark.parametrize("unit", ["auto", "right"])
def test_epoch_numbers_are_read_in_their_unit(kind: pa.DataType, unit: str) -> None:
    for name, number in (("s", MICROS // 1_000_000), ("ms", MICROS // 1000), ("us", MICROS)):
        assert micros([number, None], kind, name if unit == "right" else "auto") == ([MICROS, 0], [READ, NULL])
    if unit == "auto" and kind == pa.int64():
        assert micros([MICROS * 1000], kind) == ([MICROS], [READ])


def test_fractions_of_seconds_are_kept() -> None:
    assert micros([MICROS / 1e6 + 0.25], pa.float64(), "s") == ([MICROS + 250_000], [READ])


def test_numbers_that_are_no_time_are_broken() -> None:
    odd = [float("nan"), float("inf"), 1e300, -1e300]
    assert micros([*odd, None], pa.float64(), "s")[1] == [NULL, *[BROKEN] * 3, NULL]
    assert micros([2**63 - 1, -(2**63)], pa.int64(), "s")[1] == [BROKEN, BROKEN]
    assert micros([2**63 - 1], pa.int64(), "us")[1] == [BROKEN]  # after the year 9999
    assert micros([2**62], pa.timestamp("s"))[1] == [BROKEN]


def test_types_that_hold_no_times_are_refused() -> None:
    assert not any(map(accepts, [pa.bool_(), pa.binary(), pa.list_(pa.int64()), pa.duration("s"), pa.time64("us")]))
    with pytest.raises(TypeError, match=r"times must be a timestamp.*got bool"):
        micros([True])


def test_a_mistaken_unit_is_seen_and_a_right_one_is_not() -> None:
    clock = datetime(2011, 12, 10)

    def mistake(number: int, unit: str) -> str | None:
        return unit_mistake(pa.chunked_array([pa.array([number, number + 1, None, 0])]), unit, clock)

    seconds = MICROS // 1_000_000
    assert mistake(seconds * 1000, "s") == "ms"
    assert mistake(seconds, "ms") == "s"
    assert mistake(MICROS, "ms") == "us"
    assert mistake(seconds, "s") is None
    assert mistake(seconds * 1000, "auto") is None
    assert unit_mistake(pa.chunked_array([pa.array(["2010-12-01"])]), "s", clock) is None
    assert unit_mistake(pa.chunked_array([pa.array([None], pa.int64())]), "s", clock) is None
