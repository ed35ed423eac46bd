"""The configuration of lists without purchases: users and items are known by vectors of one model, and nothing else."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from topkin.config.purchases import PurchasesSettings
from topkin.config.section import Section
from topkin.config.sections import Settings, TrainSettings
from topkin.config.tables import ItemsSettings, UsersSettings

NEED: Mapping[str, tuple[str, ...]] = {
    "items": ("missing",),
    "prepare": ("recent_days", "split"),
    "recommend": (
        "model",
        "sources",
        "bought",
        "personal",
        "personal_repeat",
        "personal_recent",
        "personal_due",
        "personal_fade",
        "cooldown_days",
        "cooldown_by_category",
        "min_history",
        "because",
    ),
    "similar": ("bought", "bundles", "bundle_support"),
    "evaluate": ("baselines", "hindsight", "nightly"),
    "publish": ("must_beat",),
}
"""The keys that go by purchases, by section."""

OFF: Mapping[str, str] = {
    "prepare": "no purchases: users and items are known by their vectors alone",
    "recommend": "off without purchases: bought items, reasons, a second stage, and what sells for users without a "
    "vector, who get no list",
    "similar": "off without purchases: what users like a user bought",
    "evaluate": "off without purchases: baselines, and days held out once more",
}
"""What is said below the line of each stage."""

NOTHING_JUDGES = "there are no purchases to judge by: name those after the as-of date as heldout.path"

_OFF: Mapping[str, Mapping[str, Any]] = {
    "recommend": {"because": 0, "sources": (), "min_history": 0},
    "similar": {"bought": 0},
    "evaluate": {"baselines": (), "hindsight": (), "nightly": "off"},
    "publish": {"must_beat": ()},
}


def notes(settings: Settings, stage: str) -> list[str]:
    """What a person must know of a stage without purchases; empty where there are some."""
    return [] if settings.has_purchases or stage not in OFF else [OFF[stage]]


def _chosen(name: str, section: Section | None) -> list[str]:
    """The keys of a section that go by purchases and were set to anything but what stands for them."""
    if section is None:
        return []
    fields, off = type(section).model_fields, _OFF.get(name, {})
    values = {key: getattr(section, key) for key in NEED[name] if key in section.model_fields_set}
    return [k for k, v in values.items() if v != fields[k].get_default(call_default_factory=True) and v != off.get(k)]


class VectorsSettings(Settings):
    """All sections of a configuration with users and items and no purchases."""

    has_purchases: ClassVar[bool] = False

    purchases: PurchasesSettings = Field(default_factory=lambda: PurchasesSettings(path=""))

    @property
    def vectors_given(self) -> bool:
        """Whether users and items bring vectors, as they do."""
        return True

    @model_validator(mode="after")
    def _without_times(self) -> "VectorsSettings":
        if self.heldout is not None and not self.heldout.timed:
            raise ValueError(
                f"heldout.order continues that of the purchases, got {self.heldout.order!r} and no [purchases]: set "
                "heldout.timestamp"
            )
        return self

    @model_validator(mode="after")
    def _vectors_of_users(self) -> "VectorsSettings":
        lists, came = "lists without [purchases] are of the nearest vectors", "got no [purchases]"
        for name, table in (("users", self.users), ("items", self.items)):
            if table is None or (table.vector is None and self.encoder is None):
                raise ValueError(
                    f"{lists}, and {name} have none: set {name}.vector to a column of them, encoder.path to a trained "
                    "model of theirs, or add [purchases]"
                )
        if self.train != TrainSettings():
            raise ValueError(f"[train] learns from purchases, {came}: drop [train], or add [purchases]")
        if self.events:
            raise ValueError(f"[events.{next(iter(self.events))}] stands beside purchases, {came}: drop it")
        sections = [(name, name, getattr(self, name)) for name in NEED]
        sections += [(f"lists.{name}", "recommend", own) for name, own in self.lists.items()]
        for name, kind, section in sections:
            for key in _chosen(kind, section):
                raise ValueError(f"{name}.{key} goes by purchases, {came}: drop it, or add [purchases]")
        for name, table in (("items", self.items), ("users", self.users)):
            if table is not None and any(f.learned for f in table.features.values()):
                raise ValueError(
                    f"{name}.features are what training learns from, and without [purchases] nothing is trained: name "
                    "columns of an encoder in [encoder]; for rules of lists set learn = false"
                )
        for name, off in _OFF.items():
            object.__setattr__(self, name, getattr(self, name).model_copy(update=off))
        off_lists = {name: own.model_copy(update=_OFF["recommend"]) for name, own in self.lists.items()}
        object.__setattr__(self, "lists", off_lists)
        return self

    @model_validator(mode="after")
    def _items_of_the_encoder(self) -> "VectorsSettings":
        assert self.items is not None
        assert self.users is not None
        if self.encoder is None:
            return self
        sides: list[tuple[str, str, ItemsSettings | UsersSettings]] = [
            ("items", "inputs", self.items),
            ("users", "user_inputs", self.users),
        ]
        for name, inputs, table in sides:
            if table.vector is not None and inputs in self.encoder.model_fields_set:
                raise ValueError(
                    f"{name}.vector and encoder.{inputs} both give the {name} their vectors, got {table.vector!r} and "
                    f"{self.encoder.path}: drop one"
                )
            if table.vector is None and table.latest_by is not None:
                raise ValueError(
                    f"[encoder] reads the rows of {name} one by one, and cannot choose among several by "
                    f"{name}.latest_by, got {table.latest_by!r}: write a table of one row each, or drop latest_by"
                )
        if self.items.vector is not None and self.users.vector is not None:
            raise ValueError(
                f"[encoder] makes vectors, and users and items both bring theirs, got encoder.path = "
                f"{self.encoder.path!r}: drop [encoder], or users.vector and items.vector"
            )
        return self
