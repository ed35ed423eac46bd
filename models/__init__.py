"""Encoders, losses and self-supervision in Keras 3 on TensorFlow: the public names, each imported when first used.

``from topkin.models import SimilarityModel, losses, miners``: nothing else of this package needs an import of its
own. Importing ``topkin.models`` alone imports neither TensorFlow nor Keras. Any
name that needs Keras makes all saved classes known to it, so that ``keras.saving.load_model`` finds them.
"""

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from topkin.models.encoders.histories import history_encoder
    from topkin.models.encoders.images import mlp, read_images, small_cnn, small_resnet
    from topkin.models.encoders.keras_encoder import KerasEncoder
    from topkin.models.encoders.keras_files import save_encoder
    from topkin.models.encoders.text import PretrainedText, ngram_encoder, ngram_rows, pretrained_keras
    from topkin.models.metric_learning import distances, losses, miners, reducers, samplers
    from topkin.models.metric_learning.layers import GeneralizedMeanPooling, MetricEmbedding
    from topkin.models.ops.cosine import CosineMatrix, CosineRows, UnitRows
    from topkin.models.self_supervised.barlow_twins import BarlowTwins
    from topkin.models.self_supervised.byol import BYOL
    from topkin.models.self_supervised.collapse import CollapseError, StopAtCollapse, effective_rank
    from topkin.models.self_supervised.history_crops import HistoryCrops
    from topkin.models.self_supervised.simclr import SimCLR
    from topkin.models.self_supervised.simsiam import SimSiam
    from topkin.models.self_supervised.swav import SwAV
    from topkin.models.self_supervised.vicreg import VICReg
    from topkin.models.similarity.calibration import Calibration, calibrate
    from topkin.models.similarity.dssm import TwoTowers, dssm
    from topkin.models.similarity.index import GrowingIndex, Growth
    from topkin.models.similarity.model import Neighbour, SimilarityModel
    from topkin.models.similarity.siamese import PairAccuracy, Siamese, best_threshold, pair_accuracy, pick_pairs
    from topkin.models.similarity.whitening import whitened
    from topkin.models.visualize.plots import plot_confusion, plot_distances, plot_map, plot_neighbours, plot_pairs

# Where each public name is. Those of TYPE_CHECKING above are the same, for editors and type checkers; a test compares.
_WHERE = {
    "encoders.histories": ("history_encoder",),
    "encoders.images": ("mlp", "read_images", "small_cnn", "small_resnet"),
    "encoders.keras_encoder": ("KerasEncoder",),
    "encoders.keras_files": ("save_encoder",),
    "encoders.text": ("PretrainedText", "ngram_encoder", "ngram_rows", "pretrained_keras"),
    "metric_learning": ("distances", "losses", "miners", "reducers", "samplers"),
    "metric_learning.layers": ("GeneralizedMeanPooling", "MetricEmbedding"),
    "ops.cosine": ("CosineMatrix", "CosineRows", "UnitRows"),
    "self_supervised.barlow_twins": ("BarlowTwins",),
    "self_supervised.byol": ("BYOL",),
    "self_supervised.collapse": ("CollapseError", "StopAtCollapse", "effective_rank"),
    "self_supervised.history_crops": ("HistoryCrops",),
    "self_supervised.simclr": ("SimCLR",),
    "self_supervised.simsiam": ("SimSiam",),
    "self_supervised.swav": ("SwAV",),
    "self_supervised.vicreg": ("VICReg",),
    "similarity.calibration": ("Calibration", "calibrate"),
    "similarity.dssm": ("TwoTowers", "dssm"),
    "similarity.index": ("GrowingIndex", "Growth"),
    "similarity.model": ("Neighbour", "SimilarityModel"),
    "similarity.siamese": ("PairAccuracy", "Siamese", "best_threshold", "pair_accuracy", "pick_pairs"),
    "similarity.whitening": ("whitened",),
    "visualize.plots": ("plot_confusion", "plot_distances", "plot_map", "plot_neighbours", "plot_pairs"),
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "BYOL",
    "BarlowTwins",
    "Calibration",
    "CollapseError",
    "CosineMatrix",
    "CosineRows",
    "GeneralizedMeanPooling",
    "GrowingIndex",
    "Growth",
    "HistoryCrops",
    "KerasEncoder",
    "MetricEmbedding",
    "Neighbour",
    "PairAccuracy",
    "PretrainedText",
    "Siamese",
    "SimCLR",
    "SimSiam",
    "SimilarityModel",
    "StopAtCollapse",
    "SwAV",
    "TwoTowers",
    "UnitRows",
    "VICReg",
    "best_threshold",
    "calibrate",
    "distances",
    "dssm",
    "effective_rank",
    "history_encoder",
    "losses",
    "miners",
    "mlp",
    "ngram_encoder",
    "ngram_rows",
    "pair_accuracy",
    "pick_pairs",
    "plot_confusion",
    "plot_distances",
    "plot_map",
    "plot_neighbours",
    "plot_pairs",
    "pretrained_keras",
    "read_images",
    "reducers",
    "samplers",
    "save_encoder",
    "small_cnn",
    "small_resnet",
    "whitened",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = f"{__name__}.{_MODULE[name]}"
    imported = importlib.import_module(f"{module}.{name}" if name in _WHERE["metric_learning"] else module)
    if "keras" in sys.modules:
        importlib.import_module(f"{__name__}.ops.registered").register()
    globals()[name] = imported if name in _WHERE["metric_learning"] else getattr(imported, name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
