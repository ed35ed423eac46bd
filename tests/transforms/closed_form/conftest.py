"""A small shop, prepared, and blocks of items small enough that it has several."""

import pytest

from topkin.artifacts import storage
from topkin.config.load import load_settings
from topkin.models.data.histories import PreparedHistories
from topkin.pipelines import prepare
from topkin.pipelines.engine.job import Job
from topkin.synthetic.shop import Shop


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("topkin.encoding.spectral_blocks.ROWS", 16)
    monkeypatch.setattr("topkin.encoding.svd.DRAWN", 24)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of a small generated shop, prepared in three parts, and its histories."""
    root = tmp_path_factory.mktemp("spectrum")
    shop = Shop(users=150, items=80, purchases=3_000, seed=1)
    shop.write(str(root / "shop"))
    (root / "topkin.toml").write_text(shop.config_toml("shop"))
    settings = load_settings(str(root / "topkin.toml"), sets=["run.parts=3"])
    for name in ("prepared", "scratch"):
        (root / name).mkdir()
    folder = str(root / "prepared")
    prepare.STAGE.execute(Job(settings=settings, as_of=shop.as_of, out=folder, scratch=str(root / "scratch")))
    ids = storage.read_parquet(storage.join(folder, "catalogue.parquet"))["item_id"]
    return folder, PreparedHistories(storage.join(folder, "histories"), ids, shop.as_of)
