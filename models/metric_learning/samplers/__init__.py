"""Batches for metric learning: M classes x N examples, pairs, negatives by popularity; from memory or streamed."""

from topkin.models.metric_learning.samplers.in_memory import (
    ClassBatches,
    HierarchicalBatches,
    PopularityNegatives,
    RowBatches,
    pair_batches,
)
from topkin.models.metric_learning.samplers.old_names import MultiShotMemorySampler as MultiShotMemorySampler
from topkin.models.metric_learning.samplers.old_names import select_examples as select_examples
from topkin.models.metric_learning.samplers.pairs import PairBatches, PairList, make_pairs
from topkin.models.metric_learning.samplers.streamed import ParquetClassBatches, class_batches_from_dataset

__all__ = [
    "ClassBatches",
    "HierarchicalBatches",
    "PairBatches",
    "PairList",
    "ParquetClassBatches",
    "PopularityNegatives",
    "RowBatches",
    "class_batches_from_dataset",
    "make_pairs",
    "pair_batches",
]
