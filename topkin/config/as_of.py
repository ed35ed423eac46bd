"""The as-of date, as people and programs give it."""

from datetime import UTC, date, datetime, time, timedelta

from topkin.errors import ConfigError

FIRST_YEAR = 1000
"""A year before it is a slip, and the calendar must reach further back than any span of the settings."""


def parse_as_of(value: datetime | date | str | None, name: str = "--as-of") -> datetime:
    """An as-of date as naive UTC; today's midnight for None.

    Raises ConfigError that says ``name`` for what is none, and for what lies more than a day ahead, of any time zone:
    a run of such a date would be newer than those of all nights until then.
    """
    now = datetime.now(UTC).replace(tzinfo=None)
    if value is None:
        return datetime.combine(now, time())
    try:
        moment = datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
        if not isinstance(moment, date):
            raise ValueError("neither a date nor a text")
        if not isinstance(moment, datetime):
            moment = datetime.combine(moment, time())
        moment = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
        if moment.year < FIRST_YEAR:
            raise ValueError(f"before the year {FIRST_YEAR}")
    except (ValueError, OverflowError) as e:
        kind = "" if isinstance(value, str | date) else f" of type {type(value).__name__}: give a text or a datetime"
        raise ConfigError(
            f"{name} must be a date such as 2011-11-09 or a time such as 2011-11-09T06:00, got {str(value)!r}{kind}"
        ) from e
    if moment > now + timedelta(days=1):
        raise ConfigError(
            f"{name} must not lie in the future, it is {now:%Y-%m-%d} (UTC), got {moment.isoformat()}: name an "
            "earlier date; no purchase is held out then, and no night before that date could publish"
        )
    return moment
