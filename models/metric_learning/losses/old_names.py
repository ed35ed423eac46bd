"""TensorFlow Similarity's losses under their old names and arguments, see docs/from_tensorflow_similarity.md.

Each makes a loss of today's name, which is what is saved. ``name`` and what Keras takes go on to it.
"""

from typing import Any

from topkin.models.metric_learning.distances import Distance
from topkin.models.metric_learning.losses.base import MetricLoss
from topkin.models.metric_learning.losses.cross_batch_memory import CrossBatchMemory
from topkin.models.metric_learning.losses.pair import Circle, LiftedStructure, MultiSimilarity, Triplet
from topkin.models.metric_learning.losses.softmax import SoftNearestNeighbour
from topkin.models.metric_learning.miners import BatchEasyHard, MultiSimilarityMiner
from topkin.models.metric_learning.named import part

_OLD = {"l2": "euclidean", "l1": "manhattan", "sql2": "squared_euclidean", "ip": "inner_product"}


def _distance(distance: Distance | str) -> Distance:
    instance: Distance = part("distance", _OLD.get(distance, distance) if isinstance(distance, str) else distance)
    return instance


def MultiSimilarityLoss(  # noqa: N802
    distance: Distance | str = "cosine",
    alpha: float = 2.0,
    beta: float = 40.0,
    epsilon: float = 0.1,
    lmda: float = 0.5,
    **kwargs: object,
) -> MultiSimilarity:
    """:class:`MultiSimilarity` with its miner; ``lmda`` is ``base``."""
    near, miner = _distance(distance), MultiSimilarityMiner(epsilon)
    return MultiSimilarity(alpha, beta, lmda, distance=near, miner=miner, **kwargs)


def TripletLoss(  # noqa: N802
    distance: Distance | str = "cosine",
    positive_mining_strategy: str = "hard",
    negative_mining_strategy: str = "semi-hard",
    margin: float | None = None,
    **kwargs: object,
) -> Triplet:
    """:class:`Triplet` with :class:`BatchEasyHard`; no margin is the soft margin.

    An anchor without a semi-hard negative is left out, where TensorFlow Similarity takes its farthest one.
    """
    miner = BatchEasyHard(positive_mining_strategy, negative_mining_strategy.replace("-", ""))
    return Triplet(margin or 0.0, soft=margin is None, distance=_distance(distance), miner=miner, **kwargs)


def CircleLoss(  # noqa: N802
    distance: Distance | str = "cosine", gamma: float = 80.0, margin: float = 0.4, **kwargs: object
) -> Circle:
    """:class:`Circle`; ``margin`` is ``m``."""
    return Circle(margin, gamma, distance=_distance(distance), **kwargs)


def SoftNearestNeighborLoss(  # noqa: N802
    distance: Distance | str = "sql2", temperature: float = 1.0, **kwargs: object
) -> SoftNearestNeighbour:
    """:class:`SoftNearestNeighbour`."""
    return SoftNearestNeighbour(temperature, distance=_distance(distance), **kwargs)


def LiftedStructLoss(  # noqa: N802
    distance: Distance | str = "cosine", margin: float = 1.0, **kwargs: Any
) -> LiftedStructure:
    """:class:`LiftedStructure` over all positives; ``margin`` is ``negative_margin``."""
    return LiftedStructure(margin, distance=_distance(distance), **kwargs)


def XBM(loss: MetricLoss, memory_size: int, *, dim: int, **kwargs: object) -> CrossBatchMemory:  # noqa: N802
    """:class:`CrossBatchMemory`; ``dim``, of an embedding, is asked for."""
    return CrossBatchMemory(loss, memory_size, dim, **kwargs)
