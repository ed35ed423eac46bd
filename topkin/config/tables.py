"""The tables of items and of users, and the section of a feature: what else is known of an item or a user."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from topkin.config.section import Section, Sql

FEATURE_KINDS = ("number", "category", "text", "categories", "time")
"""What a feature may be: a number, one label, words, or a list of labels to the encoder; a time for rules alone."""

if TYPE_CHECKING:
    FeatureKind = str
else:
    FeatureKind = Literal[FEATURE_KINDS]

FEATURE_DIM = 32
"""Coordinates of the features block where the settings leave them open and items have features."""


class FeatureSettings(Section):
    """One feature under a name of its own: a text alone is its column, or an SQL expression over the row."""

    column: Sql = Field(
        description="Column, or an SQL expression over the row as normalise leaves it; a column of an odd name is in "
        "double quotes, '\"unit price\"'."
    )
    kind: FeatureKind | None = Field(
        None,
        description="What it is to the encoder; without it numbers are a number, labels and truth values a category, "
        "lists of labels categories. A text is read word by word; a time is for rules of the lists alone.",
    )
    learn: bool = Field(True, description="Whether the encoder may learn from it; else it is for rules of the lists.")

    @property
    def learned(self) -> bool:
        """Whether the encoder learns from it."""
        return self.learn and self.kind != "time"

    @model_validator(mode="before")
    @classmethod
    def _column_alone(cls, values: object) -> Any:
        return {"column": values} if isinstance(values, str) else values


class ItemsSettings(Section):
    """The catalogue, if there is one; sold items that it lacks are added from the purchases, see ``missing``."""

    path: str = Field(
        description="A Parquet file, a folder of them (hive keys are columns), or a glob.",
        examples=["items.parquet"],
    )
    item_id: str = Field("item_id", description="Column with the item, of the purchases' item type.")
    title: str | None = Field(None, description="Column with the title.")
    category: str | None = Field(None, description="Column with the category.")
    price: str | None = Field(None, description="Column with the price.")
    available: str | None = Field(None, description="Boolean column: may the item be recommended.")
    vector: str | None = Field(
        None,
        description="Column with a vector of the item's content, made before by any pretrained encoder: a list of "
        "floats, as many for each item.",
    )
    missing: Literal["list", "exclude"] = Field(
        "list",
        description="What becomes of items sold that the catalogue lacks: they may be recommended (list), or count "
        "only in histories and in training (exclude). How many there are is told.",
    )
    duplicates: Literal["first", "last"] = Field(
        "first",
        description="Which of an item's rows counts, where it is listed several times: the first or the last, by file "
        "name and row; the others are rejected and counted.",
    )
    latest_by: str | None = Field(
        None,
        description="Column with a time or a number, such as updated_at: of an item's rows that with the greatest "
        "counts, and duplicates decides among equals.",
    )
    normalise: dict[str, Sql] = Field(default_factory=dict, description="As for purchases.")
    rules: dict[str, Sql] = Field(default_factory=dict, description="As for purchases.")
    features: dict[str, FeatureSettings] = Field(default_factory=dict)


def feature_dim(asked: int | None, table: "ItemsSettings | UsersSettings | None") -> int:
    """Coordinates of the block of a table's features: those asked for, FEATURE_DIM where there are some, else 0."""
    return (FEATURE_DIM if table is not None and table.features else 0) if asked is None else asked


class UsersSettings(Section):
    """The users to serve beside those with purchases, if there is such a table."""

    path: str = Field(
        description="A Parquet file, a folder of them (hive keys are columns), or a glob.",
        examples=["users.parquet"],
    )
    user_id: str = Field("user_id", description="Column with the user, of the purchases' user type.")
    segment: str | None = Field(None, description="Column with a group of users; it wins over the purchases'.")
    vector: str | None = Field(
        None,
        description="Column with a vector of the user, made elsewhere by the model of items.vector and of as many "
        "numbers: nothing is trained then, and their cosine is the score.",
    )
    duplicates: Literal["first", "last"] = Field(
        "first",
        description="Which of a user's rows counts, where it is listed several times: the first or the last, by file "
        "name and row; the others are rejected and counted.",
    )
    latest_by: str | None = Field(
        None,
        description="Column with a time or a number, such as updated_at: of a user's rows that with the greatest "
        "counts, and duplicates decides among equals.",
    )
    normalise: dict[str, Sql] = Field(default_factory=dict, description="As for purchases.")
    rules: dict[str, Sql] = Field(default_factory=dict, description="As for purchases.")
    features: dict[str, FeatureSettings] = Field(default_factory=dict)
