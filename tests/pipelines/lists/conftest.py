"""What the tests of lists begin with."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from topkin.artifacts import storage
from topkin.pipelines import embed, prepare
from topkin.pipelines.engine.job import Job
from topkin.synthetic.shop import Shop

JobOf = Callable[[Path, str], Job]


@pytest.fixture(scope="session")
def before_lists(write_model: Callable[[str, int, pa.Table], None]) -> Callable[[Path, Shop, JobOf], pa.Table]:
    """Makes the folders of the stages before the lists, with an encoder that is written; gives the catalogue."""

    def make(folder: Path, shop: Shop, job_of: JobOf) -> pa.Table:
        shop.write(str(folder / "shop"))
        (folder / "topkin.toml").write_text(shop.config_toml("shop"))
        prepare.STAGE.execute(job_of(folder, "prepared"))
        catalogue = storage.read_parquet(str(folder / "prepared/catalogue.parquet"))
        write_model(str(folder / "model"), len(catalogue), catalogue)
        storage.write_json({"epochs": []}, str(folder / "model/training.json"))
        embed.STAGE.execute(job_of(folder, "embeddings"))
        return catalogue

    return make


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, before_lists: Callable[[Path, Shop, JobOf], pa.Table]) -> Path:
    """The folders of the stages before the lists, with columns for rules of a shop."""
    from tests.pipelines.lists.test_shop_rules import MADE, job_of

    folder = tmp_path_factory.mktemp("shop")
    before_lists(folder, MADE, job_of)
    storage.write_json({}, str(folder / "model/repurchase.json"))
    return folder
