"""The metric-learning examples run, at tiny settings, and tell their figures; their full figures are in the docs."""

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topkin.models.encoders import images as image_files

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
needs_digits = pytest.mark.skipif(
    not (DATA / "mnist_t10k" / "test.parquet").exists(), reason="the digits are not in ../shared/data"
)
needs_clothes = pytest.mark.skipif(
    not (DATA / "fashion_mnist" / "train.parquet").exists(), reason="the pictures are not in ../shared/data"
)
ALL = ["siamese_mnist", "siamese_fashion", "supervised_fashion", "unseen_classes_fashion"]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports an example by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module


@pytest.fixture
def run(example: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs an example; its figures, which are also the last line it prints."""

    def ran(name: str, *argv: str) -> Any:
        figures = example(name).main(argv)
        assert json.loads(capsys.readouterr().out.splitlines()[-1]) == figures
        return figures

    return ran


@needs_digits
@pytest.mark.parametrize("pairs", ["drawn", "batch"])
def test_a_siamese_network_tells_digits_apart(pairs: str, tmp_path: Path, run: Any) -> None:
    picture = tmp_path / "pairs.svg"
    argv = ["--epochs", "20", "--images", "1000", "--no-augment", "--pairs", pairs, "--picture", str(picture)]
    figures = run("siamese_mnist", *argv)
    assert figures["pairs"] == pairs
    assert figures["asked"] == "test"
    assert figures["asked_pairs"] == 10_000
    assert figures["train_pair_accuracy"] > 0.8
    assert 0.72 < figures["pair_accuracy"] < figures["train_pair_accuracy"]
    assert figures["pair_accuracy_calibrated"] > 0.72
    assert picture.read_text().count("<image") == 24


@needs_clothes
def test_a_convolutional_siamese_network_tells_clothes_apart(run: Any) -> None:
    argv = ["--encoder", "cnn", "--widths", "8", "16", "16", "--epochs", "6", "--images", "800", "--no-augment"]
    figures = run("siamese_fashion", *argv)
    assert figures["pairs"] == "batch"
    assert figures["pair_accuracy_calibrated"] > 0.7
    # Clothes look like their mirror image: the mean of both is about as good.
    assert abs(figures["pair_accuracy_mirrored"] - figures["pair_accuracy"]) < 0.1


@pytest.mark.slow
@needs_clothes
def test_supervised_learning_finds_clothes_of_a_kind(run: Any) -> None:
    argv = ["--images", "1500", "--epochs", "4", "--widths", "8", "16", "16", "--batch-size", "50"]
    figures = run("supervised_fashion", *argv)
    assert figures["recall@1"] > 0.65
    assert 0.7 < figures["recall@1_raw_pixels"] < 0.8


@pytest.mark.slow
@needs_clothes
def test_clothes_of_kinds_never_trained_on_are_found(run: Any) -> None:
    argv = ["--images", "3000", "--epochs", "1", "--widths", "4", "8", "8", "--batch-size", "100"]
    figures = run("unseen_classes_fashion", *argv)
    assert figures["unseen"] == [0, 2, 4, 6]
    assert figures["queries"] > 1000
    assert 0.5 < figures["recall@1_raw_pixels"] < 0.8
    assert figures["recall@1"] > 0.5


@needs_digits
@needs_clothes
@pytest.mark.parametrize(
    ("kind", "learned", "held", "test"), [("clothes", 50_000, 10_000, 10_000), ("digits", 5834, 1166, 3000)]
)
def test_validation_images_are_of_the_training_part_and_not_trained_on(
    kind: str, learned: int, held: int, test: int, example: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = example("image_parts")
    options = argparse.Namespace(data=DATA, images=None, validation=False)
    train, asked, name = getattr(module, kind)(options)
    assert (name, len(asked.images)) == ("test", test)
    read: list[str] = []
    monkeypatch.setattr(module, "read_images", lambda path: read.append(path) or image_files.read_images(path))
    options.validation = True
    fewer, validation, name = getattr(module, kind)(options)
    assert (name, len(fewer.images), len(validation.images)) == ("validation", learned, held)
    assert len(read) == 1  # one file: of clothes not the test's

    def rows(images: image_files.Images) -> list[bytes]:
        return sorted(image.tobytes() + bytes([label]) for image, label in zip(*images, strict=True))

    assert sorted(rows(fewer) + rows(validation)) == rows(train)


@needs_digits
@needs_clothes
@pytest.mark.parametrize("name", [*ALL[:1], *(pytest.param(name, marks=pytest.mark.slow) for name in ALL[1:])])
def test_every_example_asks_about_validation_images_when_told_to(name: str, run: Any) -> None:
    sizes = ["--images", "300", "--epochs", "1", "--batch-size", "50"]
    widths = [] if name == "siamese_mnist" else ["--widths", "4", "4", "4"]
    figures = run(name, "--validation", *sizes, *widths)
    assert figures["asked"] == "validation"


def test_settings_not_given_are_the_encoders(example: Any) -> None:
    siamese, fashion = example("siamese"), example("siamese_fashion")
    chosen = fashion.SETTINGS["cnn"]
    options = siamese.arguments("", ["--encoder", "cnn", "--epochs", "3", "--weight-decay", "0"], fashion.SETTINGS)
    assert (options.epochs, options.weight_decay) == (3, 0)
    assert (options.pairs, options.learning_rate) == (chosen.pairs, chosen.learning_rate)
    assert options.augment is chosen.augment


def test_the_mirrored_encoder_gives_the_mean_of_both_sides(example: Any) -> None:
    siamese = example("siamese")
    encoder = image_files.mlp((4, 6, 1), units=(5,), seed=1)
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 6, 1)).astype(np.uint8)
    expected = (encoder.predict(images, verbose=0) + encoder.predict(images[:, :, ::-1], verbose=0)) / 2
    np.testing.assert_allclose(siamese.with_mirror(encoder).predict(images, verbose=0), expected, atol=1e-6)
