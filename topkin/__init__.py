"""Batch recommendations from purchases: encoders, exact top-k, and the nightly job that publishes them.

Names are imported when they are first asked for (PEP 562): ``import topkin`` itself imports nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topkin import errors
    from topkin.api.evaluation import evaluate
    from topkin.api.recommender import Recommender
    from topkin.api.runs import open_run, run
    from topkin.baselines.registry import BASELINES
    from topkin.config.load import load_settings
    from topkin.interactions import Interactions
    from topkin.linalg.cosine import cosine_matrix as cosine_similarity
    from topkin.models.two_tower.encoder import Encoder
    from topkin.search.topk import top_k

    __version__: str

__all__ = [
    "BASELINES",
    "Encoder",
    "Interactions",
    "Recommender",
    "__version__",
    "cosine_similarity",
    "errors",
    "evaluate",
    "load_settings",
    "open_run",
    "run",
    "top_k",
]

_HOMES = {
    "BASELINES": "topkin.baselines.registry",
    "Encoder": "topkin.models.two_tower.encoder",
    "Interactions": "topkin.interactions",
    "Recommender": "topkin.api.recommender",
    "cosine_similarity": "topkin.linalg.cosine:cosine_matrix",
    "evaluate": "topkin.api.evaluation",
    "load_settings": "topkin.config.load",
    "open_run": "topkin.api.runs",
    "run": "topkin.api.runs",
    "top_k": "topkin.search.topk",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = import_module("importlib.metadata").version("topkin")
    elif name == "errors":
        value = import_module("topkin.errors")
    elif name in _HOMES:
        module, _, attribute = _HOMES[name].partition(":")
        value = getattr(import_module(module), attribute or name)
    else:
        raise AttributeError(f"module 'topkin' has no attribute {name!r}: it has {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
