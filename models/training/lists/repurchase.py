"""The weights by which bought items are ranked again, chosen on the periods of validation."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from topkin.models.training.block_kinds import BlockHyperparameters
from topkin.models.training.validation import AT, BlockWeightSearch
from topkin.recommend.repurchase import tuning
from topkin.recommend.repurchase.rates import RepurchaseRates
from topkin.recommend.repurchase.tuning import Case
from topkin.search.topk import top_k


def choose_repurchase_weights(
    searches: Sequence[BlockWeightSearch],
    settings: Mapping[str, BlockHyperparameters],
    categories: pa.ChunkedArray,
) -> dict[str, dict[str, float]]:
    """The weights of each policy by name, as ``topkin.recommend.bought.weights_of`` reads them.

    What a user buys again hardly depends on the encoder: the blocks that every period has are enough beside it.

    Args:
        searches: one for each period.
        settings: of the blocks that take part.
        categories: (n_items,) string of the catalogue's items.

    Returns:
        Weights by policy; empty where nobody came back in any period.
    """
    cases = [repurchase_case(search, settings, categories) for search in searches]
    judged = [case for case in cases if case is not None]
    return tuning.chosen(judged) if judged else {}


def repurchase_case(
    search: BlockWeightSearch, settings: Mapping[str, BlockHyperparameters], categories: pa.ChunkedArray
) -> Case | None:
    """The users of one period who came back, with their lists by the weighted z-scores, bought items kept.

    None where nobody came back, or no block that pools histories takes part. Lists are of all items sold before
    the cut; z-scores rank as the vectors do.
    """
    cut, blocks = search.cut, search.taking_part(settings)
    some = np.flatnonzero(cut.later.lengths)
    if not len(some) or not any(name in search.sides for name, _ in blocks):
        return None
    factors = [(np.float32(setting.weight), search.blocks[name].factors(setting)) for name, setting in blocks]
    queries = np.hstack([weight * users for weight, (users, _) in factors])[some]
    vectors = np.hstack([items for _, (_, items) in factors])
    ids, scores = top_k(queries, vectors, AT, allowed=cut.sold)
    return Case.of(
        ids,
        scores,
        known=cut.known.take(some),
        truth=cut.later.take(some),
        queries=queries,
        vectors=vectors,
        allowed=cut.sold,
        items=RepurchaseRates.of(cut.habits, cut.known.n_items, categories),
    )
