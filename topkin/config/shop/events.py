"""Events of several types: what each weighs, and whether it is what users are known by, what is foretold, or both."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field

from topkin.config.section import Section, Sql

if TYPE_CHECKING:
    from topkin.config.sections import Settings

MOST_WEIGHT = 1e6
Weight = Annotated[float, Field(ge=0, le=MOST_WEIGHT)]
Role = Literal["input", "target", "both", "return"]
ROLE_OF: Mapping[str, Role] = {"purchase": "both", "return": "return"}
"""The roles of types in a log of mixed ones that none is set for; all other types are inputs."""
PURCHASE = "purchase"
"""The type of the rows of ``[purchases]``, where they are of one."""


class EventSettings(Section):
    """Events of one type beside the purchases, such as views; the section's name is that of the type."""

    path: str = Field(
        description="A Parquet file, a folder of them (hive keys are columns), or a glob.",
        examples=["views.parquet"],
    )
    user_id: str | None = Field(None, description="Column with the user; that of the purchases without it.")
    item_id: str | None = Field(None, description="Column with the item; that of the purchases without it.")
    timestamp: str | None = Field(None, description="Column with the time; that of the purchases without it.")
    weight: Weight | Sql = Field(
        1.0,
        description="What such an event weighs in a user's history beside a purchase, which weighs 1: a number, or a "
        "column or SQL expression over the row.",
    )
    role: Role = Field(
        "input",
        description="An input is what users are known by and never counts as bought; a target is what lists foretell, "
        "and counts as a purchase in all but the history; both is both, as purchases are; a return takes one back.",
    )
    order_id: str | None = Field(
        None,
        description="Of returns, column with the order, where purchases.order_id is set: a return takes back the "
        "user's latest purchase of the item in it.",
    )
    time_unit: Literal["auto", "s", "ms", "us"] | None = Field(
        None, description="Unit of epoch numbers; that of the purchases without it."
    )
    normalise: dict[str, Sql] = Field(default_factory=dict, description="As for purchases.")
    rules: dict[str, Sql] = Field(default_factory=dict, description="As for purchases.")


_DONE = {"view": "viewed", "cart": "in the cart", "click": "clicked", "like": "liked", "wish": "wished for"}


def done_with(event: str | None, types: Mapping[str, Mapping[str, Any]]) -> str:
    """What stands behind an item that is a reason: `` (viewed)``, the type's name where it is no known word.

    Nothing for what counts as bought. event: None for an item that was bought and is no input. types: ``event_types``
    of statistics.json.
    """
    if event is None or types.get(event, {}).get("role") in ("target", "both"):
        return ""
    return f" ({_DONE.get(event, event)})"


class EventType(NamedTuple):
    """A type of events: its role, what each of its events weighs, and the input whose rows are of it."""

    name: str
    role: Role
    weight: float
    source: str

    @property
    def is_input(self) -> bool:
        """Whether histories pool it."""
        return self.role in ("input", "both")

    @property
    def is_target(self) -> bool:
        """Whether it counts as a purchase."""
        return self.role in ("target", "both")


def event_types(settings: "Settings") -> tuple[EventType, ...]:
    """The types of events that there are, purchases first; none where each row of the purchases is one and no more."""
    purchases = settings.purchases
    if not (settings.events or purchases.event_weights or purchases.weight):
        return ()
    roles = {**ROLE_OF, **purchases.event_roles}
    mixed = [EventType(n, roles.get(n, "input"), w, "purchases") for n, w in purchases.event_weights.items()]
    types = mixed or [EventType(PURCHASE, "both", 1.0, "purchases")]
    for name, event in settings.events.items():
        weight = event.weight if isinstance(event.weight, float) else 1.0
        types.append(EventType(name, event.role, weight, f"events.{name}"))
    return tuple(types)


def event_fault(settings: "Settings") -> str | None:
    """What does not go together in the settings of events; None where all does."""
    purchases = settings.purchases
    if (purchases.event_type is None) != (not purchases.event_weights):
        return (
            "purchases.event_type names the column of types and purchases.event_weights what each type weighs, got one "
            "without the other: set both"
        )
    if settings.heldout and (settings.heldout.event_type is None) != (not purchases.event_weights):
        return (
            "purchases.event_type and heldout.event_type name the types of two logs of several, got one without the "
            "other, by which a view would count as bought: set both; where all of heldout are purchases, set "
            """heldout.event_type = "type" and heldout.normalise.type = "'purchase'\""""
        )
    types = event_types(settings)
    if purchases.features and (types or not settings.timed):
        what = "events or weights beside them" if types else "purchases without times"
        return f"purchases.features say what purchases weigh, one by one and by their times, got {what}: drop one"
    names = [t.name for t in types]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        return f"a type of events has one section or one entry, got several of {twice[0]!r}: rename [events.{twice[0]}]"
    if extra := sorted(purchases.event_roles.keys() - purchases.event_weights.keys()):
        return f"purchases.event_roles must name types of purchases.event_weights, got {extra[0]!r}: add its weight"
    if types and not any(t.is_target for t in types):
        return (
            f"some type of events must be a target, what lists foretell, got {', '.join(names)} without one: set "
            f'purchases.event_roles = {{ {names[0]} = "both" }} with the type of a purchase'
        )
    if types and not any(t.is_input and t.weight for t in types):
        return (
            "some type of events must be an input of a weight above 0, what users are known by, got "
            f"{', '.join(names)} without one: set a role input or both, and a weight above 0"
        )
    several = settings.events or purchases.event_weights
    if several and not settings.timed:
        return (
            "events of several types are put in order by their times, got purchases without times (purchases.order = "
            f"{purchases.order!r}): set purchases.timestamp"
        )
    if types and settings.vectors_given:
        return "users.vector leaves histories nothing to weigh, got weights or events beside it: drop one"
    if any(event.order_id for event in settings.events.values()) and purchases.order_id is None:
        return "order_id of a return is looked up among the purchases' orders: set purchases.order_id too"
    return None
