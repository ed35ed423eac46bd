"""Exports as strangers have them: init writes a configuration that check accepts and run runs, with no edit."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from tests.ingest.inference.more_shops import MORE_SHOPS
from tests.ingest.inference.ten_shops import SHOPS, Export
from topkin.config.load import load_settings
from topkin.ingest.files import ArrowFiles
from topkin.ingest.inference.look import ShopLook, look
from topkin.ingest.inference.written import configuration
from topkin.pipelines.cli.app import main
from topkin.pipelines.cli.check import check

CLOCK = datetime(2024, 11, 2)
EVERY = {**SHOPS, **MORE_SHOPS}


def seen(name: str, folder: Path) -> tuple[Export, ShopLook]:
    export = EVERY[name](folder, np.random.default_rng(5))
    items = str(export.items) if export.items else None
    return export, look(str(export.purchases), items, None, (), CLOCK, ArrowFiles())


@pytest.mark.parametrize("name", EVERY)
def test_init_finds_what_a_person_would_and_check_accepts_it(name: str, tmp_path: Path) -> None:
    export, shop = seen(name, tmp_path)
    assert shop.findings == []
    columns = {c.key: c.column for c in shop.tables[0].columns}
    for key, right in export.truth.items():
        assert columns.get(key) in (right if isinstance(right, tuple) else (right,)), key
    if export.items:
        of_items = {c.key: c.column for c in shop.tables[1].columns}
        assert {key: of_items.get(key) for key in export.item_truth} == export.item_truth
        assert any(line.startswith("100 % of the items sold") for line in shop.joins)
    assert shop.purchases is not None
    assert shop.purchases.bought is not None
    assert shop.purchases.bought.value == export.bought
    low, high = export.rejected
    assert low <= sum(shop.purchases.rejected.values()) <= high

    config = tmp_path / "topkin.toml"
    config.write_text(configuration(shop, config, CLOCK))
    _, _, findings = check(load_settings(config, env={}), CLOCK)
    assert [str(f) for f in findings] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SHOPS, "documents", "german"])
def test_run_runs_what_init_wrote(name: str, tmp_path: Path) -> None:
    export = EVERY[name](tmp_path, np.random.default_rng(5))
    config = str(tmp_path / "topkin.toml")
    items = ["--items", str(export.items)] if export.items else []
    assert main(["init", str(export.purchases), *items, "-o", config]) == 0
    assert main(["run", "--config", config, "--set", "train.epochs=0", "--quiet"]) == 0
