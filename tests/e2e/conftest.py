"""One whole night on a small generated shop, shared by the tests of a worker."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from topkin.artifacts import runs
from topkin.config.load import load_settings
from topkin.config.sections import Settings
from topkin.pipelines.run import run_all
from topkin.synthetic.shop import Shop

SMALL = ("train.epochs=3", "train.dim=16", "recommend.k=10", "similar.users=5", "evaluate.bootstrap=50")


@dataclass(frozen=True)
class Night:
    """A finished and published run, and what made it."""

    shop: Shop
    config: Path
    settings: Settings
    run: runs.Run
    sets: tuple[str, ...] = SMALL

    def again(self, *sets: str) -> Settings:
        """The same settings with some keys changed."""
        return load_settings(self.config, [*self.sets, *sets], env={})


def write_shop(folder: Path, shop: Shop) -> Path:
    """The shop's data and the configuration that the demo would write."""
    shop.write(str(folder / "shop"))
    config = folder / "topkin.toml"
    config.write_text(shop.config_toml("shop"))
    return config


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Every stage run once and published; tests that change something do so in another output folder."""
    folder = tmp_path_factory.mktemp("night")
    shop = Shop(users=300, items=150, purchases=6_000, seed=5)
    config = write_shop(folder, shop)
    settings = load_settings(config, SMALL, env={})
    return Night(shop, config, settings, run_all(settings, as_of=shop.as_of))
