"""The rules of a shop over its lists: keys of ``[recommend]``, and whether the tables have the columns named there."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, GetJsonSchemaHandler

from topkin.config.section import Count, Days, Section, Share
from topkin.errors import nearest_name

if TYPE_CHECKING:
    from topkin.config.sections import RecommendSettings, Settings


class EligibleSettings(Section):
    """A rule, under a name of its own, that lists for a user only items whose column holds the user's value."""

    user: str = Field(description="segment, or a name of users.features: a label.")
    item: str = Field(
        description="category, or a name of items.features: a label or a list of them. An item without any is for all "
        "users; a user without a value gets those alone."
    )


class NewItems(Section):
    """A rule that keeps places of each list for new items, as ``{ days = 30, at_least = 2 }``."""

    days: Days = Field(description="Days before the as-of date from which on an item is new, as one never sold is.")
    at_least: Count = Field(description="New items of a list, at least: the best that the user may get.")
    column: str | None = Field(
        None,
        description="Column, of kind time, with when an item was first offered; its first sale without the key.",
    )


class ListRules(Section):
    """Rules of a shop; columns are category, price, or names of items.features, ``learn = false`` for rules alone."""

    max_per: dict[str, Count] = Field(
        default_factory=dict,
        description="Column to the most items of a list that share a value of it, as category = 3; those without one "
        "are not counted.",
    )
    diversity: Share = Field(
        0.0,
        description="Weight of being unlike what stands above in the list, beside the score: 0 keeps the order of "
        "scores, 1 goes by unlikeness alone (maximal marginal relevance).",
    )
    boost: dict[str, Annotated[float, Field(ge=-1, le=1)]] = Field(
        default_factory=dict,
        description="Column of numbers, as margin = 0.1, to what its largest value adds to the score over the user's "
        "best score; less adds in proportion, none adds nothing.",
    )
    valid_from: str | None = Field(
        None, description="Column, of kind time, with when an item may first be listed; from ever without a value."
    )
    valid_to: str | None = Field(
        None,
        description="Column, of kind time, with when an item may last be listed, that moment too; for ever likewise.",
    )
    not_shown_nights: Annotated[int, Field(ge=0, le=400)] = Field(
        0, description="Nights for which an item that a published list showed a user is not listed for the user again."
    )
    capacity: Annotated[int, Field(ge=0)] | str | None = Field(
        None,
        description="Users whose list an item may be in, at most: a number, or a column of numbers, such as the stock; "
        "those of highest score have it, and an item without a value is for all.",
    )
    eligible: dict[str, EligibleSettings] = Field(default_factory=dict)
    new_items: NewItems | None = None

    @property
    def ruled(self) -> bool:
        """Whether there is any rule of a shop."""
        return any(getattr(self, name) not in (None, 0, {}) for name in RULES) or self.capacity == 0

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The keys of a section that has these among others: its own come first."""
        schema = handler(core)
        properties = handler.resolve_ref_schema(schema)["properties"]
        for name in RULES:
            properties[name] = properties.pop(name)
        return schema


RULES = tuple(ListRules.model_fields)


def misfit(settings: "Settings", lists: "RecommendSettings | None" = None) -> str | None:
    """What is wrong with the rules of a configuration beside its tables; None where all is well.

    lists: whose rules they are; those of ``[recommend]`` without it.
    """
    rules, items, users = lists or settings.recommend, settings.items, settings.users
    for key, name, kind in _item_columns(rules):
        own = {} if items is None else items.features
        known = [*(c for c in ("category", "price") if items is not None and getattr(items, c)), *own]
        if name not in known:
            return _unknown(key, name, known, "items")
        if kind is not None and name in own and own[name].kind not in (kind, None if kind == "number" else kind):
            return (
                f"{key} must name a feature of kind {kind!r}, items.features.{name} is {own[name].kind or 'of no kind'}"
                f": set its kind = {kind!r}"
            )
    for name, rule in rules.eligible.items():
        known = ["segment", *([] if users is None else users.features)]
        if rule.user not in known:
            return _unknown(f"recommend.eligible.{name}.user", rule.user, known, "users")
    personal = rules.baseline is None and rules.bought in ("keep", "boost") and rules.personal != 0
    if rules.diversity and personal:
        return (
            f'recommend.diversity stands beside the score, got recommend.bought = "{rules.bought}", whose bought items '
            "rank by a personal part: set recommend.max_per in its place, or recommend.bought to another"
        )
    if rules.boost and (personal or rules.diversity or rules.capacity is not None):
        other = (
            "recommend.diversity"
            if rules.diversity
            else "recommend.capacity"
            if rules.capacity is not None
            else f'recommend.bought = "{rules.bought}", whose bought items rank by a personal part'
        )
        return f"recommend.boost orders a list by the score and its columns, got {other} too: drop one"
    if rules.new_items is not None and (wrong := _misfit_of_new(rules, settings, personal=personal)):
        return wrong
    if rules.diversity and rules.capacity is not None:
        return (
            "recommend.capacity gives items by the score alone, got recommend.diversity too: set recommend.max_per in "
            "its place, or drop one"
        )
    return None


def _misfit_of_new(rules: "RecommendSettings", settings: "Settings", *, personal: bool) -> str | None:
    """What is wrong with the quota for new items."""
    assert rules.new_items is not None, "it is asked with a quota alone"
    others = {
        "recommend.diversity": rules.diversity,
        "recommend.boost": rules.boost,
        "recommend.capacity": rules.capacity is not None,
        f'recommend.bought = "{rules.bought}", whose bought items rank by a personal part': personal,
    }
    if other := next((name for name, there in others.items() if there), None):
        return (
            f"recommend.new_items keeps places of a list for the best new items by the score, got {other} too: drop one"
        )
    if rules.new_items.at_least > rules.k:
        return (
            f"recommend.new_items.at_least must be at most recommend.k = {rules.k}, got {rules.new_items.at_least}: "
            "set a lower one"
        )
    if rules.new_items.column is None and not settings.timed:
        return (
            "recommend.new_items goes by the first sale of an item, got purchases without times (purchases.order = "
            f"{settings.purchases.order!r}): set recommend.new_items.column to one, of kind time, with when it was "
            "first offered"
        )
    return None


def _item_columns(rules: ListRules) -> list[tuple[str, str, str | None]]:
    """Key, column, and the kind that it must be, of each column of items that a rule names."""
    columns: list[tuple[str, str, str | None]] = [("recommend.max_per", name, None) for name in rules.max_per]
    columns += [("recommend.boost", name, "number") for name in rules.boost]
    columns += [(f"recommend.eligible.{name}.item", rule.item, None) for name, rule in rules.eligible.items()]
    columns += [
        (f"recommend.{key}", name, "time") for key in ("valid_from", "valid_to") if (name := getattr(rules, key))
    ]
    if rules.new_items is not None and rules.new_items.column is not None:
        columns.append(("recommend.new_items.column", rules.new_items.column, "time"))
    return columns + ([("recommend.capacity", rules.capacity, "number")] if isinstance(rules.capacity, str) else [])


def _unknown(key: str, name: str, known: list[str], table: str) -> str:
    came = f"{key} must name a column of {table} that is kept, {', '.join(known) or 'there is none'}; got {name!r}"
    if near := nearest_name(name, known):
        return f"{came}: did you mean {near!r}?"
    if name in ("category", "price", "segment"):
        return f"{came}: set {'purchases' if name == 'segment' else table}.{name} to its column"
    return f"{came}: {table}.features.{name} keeps one, with learn = false for rules alone"
