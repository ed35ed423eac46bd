"""A small published run of the whole night, for the commands that read one."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.pipelines.cli.app import main

CONFIG = """\
[purchases]
path = "purchases.parquet"
[run]
parts = 2
[train]
epochs = 0
[recommend]
k = 3
[evaluate]
bootstrap = 10
"""


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a shop whose run is published."""
    folder = tmp_path_factory.mktemp("published")
    rows = {
        "user_id": [100 + n // 4 for n in range(40)],
        "item_id": [f"i{(n * 7 + n // 4) % 12:02d}" for n in range(40)],
        "timestamp": [f"2024-05-{1 + n % 20:02d}" for n in range(40)],
    }
    pq.write_table(pa.table(rows), folder / "purchases.parquet")
    config = folder / "topkin.toml"
    config.write_text(CONFIG)
    assert main(["run", "--config", str(config), "--as-of", "2024-05-21", "--quiet"]) == 0
    return config
