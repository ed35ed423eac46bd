"""What the tests share: a home of their own, and the real data where it is."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Beam and Keras keep caches in HOME: never in the user's."""
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))
    os.environ["KERAS_HOME"] = os.environ["HOME"]


@pytest.fixture(scope="session")
def online_retail() -> Path:
    """The folder of the real purchases; the test is skipped where it is not there."""
    folder = SHARED / "online_retail"
    if not (folder / "purchases.parquet").exists():
        pytest.skip(f"needs the real purchases in {folder}")
    return folder
