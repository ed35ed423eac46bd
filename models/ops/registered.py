"""The classes of ours that a ``.keras`` file may name, made known to Keras in one place.

Keras finds a class by the name under which its module registered it when it was imported. Who only loads a model has
imported none of them; :func:`register` imports all. Whatever here reads a model calls it first, and so does
``topkin.models`` as soon as one of its names brings Keras in: then ``keras.saving.load_model`` knows them too.
"""

import importlib

MODULES = (
    "encoders.histories",
    "encoders.text",
    "metric_learning.distances",
    "metric_learning.heads",
    "metric_learning.layers",
    "metric_learning.losses",
    "metric_learning.miners",
    "metric_learning.reducers",
    "objective.row_adam",
    "ops.cosine",
    "similarity.dssm",
    "similarity.siamese",
    "two_tower.towers",
)
"""The modules of ``topkin.models`` that register classes; a test finds one that is missing."""


def register() -> None:
    """Make every saved class of ``topkin.models`` known to Keras."""
    for module in MODULES:
        importlib.import_module(f"topkin.models.{module}")
