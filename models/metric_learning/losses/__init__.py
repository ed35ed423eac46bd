"""The losses by name; ``docs/contributing/metric_loss.md`` says how one is added."""

from topkin.models.metric_learning.losses.base import Loss, MetricLoss
from topkin.models.metric_learning.losses.cross_batch_memory import CrossBatchMemory
from topkin.models.metric_learning.losses.old_names import XBM as XBM
from topkin.models.metric_learning.losses.old_names import CircleLoss as CircleLoss
from topkin.models.metric_learning.losses.old_names import LiftedStructLoss as LiftedStructLoss
from topkin.models.metric_learning.losses.old_names import MultiSimilarityLoss as MultiSimilarityLoss
from topkin.models.metric_learning.losses.old_names import SoftNearestNeighborLoss as SoftNearestNeighborLoss
from topkin.models.metric_learning.losses.old_names import TripletLoss as TripletLoss
from topkin.models.metric_learning.losses.pair import (
    Circle,
    Contrastive,
    LiftedStructure,
    MultiSimilarity,
    PairContrastive,
    Triplet,
)
from topkin.models.metric_learning.losses.proxy import (
    AMSoftmax,
    ArcFace,
    Center,
    CosFace,
    ProxyAnchor,
    ProxyLoss,
    ProxyNCA,
    ProxyNCAPlus,
    SoftTriple,
    SubCenterArcFace,
)
from topkin.models.metric_learning.losses.ranking import BPR, CCL, ListLoss, SampledSoftmax
from topkin.models.metric_learning.losses.softmax import InfoNCE, NPair, NTXent, SoftNearestNeighbour, SupCon
from topkin.models.metric_learning.losses.weighted_sum import WeightedSum

__all__ = [
    "BPR",
    "CCL",
    "AMSoftmax",
    "ArcFace",
    "Center",
    "Circle",
    "Contrastive",
    "CosFace",
    "CrossBatchMemory",
    "InfoNCE",
    "LiftedStructure",
    "ListLoss",
    "Loss",
    "MetricLoss",
    "MultiSimilarity",
    "NPair",
    "NTXent",
    "PairContrastive",
    "ProxyAnchor",
    "ProxyLoss",
    "ProxyNCA",
    "ProxyNCAPlus",
    "SampledSoftmax",
    "SoftNearestNeighbour",
    "SoftTriple",
    "SubCenterArcFace",
    "SupCon",
    "Triplet",
    "WeightedSum",
]
