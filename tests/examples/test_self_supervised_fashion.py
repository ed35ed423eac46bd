"""The self-supervised example runs, at tiny settings, and beats chance; its full figures are in the docs."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
pytestmark = pytest.mark.skipif(
    not (DATA / "fashion_mnist" / "train.parquet").exists(), reason="the pictures are not in ../shared/data"
)


def example() -> Any:
    spec = importlib.util.spec_from_file_location(
        "self_supervised_fashion", ROOT / "examples" / "self_supervised_fashion.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("method", ["byol", "vicreg"])
def test_it_learns_an_embedding_and_probes_it(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--epochs", "1", "--train-images", "600", "--test-images", "200", "--batch-size", "100"]
    figures = example().main(["--method", method, *sizes, "--widths", "4", "8", "8", "--dim", "64"])
    assert figures["test_images"] == 200
    assert figures["dim"] == 64
    assert figures["spread"] > 0.05
    assert 0.4 < figures["probe"]["accuracy"] <= 1
    assert 0.5 < figures["raw_pixels"]["accuracy"] <= 1
    assert f"k-NN accuracy of {method}" in capsys.readouterr().out
