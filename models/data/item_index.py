"""What training knows of the items before a cut: counts, categories, which have a row of their own, features."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from topkin.models.data.feature_rows import FeatureRows
from topkin.models.data.histories import ItemCounts, PreparedHistories, count
from topkin.models.data.item_features import ItemFeatures, item_features, vector_dim


@dataclass(frozen=True)
class ItemIndex:
    """The items of a catalogue as they were before a cut.

    counts: of the purchases. categories: the catalogue's, sorted. ids: the items with a row of their own.
    features: of every row of the catalogue. word_buckets, title_words: how titles are read; rows: how features are.
    """

    counts: ItemCounts
    categories: tuple[str, ...]
    ids: pa.Array
    features: ItemFeatures
    word_buckets: int
    title_words: int
    rows: FeatureRows

    @classmethod
    def of(
        cls,
        purchases: PreparedHistories,
        catalogue: pa.Table,
        *,
        recent_days: float,
        min_sales: int,
        word_buckets: int,
        title_words: int,
    ) -> "ItemIndex":
        """Count the purchases before the cut and read the catalogue.

        A row of their own have the items sold ``min_sales`` times, and all sold ones without content; where histories
        pool other events than purchases these count.
        """
        counts = count(purchases, recent_days)
        names = catalogue["category"].drop_null().unique().to_pylist()
        categories, rows = tuple(sorted(str(c) for c in names)), FeatureRows.of(catalogue)

        def features(ids: pa.Array) -> ItemFeatures:
            return item_features(
                catalogue,
                ids=ids,
                categories=categories,
                word_buckets=word_buckets,
                title_words=title_words,
                vector_dim=vector_dim(catalogue),
                rows=rows,
            )

        ids = catalogue["item_id"].combine_chunks()
        enough = np.where(features(ids.slice(0, 0)).has_content, max(min_sales, 1), 1)
        ids = ids.filter(pa.array((counts.events if counts.inputs is None else counts.inputs) >= enough))
        return cls(counts, categories, ids, features(ids), word_buckets, title_words, rows)
