"""The section ``[similar]``."""

from typing import Annotated

from pydantic import Field, model_validator

from topkin.config.section import Count, Section


class SimilarSettings(Section):
    """Neighbours of items and of users."""

    items: Annotated[int, Field(ge=0)] = Field(10, description="Neighbours per item; 0 for none.")
    users: Annotated[int, Field(ge=0)] = Field(10, description="Neighbours per user; 0 for none.")
    bought: Annotated[int, Field(ge=0)] = Field(
        10, description="Items per user that these neighbours bought and the user did not; 0 for none."
    )
    min_support: Count = Field(
        3, description="Neighbours that must have bought such an item: of one alone it would tell what that one bought."
    )
    columns: tuple[str, ...] = Field(
        (), description="More columns of the lists of items: title, category, price or names of items.features."
    )
    bundles: Annotated[int, Field(ge=0)] = Field(
        0, description="Items per item that were in one basket with it, what a user bought at one moment; 0 for none."
    )
    bundle_support: Count = Field(5, description="Baskets that must have both items of such a pair.")
    exact_users: Count = Field(
        1_000_000,
        description="Users up to whom each is compared with every other; beyond, with those of the clusters nearest to "
        "it, as many as hold 95 % of the nearest but at most 16; the share is measured and told.",
    )

    @model_validator(mode="after")
    def _may_be_reached(self) -> "SimilarSettings":
        if self.bought and 0 < self.users < self.min_support:
            raise ValueError(
                f"similar.min_support asks for {self.min_support} neighbours with an item, and similar.users gives "
                f"{self.users}: raise similar.users, or lower similar.min_support"
            )
        return self
