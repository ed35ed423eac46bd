"""The blocks in closed form as towers: tables that are computed and not trained."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from topkin.content_map import Content, content_tables
from topkin.interactions import Interactions
from topkin.models.data import Purchases, older
from topkin.models.features import PRICE_STEPS
from topkin.models.known import Known
from topkin.models.towers import TwoTower
from topkin.models.uptake import UptakeSettings, uptake
from topkin.models.validation import CLOSED, UPTAKE
from topkin.spectral import SpectralSettings, decompose, in_out, purchase_weights


def closed_towers(plan: Any, purchases: Purchases, known: Known) -> dict[str, TwoTower]:
    """The towers of ``topkin.spectral`` and of ``models.uptake`` for the purchases before the cut, by block.

    plan: a ``trainer.Plan``. Of the ``plan.closed_rank`` directions of the decomposition the ``plan.closed_dim``
    that tell most are kept, or what the purchases allow. The uptake is regressed on the first ``plan.uptake_dim``.
    """

    def parts() -> Iterator[Interactions]:
        for name in purchases.names():
            yield older(purchases.part(name), purchases.days)

    rank = max(plan.closed_rank, plan.closed_dim, plan.uptake_dim)
    settings = SpectralSettings(dim=rank, user_power=plan.closed_user_power, seed=plan.seed)
    spectrum = decompose(lambda: map(purchase_weights, parts()), len(purchases.item_ids), settings)
    found = {}
    if plan.closed_dim:
        kept = in_out(spectrum, dim=plan.closed_dim, power=plan.closed_power, out_power=plan.closed_popularity)
        found[CLOSED] = _towers(plan, known, CLOSED, kept.O, kept.E)
    if plan.uptake_dim:
        first = spectrum.truncated(plan.uptake_dim)
        into = first.V * first.s
        how = UptakeSettings(rarity=plan.closed_rarity, half_life_days=plan.uptake_half_life_days)
        found[UPTAKE] = _towers(plan, known, UPTAKE, uptake(parts, into, known.counts.buyers, how), into)
    return found


def _towers(plan: Any, known: Known, name: str, out: np.ndarray, pooled: np.ndarray) -> TwoTower:
    """Towers that give items these vectors, (n_items, d) each, and items that sell little what their content says."""
    features = known.features
    has_content = bool(features.has_content.any())
    tower = TwoTower(
        items=len(known.ids),
        dim=out.shape[1],
        word_buckets=plan.word_buckets,
        title_words=plan.title_words,
        categories=len(known.categories),
        unit_out=False,
        with_content=has_content,
        vector_dim=features.vectors.shape[1],
        name=name,
    )
    tower.build()
    sizes = plan.word_buckets, len(known.categories), PRICE_STEPS
    seen = features.words, features.categories, features.prices
    content = Content(*seen, sizes, features.vectors) if has_content else None
    for (ids, *rest), vectors in ((tower.outs, out), (tower.ins, pooled)):
        own = np.pad(vectors, ((1, 0), (0, 0)))
        if content is not None:
            tables = content_tables(content, vectors, known.counts.buyers.astype(np.float64))
            own = tables.ids
            said = [tables.words, tables.categories, tables.prices]
            for table, rows in zip(rest, [*said, tables.vectors] if tower.vector_dim else said, strict=True):
                table.table.assign(rows)
        filled = np.zeros((len(known.ids) + 1, tower.dim), np.float32)
        rows = features.id_rows
        filled[rows[rows > 0]] = own[1:][rows > 0]
        ids.table.assign(filled)
    return tower
