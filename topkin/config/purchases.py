"""The sections of purchases: those that are learned from, and those to judge by."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from topkin.config.section import Section, Sql
from topkin.config.shop.events import Role, Weight

ROW_ORDER = "row"
"""The value of ``order`` that means the order of files and rows."""


class EventsSettings(Section):
    """Purchases in files: which Parquet, which columns, which rows are good."""

    path: str = Field(
        description="A Parquet file, a folder of them (hive keys are columns), or a glob.",
        examples=["purchases.parquet"],
    )
    user_id: str = Field("user_id", description="Column with who bought: int64, string or binary.")
    item_id: str = Field(
        "item_id",
        description="Column with what was bought: int64, string or binary; items[] for the elements of a list, "
        "items[].sku for a field of theirs.",
    )
    timestamp: str | None = Field(
        "timestamp",
        description="Column with when: timestamp, date, text that means one moment, or epoch number; none where order "
        "is set.",
    )
    order: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="In place of timestamp, for purchases without times: a column of numbers by which each user's are "
        'ordered, or "row" for the order of files and rows. What goes by time is then off.',
    )
    quantity: str | None = Field(
        None, description="Column with how many pieces, for the rules and the tables; each row counts as one purchase."
    )
    price: str | None = Field(None, description="Column with the price of a piece.")
    segment: str | None = Field(
        None, description="Column with a group of users, such as a country; the user's latest value counts."
    )
    time_unit: Literal["auto", "s", "ms", "us"] = Field(
        "auto", description="Unit of epoch numbers; auto tells it from their size."
    )
    normalise: dict[str, Sql] = Field(
        default_factory=dict,
        description="Column to SQL expression over the row that replaces it, before the rules are asked.",
    )
    rules: dict[str, Sql] = Field(
        default_factory=dict,
        description="Reason to SQL condition over the row: a row for which it is not true is rejected with the reason.",
    )

    @model_validator(mode="before")
    @classmethod
    def _times_or_order(cls, values: object) -> Any:
        if not isinstance(values, dict):
            return values
        if values.get("order") is not None and "timestamp" not in values:
            return {**values, "timestamp": None}
        if "timestamp" in values and values["timestamp"] is None and values.get("order") is None:
            return {**values, "order": ROW_ORDER}
        return values

    @model_validator(mode="after")
    def _two_columns(self) -> Self:
        if self.user_id == self.item_id:
            raise ValueError(
                f"user_id and item_id must name two columns, got {self.user_id!r} for both: name the column with who "
                "bought and the one with what was bought"
            )
        return self

    @property
    def timed(self) -> bool:
        """Whether the purchases have times; else they have an order."""
        return self.timestamp is not None


class PurchaseFeatureSettings(Section):
    """One feature of a purchase under a name of its own, such as its channel: a text alone is its column, or an SQL
    expression over the row. By it the purchase weighs more or less in its user's history, as far as that is learned.
    """

    column: Sql = Field(description="Column, or an SQL expression over the row as normalise leaves it.")
    kind: Literal["number", "category"] | None = Field(
        None, description="What it is; without it numbers are a number, labels and truth values a category."
    )
    learned: ClassVar[bool] = True

    @model_validator(mode="before")
    @classmethod
    def _column_alone(cls, values: object) -> Any:
        return {"column": values} if isinstance(values, str) else values


class PurchasesSettings(EventsSettings):
    """The purchase history: which Parquet, which columns, which rows are good."""

    duplicates: Literal["drop", "keep"] = Field(
        "drop",
        description="What to do with rows equal in every column read; dropped ones are counted. Without times all are "
        "kept.",
    )
    weight: Sql | None = Field(
        None,
        description="Column or SQL expression over the row, such as quantity: what a row weighs in its user's history, "
        "of several of an item the greatest. Each weighs 1 without it.",
    )
    event_type: str | None = Field(
        None, description="Column with the type of each row, where the log holds views or others beside purchases."
    )
    event_weights: dict[str, Weight] = Field(
        default_factory=dict,
        description="Type, as in the column event_type, to what such a row weighs; rows of others are rejected.",
    )
    event_roles: dict[str, Role] = Field(
        default_factory=dict,
        description="Type to its role, as of [events.NAME]; without it purchase is both, return a return, and any "
        "other type an input.",
    )
    order_id: str | None = Field(None, description="Column with the order, by which returns take purchases back.")
    features: dict[str, PurchaseFeatureSettings] = Field(default_factory=dict)


class HeldoutSettings(EventsSettings):
    """Purchases to judge by, where the data come as one file to learn from and one to judge by."""

    event_type: str | None = Field(
        None, description="Column with the type of each row, where purchases.event_type is set: targets alone judge."
    )
