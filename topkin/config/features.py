"""The section of a feature: what else is known of an item or a user, for the encoder to read."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from topkin.config.section import Section, Sql

FEATURE_KINDS = ("number", "category", "text", "categories")
"""What a feature may be to the encoder: a number, one label, words, or a list of labels."""

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
        "lists of labels categories. A text is read word by word.",
    )

    @model_validator(mode="before")
    @classmethod
    def _column_alone(cls, values: Any) -> Any:
        return {"column": values} if isinstance(values, str) else values
