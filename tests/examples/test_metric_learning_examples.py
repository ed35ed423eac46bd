"""The metric-learning examples run, at tiny settings, and tell their figures; their full figures are in the docs."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
needs_digits = pytest.mark.skipif(
    not (DATA / "mnist_t10k" / "test.parquet").exists(), reason="the digits are not in ../shared/data"
)
needs_clothes = pytest.mark.skipif(
    not (DATA / "fashion_mnist" / "train.parquet").exists(), reason="the pictures are not in ../shared/data"
)


def run(name: str, argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    figures = importlib.import_module(name).main(argv)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == figures
    return figures


@needs_digits
@pytest.mark.parametrize("pairs", ["batch", "drawn"])
def test_a_siamese_network_tells_digits_apart(
    pairs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "pairs.svg"
    argv = ["--epochs", "20", "--images", "1000", "--no-augment", "--pairs", pairs, "--picture", str(picture)]
    figures = run("siamese_mnist", argv, monkeypatch, capsys)
    assert figures["test_images"] == 3000
    assert figures["test_pairs"] == 30_000
    assert figures["train_pair_accuracy"] > 0.8
    assert 0.72 < figures["test_pair_accuracy"] < figures["train_pair_accuracy"]
    assert figures["test_pair_accuracy_calibrated"] > 0.72
    assert picture.read_text().count("<image") == 48


@needs_clothes
def test_a_convolutional_siamese_network_tells_clothes_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--encoder", "cnn", "--epochs", "3", "--images", "800"]
    figures = run("siamese_fashion", argv, monkeypatch, capsys)
    assert figures["test_pair_accuracy_calibrated"] > 0.7


@needs_clothes
def test_supervised_learning_finds_clothes_of_a_kind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--images", "1500", "--epochs", "4", "--widths", "8", "16", "16", "--batch-size", "50"]
    figures = run("supervised_fashion", argv, monkeypatch, capsys)
    assert figures["recall@1"] > 0.65
    assert 0.7 < figures["recall@1_raw_pixels"] < 0.8


@needs_clothes
def test_clothes_of_kinds_never_trained_on_are_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--images", "3000", "--epochs", "1", "--widths", "4", "8", "8", "--batch-size", "100"]
    figures = run("unseen_classes_fashion", argv, monkeypatch, capsys)
    assert figures["unseen"] == [0, 2, 4, 6]
    assert figures["queries"] > 1000
    assert 0.5 < figures["recall@1_raw_pixels"] < 0.8
    assert figures["recall@1"] > 0.5
