"""Towers become an encoder: rotated, weighed, with what its vectors mean."""

from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np

from topkin.artifacts.ids import vocabulary_hash
from topkin.encoding.blocks import RECENCY, Block, rotation
from topkin.models.data.feature_rows import FeatureRows
from topkin.models.data.item_index import ItemIndex
from topkin.models.data.purchase_weights import PurchaseWeights
from topkin.models.training.block_kinds import KINDS, BlockHyperparameters, inverse_popularities
from topkin.models.training.context import TrainingContext
from topkin.models.training.selection import BATCH
from topkin.models.two_tower.encoder import Encoder, assembled, encode_features
from topkin.models.two_tower.recency_prior import by_sales, fitted, recency_lift
from topkin.models.two_tower.towers import Towers, TwoTower


def finished(
    context: TrainingContext,
    towers: Mapping[str, TwoTower],
    settings: Mapping[str, BlockHyperparameters],
    index: ItemIndex,
    *,
    by_sales_first: bool = False,
    profiles: FeatureRows | None = None,
    purchases: PurchaseWeights | None = None,
) -> Encoder:
    """The encoder of some blocks: rotated, so that coordinates do not covary, with their variances over what sold.

    by_sales_first: see ``Selection.by_sales``. profiles: how users' features are read, where a block needs them.
    purchases: what features of purchases say, where they have some.
    """
    counts = index.counts
    sold = counts.events > 0
    prior = (by_sales if by_sales_first else fitted)(counts.recent, counts.events)
    lift = recency_lift(counts.recent, counts.events)
    exponents, levelled = inverse_popularities(context.train), {kind.name for kind in KINDS if kind.level}
    blocks, sides = [], []
    for name, tower in towers.items():
        setting = settings[name]
        lengths = (lift**setting.recency_lift).astype(np.float32)[:, None]
        out, _ = encode_features(tower, index.features, BATCH)
        turned, _ = rotation((out * lengths)[sold])
        tower.rotate(turned)
        sides.append(encode_features(tower, index.features, BATCH))
        spread = (sides[-1][0] * lengths)[sold].var(axis=0, dtype=np.float64)
        blocks.append(
            Block(
                name=name,
                dim=tower.dim,
                inverse_popularity=exponents[name],
                spread=tuple(spread.tolist()),
                level=tuple(turned[-1].tolist()) if name in levelled else (),
                **asdict(setting),
            )
        )
    if RECENCY in settings:
        spread = prior.scaled(counts.recent, counts.events)[sold].var(dtype=np.float64)
        block = Block.unscaled(RECENCY, 1, 0, None)
        blocks.append(replace(block, weight=settings[RECENCY].weight, spread=(float(spread),)))
    out, _ = assembled(sides, blocks, prior, counts.recent.astype(float), counts.events.astype(float))
    meaning = {
        "blocks": [block.to_json() for block in blocks],
        "recency": prior.to_json(),
        "reach": max(float(np.linalg.norm(out.astype(np.float64), axis=1).max(initial=0)), 1e-9),
        "categories": list(index.categories),
        "features": index.rows.to_json(),
        "profiles": (profiles or FeatureRows()).to_json(),
        "vocabulary": vocabulary_hash(index.ids),
        **({"purchases": purchases.to_json()} if purchases is not None else {}),
    }
    model = Towers(list(towers.values()), meaning=meaning, name="encoder")
    model.build()
    return Encoder(model, index.ids)
