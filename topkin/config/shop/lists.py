"""The sections ``[recommend]`` and ``[lists.NAME]``: the lists of each user, and the rules that they keep."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, ValidationError, model_validator

from topkin.baselines.registry import BASELINES, SOURCES, SOURCES_BY_TIME
from topkin.config import undated
from topkin.config.section import Baseline, Count, Days, ListModel
from topkin.config.shop.columns import unkept
from topkin.config.shop.rules import ListRules, misfit
from topkin.errors import ConfigError, InputError

if TYPE_CHECKING:
    from topkin.config.sections import Settings

Power = Annotated[float, Field(ge=0, le=10)]


class RecommendSettings(ListRules):
    """The lists, and the rules that they keep."""

    k: Count = Field(20, description="Items per user.")
    model: ListModel = Field(
        "encoder",
        description="What ranks the items: the trained encoder, or a baseline by its name, fitted anew on the known "
        f"purchases. Of these only {' and '.join(name for name, entry in BASELINES.items() if entry.explains)} give "
        "reasons; with keep they take a personal of 0.",
    )
    sources: tuple[Baseline, ...] = Field(
        SOURCES,
        description="Baselines that bring and rank items beside the encoder, where validation "
        "is sure that lists are better for it; none with an empty list, nor, unless asked for, beyond 20,000,000 "
        f"purchases. Where these have times, {', '.join(SOURCES_BY_TIME)} of the default are tried.",
    )
    search: Literal["exact", "index"] = Field("exact", description="Score all items, or ask the index.")
    bought: Literal["exclude", "keep", "cooldown", "boost"] = Field(
        "exclude",
        description="Items the user bought: never again; ranked beside new ones by how often they were bought (keep); "
        "only after cooldown_days; or as keep, and higher when the user's own interval for the item is over (boost).",
    )
    personal: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None,
        description="With keep or boost, weight of the personal part beside the model's score, both relative to the "
        "user's best; chosen on validation without it.",
    )
    personal_repeat: Power | None = Field(
        None, description="Power of the share of an item's buyers who bought it again, in the personal part; likewise."
    )
    personal_recent: Power | None = Field(
        None, description="Power of the share of an item's buyers who bought it lately; likewise."
    )
    personal_due: Power | None = Field(
        None, description="Power of how near the user's own interval the last purchase is; likewise, 0 with keep."
    )
    personal_fade: Power | None = Field(
        None, description="Power by which a bought item counts less the longer ago it was last bought; likewise."
    )
    cooldown_days: Days = Field(30, description="Days since the last purchase before an item may come again.")
    cooldown_by_category: dict[str, Days] = Field(
        default_factory=dict, description="Category to days that replace cooldown_days."
    )
    allow: str | None = Field(
        None, description="Parquet with the only items that may be listed.", examples=["allow.parquet"]
    )
    allow_column: str = Field("item_id", description="Column of allow with the item's id, of the purchases' item type.")
    deny: str | None = Field(
        None, description="Parquet with items that may never be listed.", examples=["deny.parquet"]
    )
    deny_column: str = Field("item_id", description="Column of deny with the item's id, of the purchases' item type.")
    min_history: Annotated[int, Field(ge=0)] = Field(
        1,
        description="Purchases below which a user gets the popular items instead; 0 where users have vectors or "
        "features.",
    )
    because: Annotated[int, Field(ge=0, le=20)] = Field(3, description="Bought items named as reasons for each item.")
    columns: tuple[str, ...] = Field(
        (),
        description="More columns of the lists: title, category, price or names of items.features, of the item; final, "
        "what orders the list; because_shares, how much of the score each item of because gave.",
    )

    @property
    def baseline(self) -> str | None:
        """The baseline that ranks the items; None where the encoder does."""
        return None if self.model == "encoder" else self.model

    @model_validator(mode="after")
    def _what_a_baseline_can(self) -> "RecommendSettings":
        if self.baseline is None:
            return self
        came = f'got recommend.model = "{self.model}"'
        if self.search == "index":
            raise ValueError(
                f'recommend.search = "index" finds items by the encoder\'s vectors, {came}, which has none: set '
                'recommend.search = "exact", or recommend.model = "encoder"'
            )
        if self.bought == "boost" or (self.bought == "keep" and self.personal != 0):
            raise ValueError(
                f'recommend.bought = "{self.bought}" adds a personal part, weighed beside the encoder\'s scores, '
                f'{came}: set recommend.bought = "keep" and recommend.personal = 0, which lists bought items by the '
                'baseline\'s scores alone, or recommend.model = "encoder"'
            )
        return self


class ListSettings(RecommendSettings):
    """One more list of each user, beside that of ``[recommend]``, under a name of its own.

    Its keys are those of ``[recommend]``, whose values count where the list sets none.
    """

    @model_validator(mode="after")
    def _what_a_baseline_can(self) -> "ListSettings":
        return self  # asked of the list with the values of [recommend], see checked_lists

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The keys without defaults of their own."""
        schema = super().__get_pydantic_json_schema__(core, handler)
        for spec in handler.resolve_ref_schema(schema)["properties"].values():
            spec.pop("default", None)
        return schema


NAMES = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def checked_lists(settings: "Settings") -> dict[str, ListSettings]:
    """The lists by name, each with the values of ``[recommend]`` where it sets none.

    Raises ValueError for one that does not go together, in the words of its own keys.
    """
    base, lists = settings.recommend, {}
    for name, own in settings.lists.items():
        if not NAMES.fullmatch(name):
            raise ValueError(
                f"a list's name is also a folder's: small letters, digits, - and _, got {name!r}: rename [lists.{name}]"
            )
        values = {k: v for of in (base, own) for k, v in of.model_dump(include=of.model_fields_set).items()}
        if settings.knows_new_users and "min_history" not in own.model_fields_set:
            _open_min_history(values)
        values |= {} if settings.timed else undated.LISTS
        try:
            RecommendSettings(**values)
            whole = ListSettings(**values)
            fault = misfit(settings, whole) if whole.ruled else None
            fault = fault or unkept(settings, whole) or _unlike(settings, whole)
        except ValidationError as e:
            fault = str(e.errors()[0]["ctx"]["error"])
        if fault:
            raise ValueError(of_list(name, fault))
        lists[name] = whole
    return lists


def idle(settings: "Settings") -> str | None:
    """A key of bought items that no list goes by, in words; None where there is none."""
    lists: list[RecommendSettings | ListSettings] = [settings.recommend, *settings.lists.values()]
    for key in ("cooldown_days", "cooldown_by_category"):
        if not any(key in own.model_fields_set for own in lists):
            continue
        if not any(own.bought == "cooldown" for own in lists):
            return (
                f'recommend.{key} goes with recommend.bought = "cooldown", got "{settings.recommend.bought}": '
                "set that, or leave it out"
            )
        if key == "cooldown_by_category" and (settings.items is None or settings.items.category is None):
            return f"recommend.{key} goes by items.category, which is not set: name its column, or leave it out"
    return None


def _open_min_history(values: dict[str, Any]) -> None:
    """Put what stands for ``min_history`` into a list's values: no baseline knows users without purchases."""
    if values.get("model", "encoder") == "encoder":
        values.setdefault("min_history", 0)
    elif values.get("min_history") == 0:
        del values["min_history"]


def of_list(name: str, message: str) -> str:
    """A message over ``[recommend]`` as one over a list of ``[lists]``; as it is for the list without a name."""
    return message.replace("recommend.", f"lists.{name}.") if name else message


@contextmanager
def in_words_of(name: str) -> Iterator[None]:
    """Errors over ``[recommend]`` within as those over a list, see :func:`of_list`."""
    try:
        yield
    except (ConfigError, InputError) as e:
        raise type(e)(of_list(name, str(e))) from e


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _unlike(settings: "Settings", own: ListSettings) -> str | None:
    """What a list asks for that training, which is by ``[recommend]``, does not give; None where there is nothing."""
    base = settings.recommend
    if own.baseline is None and own.sources and {*own.sources} != {*base.sources}:
        return (
            "recommend.sources stand beside the encoder with the weights that training gives them together, got "
            f"{_quoted(own.sources)} where [recommend] has {_quoted(base.sources)}: leave the key out, for the same, "
            "or set it to []"
        )
    if settings.vectors_given and own.baseline is None and own.sources and "sources" in own.model_fields_set:
        return (
            "recommend.sources are weighed by training, got users.vector, with which nothing is trained: set it to []"
        )
    if not settings.timed and own.bought in ("cooldown", "boost"):
        return f'recommend.bought = "{own.bought}" goes by time, got purchases without times: set "exclude" or "keep"'
    if not settings.timed and own.baseline and BASELINES[own.baseline].by_time:
        return f"recommend.model names {own.baseline}, which goes by time, got purchases without times: name another"
    if settings.vectors_given and own.baseline is None and own.because:
        return "recommend.because names purchases that a score is the sum of, got users.vector: set it to 0"
    return None
