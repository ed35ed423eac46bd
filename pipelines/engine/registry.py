"""The stages in their order. Nothing heavy is imported here: a stage's module is loaded when the stage is needed.

Commands, dry runs, run folders and profiles follow from this table and the ``STAGE`` of each module.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from topkin.errors import ConfigError

if TYPE_CHECKING:
    from topkin.config.items_run import RunSettingsOfAnyKind
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


@dataclass(frozen=True)
class StageTable:
    """The stages of one kind of run.

    Args:
        package: Where their modules are.
        order: Their names.
    """

    package: str
    order: tuple[str, ...]

    def stage(self, name: str) -> "Stage":
        """A stage by its name. Raises ConfigError for one that such a run does not have."""
        if name not in self.order:
            raise ConfigError(
                f"a run of items alone has the stages {', '.join(self.order)}, got {name}: it needs [purchases]"
            )
        return _stage(self.package, name)


PURCHASES = StageTable("topkin.pipelines", ORDER)
ITEMS = StageTable("topkin.pipelines.items", tuple(name for name in ORDER if name != "recommend"))


def table_of(settings: "RunSettingsOfAnyKind") -> StageTable:
    """The stages of the run that settings are of."""
    return {"purchases": PURCHASES, "items": ITEMS}[settings.kind]


def stage(name: str) -> "Stage":
    """A stage of a run over purchases, by its name."""
    return PURCHASES.stage(name)


@cache
def _stage(package: str, name: str) -> "Stage":
    found: Stage = import_module(f"{package}.{name}").STAGE
    return found
