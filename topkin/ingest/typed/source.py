"""The input of events of one type, with what its section leaves open as of the purchases."""

from typing import Any

from topkin.config.sections import Settings
from topkin.ending.expressions import Limits
from topkin.ingest.rules import Rules
from topkin.ingest.typed.rows import WEIGHT


def made_weight(weight: float | str | None) -> dict[str, str]:
    """The column of weights with its expression; none where a weight is a number or not set."""
    return {WEIGHT: weight} if isinstance(weight, str) else {}


def event_source(name: str, settings: Settings, limits: Limits) -> dict[str, Any]:
    """What ``contract.InputSource`` takes of the events of a type."""
    event, purchases, section = settings.events[name], settings.purchases, f"events.{name}"
    rule = made_weight(event.weight)
    columns = {key: getattr(event, key) or getattr(purchases, key) for key in ("user_id", "item_id", "timestamp")}
    columns |= {"order_id": event.order_id} if event.order_id else {}
    return {
        "name": section,
        "path": event.path,
        "columns": {**columns, **dict.fromkeys(["weight"] if rule else [], WEIGHT)},
        "rules": Rules.of(section, event.normalise, event.rules, rule, limits=limits),
        "time_unit": event.time_unit or purchases.time_unit,
        "record": settings.rejects.record,
    }
