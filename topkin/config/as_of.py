"""The as-of date, as people and programs give it."""

from datetime import UTC, date, datetime, time

from topkin.errors import ConfigError


def parse_as_of(value: datetime | date | str | None, name: str = "--as-of") -> datetime:
    """An as-of date as naive UTC; today's midnight for None. Raises ConfigError that says ``name`` for what is none."""
    if value is None:
        value = datetime.now(UTC).date()
    try:
        moment = datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            return datetime.combine(moment, time())
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError) as e:
        raise ConfigError(
            f"{name} must be a date such as 2011-11-09 or a time such as 2011-11-09T06:00, got {str(value)!r}"
        ) from e
