"""The stages in their order. Nothing heavy is imported here: a stage's module is loaded when the stage is needed.

Commands, dry runs, run folders and profiles follow from this table and the ``STAGE`` of each module.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from topkin.pipelines.engine.stage import Stage


@dataclass(frozen=True)
class StageCommand:
    """A stage on the command line: its help, and options to show in an example."""

    meaning: str
    example: str = ""


COMMANDS = {
    "prepare": StageCommand("Clean the purchases and make histories, the catalogue, vocabularies and statistics."),
    "train": StageCommand("Train the encoder on the prepared purchases.", "--set train.epochs=3"),
    "embed": StageCommand("Run the encoder over all users and items.", "-- --direct_num_workers=2"),
    "index": StageCommand(
        "Build the NMSLIB index over the item vectors and measure its recall.", "--set index.ef_search=200"
    ),
    "recommend": StageCommand("Make every user's top-k list, by the rules.", "--set recommend.k=50"),
    "similar": StageCommand("Make the neighbours of items and of users, and what people alike bought.", "--force"),
    "evaluate": StageCommand("Measure the model and the baselines over the held-out purchases.", "--as-of 2011-11-09"),
}
ORDER = tuple(COMMANDS)


@cache
def stage(name: str) -> "Stage":
    """A stage by its name."""
    found: Stage = import_module(f"topkin.pipelines.{name}").STAGE
    return found
