"""As-of dates, as texts and as Python's dates: naive UTC, whatever the clock of the machine."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from topkin.config.as_of import parse_as_of
from topkin.errors import ConfigError


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock is not in UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2011-11-09", datetime(2011, 11, 9)),
        ("2011-11-09T06:30", datetime(2011, 11, 9, 6, 30)),
        ("2011-11-09T06:30+02:00", datetime(2011, 11, 9, 4, 30)),
        ("2011-11-09T06:30Z", datetime(2011, 11, 9, 6, 30)),
    ],
)
def test_dates_and_times_are_read_as_utc(text: str, expected: datetime, in_tokyo: None) -> None:
    assert parse_as_of(text) == expected


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "0001-01-01", "0024-05-01"])
def test_a_date_beyond_the_calendar_in_utc_is_answered_with_the_form(text: str) -> None:
    with pytest.raises(ConfigError, match="--as-of must be"):
        parse_as_of(text)


def test_an_as_of_date_may_be_a_date_a_time_or_a_text() -> None:
    assert {parse_as_of("2024-05-01"), parse_as_of(date(2024, 5, 1))} == {datetime(2024, 5, 1)}
    assert parse_as_of(datetime(2024, 5, 1)) == datetime(2024, 5, 1)
    with_zone = parse_as_of("2024-05-01T06:00+02:00"), parse_as_of(datetime(2024, 5, 1, 4, tzinfo=UTC))
    assert with_zone == (datetime(2024, 5, 1, 4), datetime(2024, 5, 1, 4))
    assert parse_as_of(None).time() == datetime.min.time()
    with pytest.raises(ConfigError, match="as_of must be a date such as 2011-11-09"):
        parse_as_of("tomorrow", "as_of")


def test_a_date_of_the_future_is_refused_for_the_nights_until_then() -> None:
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert parse_as_of(tomorrow).date() == tomorrow  # it is tomorrow somewhere
    with pytest.raises(
        ConfigError, match=r"--as-of must not lie in the future, it is .*, got 2204-04-10T00:00:00: name"
    ):
        parse_as_of("2204-04-10")
    with pytest.raises(ConfigError, match="got '2024-06-01' of type datetime64: give a text or a datetime"):
        parse_as_of(np.datetime64("2024-06-01"), "as_of")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="as_of must be a date such as 2011-11-09"):
        parse_as_of(20240601, "as_of")  # type: ignore[arg-type]
