"""The weights by which bought items are ranked again, chosen on the periods of validation."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from topkin.baselines.registry import BASELINES
from topkin.models.training.block_kinds import BlockHyperparameters
from topkin.models.training.lists.second import Period, Sources, candidates_of
from topkin.models.training.validation import AT, SplitBlocks
from topkin.recommend.repurchase import tuning
from topkin.recommend.repurchase.rates import RepurchaseRates
from topkin.recommend.repurchase.tuning import RepurchaseCase
from topkin.recommend.second.candidates import ENCODER
from topkin.recommend.second.stage import blended
from topkin.search.topk import top_k


def choose_repurchase_weights(
    sources: Sources,
    periods: Sequence[Period],
    settings: Mapping[str, BlockHyperparameters],
    categories: pa.ChunkedArray,
    blend: Mapping[str, float],
) -> dict[str, dict[str, float]]:
    """The weights of each policy by name, as ``topkin.recommend.bought.weights_of`` reads them.

    What a user buys again hardly depends on the encoder: the blocks that every period has are enough beside it.

    Args:
        sources: those beside the encoder.
        periods: of validation.
        settings: of the blocks that take part.
        categories: (n_items,) string of the catalogue's items.
        blend: weights of the encoder and of sources, see ``second.chosen.blend_of``; empty where it ranks alone.

    Returns:
        Weights by policy; empty where nobody came back in any period.
    """
    cases = [
        blended_case(sources, period, settings, categories, blend)
        if blend
        else repurchase_case(period.split, settings, categories)
        for period in periods
    ]
    judged = [case for case in cases if case is not None]
    return tuning.chosen(judged, timed=sources.context.timed) if judged else {}


def blended_case(
    sources: Sources,
    period: Period,
    settings: Mapping[str, BlockHyperparameters],
    categories: pa.ChunkedArray,
    blend: Mapping[str, float],
) -> RepurchaseCase | None:
    """As :func:`repurchase_case`, with the candidates and scores of a second stage."""
    cut = period.split.cut
    some, names = np.flatnonzero(cut.later.lengths), [name for name in BASELINES if name in blend]
    candidates = candidates_of(sources, period, settings, names, some, own=True) if len(some) else None
    if candidates is None:
        return None
    weights = np.array([blend[name] for name in (ENCODER, *names)])
    return RepurchaseCase.of_rows(
        candidates.items,
        blended(candidates.features, weights),
        known=cut.known.take(some),
        truth=cut.later.take(some),
        rates=RepurchaseRates.of(cut.habits, cut.known.n_items, categories),
    )


def repurchase_case(
    split: SplitBlocks, settings: Mapping[str, BlockHyperparameters], categories: pa.ChunkedArray
) -> RepurchaseCase | None:
    """The users of one period who came back, with their lists by the weighted z-scores, bought items kept.

    None where nobody came back, or no block that pools histories takes part. Lists are of all items sold before
    the cut; z-scores rank as the vectors do.
    """
    cut, blocks = split.cut, split.taking_part(settings)
    some = np.flatnonzero(cut.later.lengths)
    if not len(some) or not any(name in split.sides for name, _ in blocks):
        return None
    factors = [(np.float32(setting.weight), split.blocks[name].factors(setting)) for name, setting in blocks]
    queries = np.hstack([weight * users for weight, (users, _) in factors])[some]
    vectors = np.hstack([items for _, (_, items) in factors])
    ids, scores = top_k(queries, vectors, AT, allowed=cut.sold)
    return RepurchaseCase.of(
        ids,
        scores,
        known=cut.known.take(some),
        truth=cut.later.take(some),
        queries=queries,
        vectors=vectors,
        allowed=cut.sold,
        items=RepurchaseRates.of(cut.habits, cut.known.n_items, categories),
    )
