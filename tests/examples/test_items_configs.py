"""The example configurations of items alone run as they are, on few small images in the place of the real ones."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import runs, storage
from topkin.pipelines.cli.app import main

EXAMPLES = Path(__file__).parents[2] / "examples"
ONE_LINE = {
    "triplet": 'train.loss={ name = "triplet", margin = 0.2, miner = "semi_hard" }',
    "center": 'train.loss={ name = "center", weight = 0.5 }',
    "am_softmax": 'train.loss="am_softmax"',
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.parquet and test.parquet of ten kinds of noisy pictures, of the columns of Fashion-MNIST."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 200, (10, 7, 7)).repeat(4, axis=1).repeat(4, axis=2)
    for name, n in (("train", 400), ("test", 60)):
        which = rng.integers(0, 10, n)
        pixels = (kinds[which] + rng.integers(0, 56, (n, 28, 28))).astype(np.uint8)
        photos = pa.array([p.tobytes() for p in pixels], pa.binary(784))
        table = pa.table({"item_id": [f"{name}-{i:05d}" for i in range(n)], "image": photos})
        table = table.append_column("label_name", pa.array([f"kind {w}" for w in which]))
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def recall(name: str, images: Path, out: Path, *sets: str) -> float:
    """Recall@1 of the example's run."""
    paths = [f"items.path={images}/train.parquet", f"queries.path={images}/test.parquet", f"run.output={out}"]
    flags = [word for text in (*paths, "train.epochs=2", "run.parts=2", *sets) for word in ("--set", text)]
    assert main(["run", "--config", str(EXAMPLES / f"{name}.toml"), "--as-of", "2026-01-01", "-q", *flags]) == 0
    run = runs.published(str(out))
    assert run is not None
    metrics = storage.read_json(storage.join(run.folder("evaluate"), "metrics.json"))
    return float(metrics["retrieval"]["recall_any@1"])


def test_similar_images_are_found_and_shown(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recall("similar_images", images, tmp_path / "out") > 0.8
    capsys.readouterr()
    config = ["--config", str(EXAMPLES / "similar_images.toml"), "--set", f"run.output={tmp_path / 'out'}"]
    assert main(["show", *config, "train-00005"]) == 0
    assert "neighbours" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("loss", ONE_LINE)
def test_another_loss_is_one_line(images: Path, tmp_path: Path, loss: str) -> None:
    sampler = [] if loss == "triplet" else ["train.sampler="]
    assert recall("similar_images", images, tmp_path / "out", ONE_LINE[loss], *sampler) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["siamese", "self_supervised"])
def test_the_others_run_as_they_are(images: Path, tmp_path: Path, name: str) -> None:
    assert recall(name, images, tmp_path / "out") > 0.5
