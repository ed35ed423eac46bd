"""The example of all losses: each kind of loss trains on generated pictures, and a results file is not run twice."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("losses_fashion", ROOT / "examples" / "losses_fashion.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes, a bright square at a place of its own each, under much noise."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    (folder / "fashion_mnist").mkdir()
    for part, n in (("train", 300), ("test", 100)):
        labels = np.arange(n) % 10
        images = rng.integers(0, 200, (n, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = 3 + 14 * (label // 5), 1 + 5 * (label % 5)
            image[row : row + 8, column : column + 5] |= 128
        table = {"image": pa.array([i.tobytes() for i in images], pa.binary(28 * 28)), "label": labels}
        pq.write_table(pa.table(table), folder / "fashion_mnist" / f"{part}.parquet")
    return folder


def test_every_loss_of_the_library_has_a_case(example: Any) -> None:
    from topkin.models import losses

    abstract = {losses.Loss, losses.MetricLoss, losses.ProxyLoss, losses.ListLoss}
    shown = {type(case.loss()) for case in example.CASES.values()}
    every = {getattr(losses, name) for name in losses.__all__}
    assert every - abstract - shown == {losses.PairContrastive}  # pairs made beforehand: the Siamese examples


OTHERS = ("center", "info_nce", "ccl", "cross_batch_memory")


@pytest.mark.parametrize("name", ["triplet", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_each_kind_of_loss_trains_an_encoder(example: Any, data: Path, name: str) -> None:
    keys = ["--data", str(data), "--steps", "8", "--json"]
    (trained,) = example.main([*keys, "--loss", name])
    assert np.isfinite(trained["last_loss"])
    assert trained["steps"] == 8
    assert trained["train_images"] == 300
    assert 0 < trained["train_cpu_seconds"] < trained["cpu_seconds"]
    assert 0 <= trained["map@r"] <= trained["recall@1"] <= 1


def test_learning_beats_not_learning(example: Any, data: Path) -> None:
    figures = example.main(["--data", str(data), "--steps", "60", "--loss", "nt_xent", "--loss", "untrained"])
    learned, untrained = (line["map@r"] for line in figures)
    assert learned > untrained + 0.1


def test_what_the_results_file_holds_is_not_run_again(
    example: Any, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["--data", str(data), "--steps", "2", "--results", str(tmp_path / "results.jsonl"), "--loss", "raw_pixels"]
    first = example.main([*keys, "--json"])
    printed = capsys.readouterr().out
    assert [json.loads(line) for line in printed.splitlines()] == first
    measured: list[str] = []
    monkeypatch.setattr(example, "measured", lambda name, *_: {**first[0], "loss": measured.append(name) or name})
    assert example.main(keys) == first
    assert measured == []
    printed = capsys.readouterr().out
    assert f"| raw_pixels | {first[0]['recall@1']:.4f} | {first[0]['map@r']:.4f} |  |" in printed
    example.main([*keys, "--seed", "2", "--loss", "untrained"])
    assert measured == ["raw_pixels", "untrained"]
    assert len((tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()) == 3
