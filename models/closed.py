"""The closed-form block as towers: tables that are computed and not trained."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

from topkin.content_map import Content, content_tables
from topkin.models.data import Purchases, older
from topkin.models.features import PRICE_STEPS, ItemFeatures
from topkin.models.known import Known
from topkin.models.towers import TwoTower
from topkin.spectral import SpectralSettings, decompose, in_out, purchase_weights


def closed_towers(plan: Any, purchases: Purchases, known: Known) -> TwoTower:
    """The towers of ``topkin.spectral`` for the purchases before the cut.

    plan: a ``trainer.Plan``. Of the ``plan.closed_rank`` directions of the decomposition the ``plan.closed_dim``
    that tell most are kept, or what the purchases allow. Items with content have tables of it: what sells little
    is known by its content, and by its own purchases as they come.
    """

    def shards() -> Iterator[sp.csr_matrix]:
        for name in purchases.names():
            yield purchase_weights(older(purchases.part(name), purchases.days))

    settings = SpectralSettings(dim=max(plan.closed_rank, plan.closed_dim), seed=plan.seed)
    found = in_out(decompose(shards, len(purchases.item_ids), settings), dim=plan.closed_dim, power=plan.closed_power)
    has_content = bool(known.features.has_content.any())
    tower = TwoTower(
        items=len(known.ids),
        dim=found.E.shape[1],
        word_buckets=plan.word_buckets,
        title_words=plan.title_words,
        categories=len(known.categories),
        unit_out=False,
        with_content=has_content,
        name="closed",
    )
    tower.build()
    content = _content(known.features, plan.word_buckets, len(known.categories)) if has_content else None
    for (ids, *rest), vectors in ((tower.outs, found.O), (tower.ins, found.E)):
        own = np.pad(vectors, ((1, 0), (0, 0)))
        if content is not None:
            tables = content_tables(content, vectors, known.counts.buyers.astype(np.float64))
            own = tables.ids
            for table, rows in zip(rest, (tables.words, tables.categories, tables.prices), strict=True):
                table.table.assign(rows)
        filled = np.zeros((len(known.ids) + 1, tower.dim), np.float32)
        rows = known.features.id_rows
        filled[rows[rows > 0]] = own[1:][rows > 0]
        ids.table.assign(filled)
    return tower


def _content(features: ItemFeatures, word_buckets: int, categories: int) -> Content:
    return Content(features.words, features.categories, features.prices, (word_buckets, categories, PRICE_STEPS))
