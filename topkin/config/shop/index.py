"""The section ``[index]``."""

from typing import Annotated, Literal

from pydantic import Field

from topkin.config.section import Count, Section


class IndexSettings(Section):
    """The HNSW index over the item vectors."""

    engine: Literal["nmslib", "faiss", "hnswlib", "usearch"] = Field(
        "nmslib", description="The library that makes and walks the graph; all but nmslib are extras of their names."
    )
    m: Annotated[int, Field(ge=2)] = Field(16, description="Neighbours kept per node (M).")
    ef_construction: Count = Field(100, description="Candidates while building (efConstruction).")
    ef_search: Count = Field(200, description="Candidates while searching (efSearch).")
    shard_items: Count = Field(2_000_000, description="Most items in one shard.")
    sample: Count = Field(1000, description="Users whose exact neighbours measure the index's recall.")
