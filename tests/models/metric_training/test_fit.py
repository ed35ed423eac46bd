"""A training of an items run: what it learns, what it writes, that a killed one goes on, what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.models.metric_training.conftest import DIM, image_items, vector_items
from tests.quick import some
from topkin.config.items_train import ItemsTrainSettings
from topkin.config.metric_parts import LOSSES
from topkin.encoding.inputs import InputChoice
from topkin.errors import ConfigError, InputError
from topkin.models import KerasEncoder
from topkin.models.metric_training.fit import fit
from topkin.models.metric_training.objective import check_parts

Parts = Callable[..., list[str]]
SIZE = {"size": InputChoice()}
NESTED: dict[str, dict[str, Any]] = {
    "weighted_sum": {"losses": ["nt_xent", {"name": "triplet", "margin": 0.2, "miner": "semi_hard"}]},
    "cross_batch_memory": {"loss": "nt_xent", "size": 96},
}


def settings(**keys: Any) -> ItemsTrainSettings:
    defaults = {"method": "labels", "epochs": 3, "batch_size": 48, "validation_share": 0.2, "dim": 16}
    return ItemsTrainSettings.model_validate({**defaults, **keys})


def run(paths: list[str], out: Path, inputs: dict[str, InputChoice] = SIZE, **keys: Any) -> dict[str, Any]:
    how = {name: keys.pop(name) for name in ("scratch", "start_from", "on_epoch", "seed") if name in keys}
    return fit(settings(**keys), paths, inputs, str(out), **{"seed": 3, **how})


def vectors_of(out: Path, table: pa.Table) -> np.ndarray:
    return KerasEncoder.load(str(out / "encoder")).embed(table).vectors


def test_labels_teach_an_encoder_that_the_pipeline_runs(parts: Parts, tmp_path: Path) -> None:
    summary = run(parts(vector_items()), tmp_path, epochs=12)
    unseen = vector_items(seed=1)
    vectors = vectors_of(tmp_path, unseen)
    labels = np.array(unseen["label"])
    raw = np.array(unseen["size"].to_pylist())

    def recall(x: np.ndarray) -> float:
        scores = x @ x.T / np.linalg.norm(x, axis=1) / np.linalg.norm(x, axis=1)[:, None]
        np.fill_diagonal(scores, -np.inf)
        return float((labels[scores.argmax(axis=1)] == labels).mean())

    assert vectors.shape == (len(unseen), 16)
    assert recall(vectors) > recall(raw) + 0.05
    assert summary["validation"]["recall@1"] > 0.8
    assert (summary["items"], summary["labels"], summary["validation_items"]) == (144, 6, 36)
    assert json.loads((tmp_path / "training.json").read_text())["curve"][-1]["epoch"] == summary["epochs"]
    assert list((tmp_path / "logs").rglob("events.out.tfevents.*"))


def test_images_are_read_from_raw_pixels_without_a_size(parts: Parts, tmp_path: Path) -> None:
    table = image_items()
    summary = run(parts(table), tmp_path, {"image": InputChoice(column="photo")}, epochs=8, augment=["flip"])
    assert summary["validation"]["recall@1"] > 0.9
    encoder = KerasEncoder.load(str(tmp_path / "encoder"))
    assert [(i.column, i.shape, i.dtype) for i in encoder.signature.inputs] == [("photo", (8, 8, 1), "uint8")]


def test_an_image_and_its_mirror_image_are_served_as_one(parts: Parts, tmp_path: Path) -> None:
    table = image_items()
    pixels = np.frombuffer(table["image"].combine_chunks().buffers()[1], np.uint8).reshape(-1, 8, 8, 1)
    served = {}
    for name, keys in {"mirrored": {}, "alone": {"mirror": False}, "unflipped": {"augment": ["shift"]}}.items():
        run(parts(table), tmp_path / name, {"image": InputChoice()}, epochs=1, **keys)
        encoder = KerasEncoder.load(str(tmp_path / name / "encoder"))
        served[name] = [encoder.encode({"image": x}) for x in (pixels, np.ascontiguousarray(pixels[:, :, ::-1]))]
    np.testing.assert_allclose(*served["mirrored"], atol=1e-5)
    mean = sum(served["alone"])
    np.testing.assert_allclose(served["mirrored"][0], mean / np.linalg.norm(mean, axis=1)[:, None], atol=1e-5)
    for name in ("alone", "unflipped"):
        assert np.abs(served[name][0] - served[name][1]).max() > 0.01


@pytest.mark.parametrize("loss", some(LOSSES, 4))
def test_every_loss_trains_on_labels(loss: str, parts: Parts, tmp_path: Path) -> None:
    summary = run(parts(vector_items()), tmp_path, epochs=1, loss={"name": loss, **NESTED.get(loss, {})})
    assert summary["loss"] == loss
    assert np.isfinite(vectors_of(tmp_path, vector_items(seed=1))).all()


@pytest.mark.parametrize(
    "learner", ["simclr", "byol", "vicreg", "barlow_twins", "sim_siam", {"name": "swav", "prototypes": 8}]
)
def test_every_learner_trains_without_labels(learner: Any, parts: Parts, tmp_path: Path) -> None:
    table = vector_items().drop_columns("label")
    summary = run(parts(table), tmp_path, method="self_supervised", learner=learner, epochs=2, dim=6)
    assert set(summary["validation"]) == {"view_recall@1"}
    assert vectors_of(tmp_path, table).shape == (len(table), 6)


def test_labels_only_measure_a_training_without_them(parts: Parts, tmp_path: Path) -> None:
    table = vector_items()
    other = table.set_column(1, "label", table["label"].take(np.random.default_rng(0).permutation(len(table))))
    vectors = []
    for number, each in enumerate((table, other)):
        summary = run(parts(each), tmp_path / str(number), method="self_supervised", epochs=1)
        assert "knn_accuracy@10" in summary["validation"]
        vectors.append(vectors_of(tmp_path / str(number), table))
    np.testing.assert_array_equal(*vectors)


@pytest.mark.parametrize("loss", some([name for name, part in LOSSES.items() if part.reads != "classes"], 3))
def test_every_loss_without_classes_trains_on_pairs(loss: str, parts: Parts, tmp_path: Path) -> None:
    ids = vector_items()["item_id"]
    pq.write_table(pa.table({"first": ids[:-6], "second": ids[6:]}), tmp_path / "pairs.parquet")
    pairs = {"path": str(tmp_path / "pairs.parquet")}
    result = run(
        parts(vector_items()), tmp_path, method="pairs", pairs=pairs, epochs=1, batch_size=24,
        loss={"name": loss, **NESTED.get(loss, {})},
    )  # fmt: skip
    assert result["pairs"] + result["validation_pairs"] == len(ids) - 6
    assert 0 <= result["validation"]["recall@10"] <= 1


def test_a_killed_training_goes_on_and_ends_where_the_whole_one_does(parts: Parts, tmp_path: Path) -> None:
    paths, scratch = parts(vector_items()), str(tmp_path / "scratch")
    whole = run(paths, tmp_path / "whole", epochs=4)

    def killed(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(paths, tmp_path / "out", epochs=4, scratch=scratch, on_epoch=killed)
    epochs: list[int] = []
    again = run(paths, tmp_path / "out", epochs=4, scratch=scratch, on_epoch=lambda r: epochs.append(r["epoch"]))
    assert epochs == [1, 2, 3, 4]
    assert again["validation"] == whole["validation"]
    unseen = vector_items(seed=1)
    np.testing.assert_array_equal(vectors_of(tmp_path / "out", unseen), vectors_of(tmp_path / "whole", unseen))


def test_the_same_seed_gives_the_same_encoder_and_another_one_another(parts: Parts, tmp_path: Path) -> None:
    paths = parts(vector_items())
    vectors = []
    for number, seed in enumerate((5, 5, 6)):
        run(paths, tmp_path / str(number), seed=seed, epochs=1)
        vectors.append(vectors_of(tmp_path / str(number), vector_items(seed=1)))
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert np.abs(vectors[0] - vectors[2]).max() > 0.01


def test_columns_that_do_not_fit_in_memory_train_the_same_encoder(parts: Parts, tmp_path: Path) -> None:
    paths = parts(image_items(), row_group_size=7)
    inputs = {"image": InputChoice()}
    run(paths, tmp_path / "held", inputs, epochs=1)
    run(paths, tmp_path / "mapped", inputs, epochs=1, memory=1e-9, scratch=str(tmp_path / "scratch"))
    assert (tmp_path / "scratch" / "column-0.npy").exists()
    held, mapped = (vectors_of(tmp_path / name, image_items()) for name in ("held", "mapped"))
    np.testing.assert_array_equal(held, mapped)


def test_training_starts_from_a_model_that_is_given(parts: Parts, tmp_path: Path) -> None:
    inputs = keras.Input((DIM,), name="sizes")
    model = keras.Model(inputs, keras.layers.Dense(5, use_bias=False)(inputs))
    model.save(tmp_path / "mine.keras")
    start = str(tmp_path / "mine.keras")
    summary = run(parts(vector_items()), tmp_path, start_from=start, dim=None, epochs=1, learning_rate=1e-6)
    assert summary["dim"] == 5
    trained = keras.saving.load_model(tmp_path / "encoder" / "item.keras")
    np.testing.assert_allclose(trained.get_weights()[0], model.get_weights()[0], atol=1e-4)
    assert [i.name for i in KerasEncoder.load(str(tmp_path / "encoder")).signature.inputs] == ["sizes"]


def test_training_stops_where_nothing_is_left_to_gain_and_keeps_weights_as_good_as_any(
    parts: Parts, tmp_path: Path
) -> None:
    easy = vector_items()
    apart = np.eye(6, DIM, dtype=np.float32)[np.arange(len(easy)) % 6]
    vectors = pa.FixedSizeListArray.from_arrays(apart.ravel(), DIM)
    summary = run(parts(easy.set_column(2, "size", vectors)), tmp_path, epochs=40, patience=2)
    curve = json.loads((tmp_path / "training.json").read_text())["curve"]
    scores = [record["recall@1"] for record in curve]
    assert summary["epochs"] == len(curve) < 40
    assert scores[summary["best_epoch"] - 1] == max(scores)
    assert summary["validation"]["recall@1"] == pytest.approx(max(scores))
    assert any(f"the weights are those of epoch {summary['best_epoch']}" in note for note in summary["notes"])


def test_items_without_a_label_and_rows_that_cannot_be_given_are_left_out_and_told(
    parts: Parts, tmp_path: Path
) -> None:
    table = vector_items()
    labels = [None if n < 10 else label for n, label in enumerate(table["label"].to_pylist())]
    sizes = [None if n == 20 else value for n, value in enumerate(table["size"].to_pylist())]
    table = pa.table({"item_id": table["item_id"], "label": labels, "size": pa.array(sizes, pa.list_(pa.float32()))})
    notes = run(parts(table), tmp_path, epochs=1)["notes"]
    assert "10 items have no label and are left out of training" in notes
    assert "1 items are left out of training: size is missing" in notes


def test_batches_of_one_class_are_skipped_and_counted(parts: Parts, tmp_path: Path) -> None:
    table = vector_items()
    labels = ["rare" if n % 45 == 0 else "usual" for n in range(len(table))]
    table = table.set_column(1, "label", pa.array(labels))
    sampler = {"name": "row_batches", "batch_size": 8}
    summary = run(parts(table), tmp_path, epochs=2, loss="triplet", sampler=sampler, validation_share=0)
    [note] = [note for note in summary["notes"] if "of one class" in note]
    assert int(note.split()[0]) > 10


@pytest.mark.parametrize(
    ("labels", "part"),
    [
        (lambda n: None, "needs labels, none of 180 items has one: name their column as items.label"),
        (lambda n: "cup", "needs two labels, all 180 items have 'cup'"),
        (lambda n: f"l{n}", "one with two items to learn from"),
    ],
)
def test_labels_that_teach_nothing_are_refused(labels: Any, part: str, parts: Parts, tmp_path: Path) -> None:
    table = vector_items()
    column = pa.array([labels(n) for n in range(len(table))], pa.string())
    with pytest.raises(InputError, match=part):
        run(parts(table.set_column(1, "label", column)), tmp_path)


def test_an_argument_out_of_its_range_and_a_loss_that_bursts_name_their_key(parts: Parts, tmp_path: Path) -> None:
    paths = parts(vector_items())
    with pytest.raises(ConfigError, match=r"train\.loss = 'nt_xent': temperature must be above 0"):
        run(paths, tmp_path, loss={"name": "nt_xent", "temperature": -1})
    with pytest.raises(ConfigError, match=r"train\.sampler = 'class_batches': classes must be at most the 6"):
        run(paths, tmp_path, loss="triplet", sampler={"name": "class_batches", "classes": 7, "examples": 2})


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"loss": {"name": "nt_xent", "temperature": -1}}, r"train\.loss = 'nt_xent': temperature must be above 0"),
        ({"loss": "triplet", "miner": {"name": "triplet_margin", "kind": "hardest"}}, r"train\.loss\.miner = "),
        ({"loss": {"name": "cross_batch_memory", "loss": "arcface"}}, "needs a loss over pairs or triplets"),
        (
            {"method": "self_supervised", "learner": {"name": "byol", "momentum": 2}},
            r"train\.learner = 'byol': momentum",
        ),
    ],
)
def test_check_finds_an_argument_out_of_its_range(keys: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        check_parts(settings(**keys))
