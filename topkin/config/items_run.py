"""The configuration of a run over items alone: a trained encoder in the place of purchases."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from topkin.config.encoder import ItemsEncoderSettings
from topkin.config.items_train import ItemsTrainSettings
from topkin.config.publish.settings import ItemsPublishSettings
from topkin.config.section import Count, RejectLimits, RejectsSettings, Section, Sql
from topkin.config.sections import EmbedSettings, IndexSettings, ItemsSettings, RunSettings, Settings
from topkin.config.shop.vectors import VectorsSettings


class CatalogueSettings(ItemsSettings):
    """The items: what is embedded, indexed and looked up."""

    label: str | None = Field(
        None,
        description="Column with the class of an item: items of one label should lie together. It is what retrieval is "
        "judged by; strings, integers or booleans.",
    )

    @model_validator(mode="after")
    def _fed_by_inputs(self) -> "CatalogueSettings":
        if self.features:
            raise ValueError(
                f"items.features are what runs over purchases learn from, got {', '.join(self.features)}: an encoder's "
                "columns are encoder.inputs"
            )
        return self


class QueriesSettings(Section):
    """Rows that are looked up among the items and judged by their label: of the same columns as the items, never in
    the index. Without them each item is looked up among the others.
    """

    path: str = Field(
        description="A Parquet file, a folder of them (hive keys are columns), or a glob.",
        examples=["queries.parquet"],
    )
    item_id: str | None = Field(None, description="Column with a query's id; the items' without it.")
    normalise: dict[str, Sql] = Field(default_factory=dict, description="As for purchases; the items' are not asked.")
    rules: dict[str, Sql] = Field(default_factory=dict, description="As for purchases; the items' are not asked.")


class GrowingIndexSettings(IndexSettings):
    """The NMSLIB HNSW index over the item vectors; it may be grown from the published one."""

    growth: Literal["rebuild", "delta"] = Field(
        "rebuild",
        description="Build the index of all items, or take the graphs of the index that was published as of an earlier "
        "date and build those items alone that are new or have another vector (delta). Where the encoder or these "
        "settings are others, or a fifth of the items came or went since all were built, all are built anew, and the "
        "run says so.",
    )


class NeighboursSettings(Section):
    """Neighbours of items."""

    items: Annotated[int, Field(ge=0)] = Field(10, description="Neighbours per item; 0 for none.")


class RetrievalSettings(Section):
    """What is measured where items have labels."""

    k: tuple[Count, ...] = Field((1, 5, 10), description="Cut-offs of the metrics.")
    sample: Count = Field(10_000, description="Most queries that are judged, drawn by the seed.")
    precision: Annotated[float, Field(gt=0, le=1)] = Field(
        0.95,
        description="Share of right answers above the threshold of `topkin match`, which is set where the queries "
        "reach it.",
    )


class ItemsRunSettings(Section):
    """All sections of a configuration without purchases."""

    kind: ClassVar[str] = "items"

    run: RunSettings = Field(default_factory=lambda: RunSettings())
    items: CatalogueSettings
    queries: QueriesSettings | None = None
    prepare: RejectLimits = Field(default_factory=lambda: RejectLimits())
    rejects: RejectsSettings = Field(default_factory=lambda: RejectsSettings())
    encoder: ItemsEncoderSettings = Field(default_factory=lambda: ItemsEncoderSettings())
    train: ItemsTrainSettings | None = None
    embed: EmbedSettings = Field(default_factory=lambda: EmbedSettings())
    index: GrowingIndexSettings = Field(default_factory=lambda: GrowingIndexSettings())
    similar: NeighboursSettings = Field(default_factory=lambda: NeighboursSettings())
    evaluate: RetrievalSettings = Field(default_factory=lambda: RetrievalSettings())
    publish: ItemsPublishSettings = Field(default_factory=lambda: ItemsPublishSettings())

    @model_validator(mode="after")
    def _an_encoder(self) -> "ItemsRunSettings":
        if self.encoder.path is None and self.train is None and self.items.vector is None:
            raise ValueError(
                "items alone need an encoder: set encoder.path to a trained .keras file, train.method to train one, or "
                "items.vector to a column of vectors"
            )
        if self.items.vector is not None and (self.encoder.path is not None or self.train is not None):
            raise ValueError(
                "items.vector takes the place of an encoder: leave it out, or encoder.path and [train]; as an input it "
                f'is encoder.inputs.NAME = "{self.items.vector}"'
            )
        if self.train is None:
            return self
        if not self.encoder.inputs and self.encoder.path is None:
            raise ValueError(
                "[train] needs an input to learn from, [encoder.inputs] is empty: name one, as in "
                'image = { column = "photo", kind = "image", size = [28, 28] }'
            )
        if self.train.method == "labels" and self.items.label is None:
            raise ValueError('train.method = "labels" learns from labels: set items.label to their column')
        return self

    @model_validator(mode="after")
    def _judged_by_labels(self) -> "ItemsRunSettings":
        if self.items.label is None and (self.queries is not None or self.publish.min_label_recall is not None):
            key = "queries are" if self.queries is not None else "publish.min_label_recall is"
            raise ValueError(f"{key} judged by the items' label: set items.label to its column")
        return self


RunSettingsOfAnyKind = Settings | ItemsRunSettings


def kind_of(values: Mapping[str, Any]) -> type[Settings] | type[ItemsRunSettings]:
    """The settings of a configuration by the sections that it has.

    Without ``[purchases]`` users and items are known by vectors, which a column or an encoder gives, and items alone by
    theirs or by an encoder that is trained.
    """
    tables = {name: table for name in ("items", "users") if isinstance(table := values.get(name), Mapping)}
    train = values.get("train")
    vectors = "encoder" in values or any("vector" in table for table in tables.values())
    if "purchases" in values or "items" not in tables:
        return Settings
    if "users" in tables:
        return VectorsSettings if vectors else Settings
    return ItemsRunSettings if vectors or (isinstance(train, Mapping) and "method" in train) else Settings
