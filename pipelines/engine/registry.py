"""The stages in their order. Nothing heavy is imported here: a stage's module is loaded when the stage is needed.

Commands, dry runs, run folders and profiles follow from this table and the ``STAGE`` of each module.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from topkin.errors import ConfigError

if TYPE_CHECKING:
    from topkin.pipelines.engine.stage import Stage


@dataclass(frozen=True)
class StageCommand:
    """A stage on the command line: its help, options to show in an example, and the package of its module."""

    meaning: str
    example: str = ""
    package: str = "topkin.pipelines"


COMMANDS = {
    "prepare": StageCommand("Clean the purchases and make histories, the catalogue, vocabularies and statistics."),
    "train": StageCommand("Train the encoder on the prepared purchases.", "--set train.epochs=3"),
    "embed": StageCommand("Run the encoder over all users and items.", "-- --direct_num_workers=2"),
    "index": StageCommand(
        "Build the NMSLIB index over the item vectors and measure its recall.", "--set index.ef_search=200"
    ),
    "recommend": StageCommand("Make every user's top-k list, by the rules.", "--set recommend.k=50"),
    "similar": StageCommand("Make the neighbours of items and of users, and what people alike bought.", "--force"),
    "hindsight": StageCommand(
        "Judge the lists of earlier nights by what was bought since.",
        "--as-of 2011-11-09",
        package="topkin.pipelines.nights",
    ),
    "evaluate": StageCommand("Measure the model and the baselines over the held-out purchases.", "--as-of 2011-11-09"),
    "report": StageCommand(
        "Ask the gates of [publish] beside the live version, and write the page of the run.",
        package="topkin.pipelines.nights",
    ),
}
ORDER = tuple(COMMANDS)


ORDERS = {"purchases": ORDER, "items": ("prepare", "train", "embed", "index", "similar", "evaluate", "report")}
"""The stages of a run over purchases and of one over items alone, by the ``kind`` of their settings."""


def stage(name: str, kind: str = "purchases") -> "Stage":
    """A stage of a kind of run by its name. Raises ConfigError for one that such a run does not have."""
    if name not in ORDERS[kind]:
        raise ConfigError(
            f"a run over items alone has the stages {', '.join(ORDERS[kind])}, got {name}: it needs [purchases]"
        )
    package = COMMANDS[name].package if kind == "purchases" else "topkin.pipelines.items"
    return _stage(f"{package}.{name}")


@cache
def _stage(module: str) -> "Stage":
    loaded: Stage = import_module(module).STAGE
    return loaded
