"""The blocks in closed form as towers: tables that are computed and not trained."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from topkin.encoding.blocks import NEXT_ITEM, SVD
from topkin.encoding.content_ridge import Content, ContentTables, content_block, content_tables
from topkin.encoding.svd import SpectralSettings, decompose, in_out, purchase_weights
from topkin.interactions import Interactions
from topkin.models.data.histories import PreparedHistories, before_cut
from topkin.models.data.item_features import PRICE_STEPS
from topkin.models.data.item_index import ItemIndex
from topkin.models.two_tower.next_item_ridge import NextItemSettings, next_item_ridge
from topkin.models.two_tower.towers import TwoTower

_PASSES = 4
_MOST = 1.5  # what one user's purchases of one item may add up to, where they are weighed by age


def computed_towers(plan: Any, purchases: PreparedHistories, known: ItemIndex) -> dict[str, TwoTower]:
    """The towers of ``topkin.encoding.svd`` and of ``models.uptake`` for the purchases before the cut, by block.

    plan: a ``trainer.Plan``. Of the ``plan.svd_rank`` directions of the decomposition the ``plan.svd_dim``
    that tell most are kept, or what the purchases allow. The uptake is regressed on the first ``plan.next_item_dim``.
    Items that sell little are known by what their content says, where there is any.
    """

    def parts() -> Iterator[Interactions]:
        for name in purchases.names():
            yield before_cut(purchases.part(name), purchases.days)

    half_life = plan.svd_half_life_days
    weights = partial(purchase_weights, half_life_days=half_life, most=1.0 if half_life is None else _MOST)
    rank = max(plan.svd_rank, plan.svd_dim, plan.next_item_dim)
    settings = SpectralSettings(dim=rank, user_power=plan.svd_user_power, passes=_PASSES, seed=plan.seed)
    spectrum = decompose(lambda: map(weights, parts()), len(purchases.item_ids), settings)
    content, buyers = _content(plan, known), known.counts.buyers.astype(np.float64)
    found = {}
    if plan.svd_dim:
        how = {
            "power": plan.svd_power,
            "out_power": plan.svd_popularity,
            "inverse_popularity": plan.svd_inverse_popularity,
        }
        if content is None:
            kept = in_out(spectrum, dim=plan.svd_dim, **how)
            found[SVD] = _towers(plan, known, SVD, _own(kept.O), _own(kept.E))
        else:
            block = content_block(spectrum, content, buyers, dim=plan.svd_dim, **how)
            found[SVD] = _towers(plan, known, SVD, block.out_tables, block.in_tables)
    if plan.next_item_dim:
        first = spectrum.truncated(plan.next_item_dim)
        into = first.V * first.s
        regression = NextItemSettings(
            inverse_popularity=plan.svd_inverse_popularity, half_life_days=plan.next_item_half_life_days
        )
        sides = [next_item_ridge(parts, into, known.counts.buyers, regression), into]
        tables = [_own(x) if content is None else content_tables(content, x, buyers) for x in sides]
        found[NEXT_ITEM] = _towers(plan, known, NEXT_ITEM, *tables)
    return found


def _content(plan: Any, known: ItemIndex) -> Content | None:
    """What is known of the items beside their sales, or None where no item has a word or a category."""
    features, sizes = known.features, (plan.word_buckets, len(known.categories), PRICE_STEPS)
    if not features.has_content.any():
        return None
    return Content(features.words, features.categories, features.prices, sizes, features.vectors)


def _own(vectors: np.ndarray) -> ContentTables:
    """Vectors, (n_items, d), as id rows alone."""
    none = np.zeros((1, vectors.shape[1]), np.float32)
    return ContentTables(none, none, none, none[:0], np.pad(vectors, ((1, 0), (0, 0))))


def _towers(plan: Any, known: ItemIndex, name: str, out: ContentTables, pooled: ContentTables) -> TwoTower:
    """Towers that hold these tables, id rows for the items that have one."""
    with_content = len(out.prices) > 1
    tower = TwoTower(
        items=len(known.ids),
        dim=out.ids.shape[1],
        word_buckets=plan.word_buckets,
        title_words=plan.title_words,
        categories=len(known.categories),
        unit_out=False,
        with_content=with_content,
        vector_dim=known.features.vectors.shape[1] if with_content else 0,
        name=name,
    )
    tower.build()
    rows = known.features.id_rows
    for (ids, *rest), tables in ((tower.outs, out), (tower.ins, pooled)):
        filled = np.zeros((len(known.ids) + 1, tower.dim), np.float32)
        filled[rows[rows > 0]] = tables.ids[1:][rows > 0]
        ids.table.assign(filled)
        content = [tables.words, tables.categories, tables.prices, *([tables.vectors] if tower.vector_dim else [])]
        for table, values in zip(rest, content if with_content else (), strict=True):
            table.table.assign(values)
    return tower
