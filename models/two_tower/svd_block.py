"""The blocks in closed form as towers: tables that are computed and not trained."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from topkin.config.sections import TrainSettings
from topkin.encoding.blocks import NEXT_ITEM, SVD
from topkin.encoding.content_ridge import Content, ContentTables, content_block, content_tables
from topkin.encoding.svd import SpectralSettings, Spectrum, decompose, in_out, purchase_weights
from topkin.interactions import Interactions
from topkin.models.data.histories import PreparedHistories, before_cut
from topkin.models.data.item_features import PRICE_STEPS
from topkin.models.data.item_index import ItemIndex
from topkin.models.two_tower.next_item_ridge import NextItemSettings, next_item_ridge
from topkin.models.two_tower.towers import TwoTower

_PASSES = 4
_HELD = 8_000_000  # interactions that are held for all passes: 64 MB
_MOST = 1.5  # what one user's purchases of one item may add up to, where they are weighed by age


@dataclass(frozen=True)
class Decomposition:
    """The interactions before a cut, decomposed once for all blocks that are computed from it.

    Args:
        train: section ``[train]``.
        index: the items before the cut.
        purchases: the interactions; those before the cut count.
        spectrum: their singular values and vectors.
        content: what is known of the items beside their sales; None where no item has a word, category or vector.
    """

    train: TrainSettings
    index: ItemIndex
    purchases: PreparedHistories
    spectrum: Spectrum
    content: Content | None

    @property
    def buyers(self) -> np.ndarray:
        """Distinct buyers of each item, (n_items,) float64."""
        return self.index.counts.buyers.astype(np.float64)


def parts_of(purchases: PreparedHistories) -> Iterator[Interactions]:
    """The interactions before the cut, part by part, aged at it."""
    for name in purchases.names():
        yield before_cut(purchases.part(name), purchases.days)


def decomposition(train: TrainSettings, purchases: PreparedHistories, index: ItemIndex, *, seed: int) -> Decomposition:
    """Decompose the interactions before the cut of ``purchases`` into the directions that the blocks choose from."""

    advanced, features = train.advanced, index.features
    half_life = advanced.svd_half_life_days
    weights = partial(purchase_weights, half_life_days=half_life, most=1.0 if half_life is None else _MOST)
    rank = max(advanced.svd_rank, train.svd_dim, train.next_item_dim)
    settings = SpectralSettings(dim=rank, user_power=advanced.svd_user_power, passes=_PASSES, seed=seed)
    n_items = len(purchases.item_ids)
    once = settings.dim + settings.oversampling >= n_items
    if purchases.workers is None or once:
        counts = index.counts

        def shards() -> Iterator[sp.csr_matrix]:
            return map(weights, parts_of(purchases))

        many = (counts.events if counts.inputs is None else counts.inputs).sum() > _HELD
        held = None if once or many else list(shards())  # or each pass reads the files again
        spectrum = decompose(shards if held is None else lambda: held, n_items, settings)
    else:
        spectrum = purchases.workers.decompose(purchases, weights, settings)
    content = None
    if features.has_content.any():
        sizes = index.word_buckets, len(index.categories), PRICE_STEPS, index.rows.size
        content = Content(
            features.words,
            features.categories,
            features.prices,
            sizes,
            features.vectors,
            features.values,
            features.shares,
        )
    return Decomposition(train, index, purchases, spectrum, content)


def svd_tower(source: Decomposition) -> TwoTower:
    """The SVD block: of the directions those ``svd_dim`` that tell most, or what the interactions allow.

    Items that sell little are known by what their content says, where there is any.
    """
    train, advanced = source.train, source.train.advanced
    exponents: dict[str, Any] = {
        "power": advanced.svd_power,
        "out_power": advanced.svd_popularity,
        "inverse_popularity": advanced.svd_inverse_popularity,
    }
    if source.content is None:
        kept = in_out(source.spectrum, dim=train.svd_dim, **exponents)
        return _towers(source, SVD, _own(kept.O), _own(kept.E))
    block = content_block(source.spectrum, source.content, source.buyers, dim=train.svd_dim, **exponents)
    return _towers(source, SVD, block.out_tables, block.in_tables)


def next_item_tower(source: Decomposition) -> TwoTower:
    """The next-item block, regressed on the first ``next_item_dim`` directions."""
    advanced, content = source.train.advanced, source.content
    first = source.spectrum.truncated(source.train.next_item_dim)
    in_vectors = first.V * first.s
    regression = NextItemSettings(
        inverse_popularity=advanced.svd_inverse_popularity, half_life_days=advanced.next_item_half_life_days
    )
    workers, buyers = source.purchases.workers, source.index.counts.buyers
    if workers is None:
        out = next_item_ridge(partial(parts_of, source.purchases), in_vectors, buyers, regression)
    else:
        out = workers.next_item_ridge(source.purchases, in_vectors, buyers, regression)
    tables = [_own(x) if content is None else content_tables(content, x, source.buyers) for x in (out, in_vectors)]
    return _towers(source, NEXT_ITEM, *tables)


def _own(vectors: np.ndarray) -> ContentTables:
    """Vectors, (n_items, d), as id rows alone."""
    none = np.zeros((1, vectors.shape[1]), np.float32)
    return ContentTables(none, none, none, none, none[:0], np.pad(vectors, ((1, 0), (0, 0))))


def _towers(source: Decomposition, name: str, out: ContentTables, pooled: ContentTables) -> TwoTower:
    """Towers that hold these tables, id rows for the items that have one."""
    index, advanced = source.index, source.train.advanced
    with_content = len(out.prices) > 1
    tower = TwoTower(
        items=len(index.ids),
        dim=out.ids.shape[1],
        word_buckets=index.word_buckets,
        title_words=advanced.title_words,
        categories=len(index.categories),
        unit_out=False,
        with_content=with_content,
        vector_dim=index.features.vectors.shape[1] if with_content else 0,
        values=index.rows.size if with_content else 0,
        name=name,
    )
    for table in tower.tables:
        table.scale = 0.0  # all that they begin with is written over
    tower.build()
    rows = index.features.id_rows
    for (ids, *rest), tables in ((tower.outs, out), (tower.ins, pooled)):
        filled = np.zeros((len(index.ids) + 1, tower.dim), np.float32)
        filled[rows[rows > 0]] = tables.ids[1:][rows > 0]
        ids.table.assign(filled)
        content = [tables.words, tables.categories, tables.prices]
        content += [tables.values] if tower.values else []
        content += [tables.vectors] if tower.vector_dim else []
        for table, values in zip(rest, content if with_content else (), strict=True):
            table.table.assign(values)
    return tower
