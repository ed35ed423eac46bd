"""A similarity model from training to a saved index, on clouds of points with an obvious answer."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from topkin.artifacts import storage
from topkin.errors import ArtifactError
from topkin.models import losses, samplers
from topkin.models.metric_learning.losses.pair import MultiSimilarity
from topkin.models.metric_learning.losses.proxy import ArcFace
from topkin.models.similarity.index import Growth
from topkin.models.similarity.model import SimilarityModel

NAMES = ["boot", "coat", "bag", "shirt", "dress"]


def clouds(n: int, seed: int, classes: int = 5) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    noise = rng.normal(size=(n, 8)) * np.r_[np.full(5, 0.15), 3, 3, 3]
    return (np.eye(5, 8)[codes] + noise).astype(np.float32), [NAMES[c] for c in codes]


def encoder_of(dim: int = 4) -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8,))
    hidden = keras.layers.Dense(16, activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(dim)(hidden))


@pytest.fixture(scope="module")
def trained() -> SimilarityModel:
    model = SimilarityModel(encoder_of(), growth=Growth(graph_from=50))
    model.compile(keras.optimizers.Adam(0.02), loss=MultiSimilarity())
    x, labels = clouds(400, 0, classes=4)
    model.fit(x, labels, epochs=12, batch_size=80, verbose=0)
    model.index(x[:120], labels[:120], ids=[f"sku-{i}" for i in range(120)])
    return model


def test_training_makes_neighbours_alike(trained: SimilarityModel) -> None:
    x, labels = clouds(100, 5, classes=4)
    raw = SimilarityModel(encoder_of())
    raw.index(*clouds(120, 0, classes=4))
    metrics = trained.evaluate_retrieval(x, labels, ks=(1, 5))
    assert metrics["recall_any@1"] > 0.9 > raw.evaluate_retrieval(x, labels, ks=(1,))["recall_any@1"] + 0.1
    assert metrics["map@r"] <= metrics["r_precision"]
    assert metrics["knn_accuracy@1"] == pytest.approx(metrics["recall_any@1"])
    assert metrics["queries"] == 100


def test_lookup_gives_ids_labels_and_scores_in_order(trained: SimilarityModel) -> None:
    x, _ = clouds(120, 0, classes=4)
    lists = trained.lookup(x[:3], k=4)
    assert [len(row) for row in lists] == [4, 4, 4]
    assert lists[0][0].id == "sku-0"
    assert lists[0][0].score == pytest.approx(1)
    assert [n.rank for n in lists[0]] == [1, 2, 3, 4]
    assert all(a.score >= b.score for row in lists for a, b in pairwise(row))
    alone = trained.single_lookup(x[1], k=4)
    assert [n[:3] for n in alone] == [n[:3] for n in lists[1]]
    # A network's product of one row may differ in the last digit from that of three.
    assert [n.score for n in alone] == pytest.approx([n.score for n in lists[1]], abs=1e-6)


def test_a_calibrated_match_knows_what_it_does_not_know(trained: SimilarityModel) -> None:
    x, labels = clouds(400, 6)  # one class in five is not in the index
    calibration = trained.calibrate(x, labels, precision=0.95)
    assert calibration.precision >= 0.95
    matched = trained.match(x)
    accepted = [(m, t) for m, t in zip(matched, labels, strict=True) if m is not None]
    assert len(accepted) < 400
    assert np.mean([m == t for m, t in accepted]) == pytest.approx(calibration.precision)
    assert calibration.recall == trained.evaluate_classification(x, labels)["recall"]
    assert trained.match(x, threshold=-1.1).count(None) == 0
    assert trained.match(x, threshold=1.1) == [None] * 400


def test_a_class_added_after_training_is_found_without_a_rebuild(trained: SimilarityModel, tmp_path: Path) -> None:
    trained.save(str(tmp_path / "model"))
    model = SimilarityModel.load(str(tmp_path / "model"))
    x, labels = clouds(100, 7)
    new = [i for i, name in enumerate(labels) if name == "dress"]
    before = model.items.compactions
    model.index(x[new[:10]], ["dress"] * 10, ids=[f"new-{i}" for i in range(10)])
    assert model.items.compactions == before
    assert model.items.in_graph == 120
    got = model.match(x[new[10:]], threshold=-1.1)
    assert got.count("dress") > len(got) / 2
    model.remove([f"new-{i}" for i in range(10)])
    assert "dress" not in model.match(x[new], threshold=-1.1)


def test_a_saved_model_answers_the_same(trained: SimilarityModel, tmp_path: Path) -> None:
    x, labels = clouds(50, 8, classes=4)
    trained.calibrate(x, labels, precision=0.8)
    folder = str(tmp_path / "model")
    trained.save(folder)
    again = SimilarityModel.load(folder)
    assert again.lookup(x, k=3) == trained.lookup(x, k=3)
    assert again.match(x) == trained.match(x)
    again.save(folder, overwrite=True)
    again = SimilarityModel.load(folder)
    assert again.calibration is not None
    assert trained.calibration is not None
    for name, value in vars(trained.calibration).items():
        np.testing.assert_array_equal(getattr(again.calibration, name), value)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        again.save(folder)
    with open(tmp_path / "model" / "item.keras", "ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactError, match="changed"):
        SimilarityModel.load(folder)


def test_a_folder_of_another_is_never_replaced(trained: SimilarityModel, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="1 files"):
        trained.save(str(tmp_path), overwrite=True)
    assert storage.files(str(tmp_path)) == ["letter.txt"]
    folder = tmp_path / "model"
    trained.save(str(folder))
    for name in ("letter.txt", ".hidden", "index/letter.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
        with pytest.raises(FileExistsError, match="must be empty or new"):
            trained.save(str(folder), overwrite=True)
        assert (folder / name).read_text() == "mine"
        (folder / name).unlink()
    trained.save(str(folder), overwrite=True)


@pytest.mark.parametrize("make", [int, str, lambda c: b"%d" % c])
def test_a_loss_with_weights_gets_its_head_and_labels_of_any_type(make: Any) -> None:
    x, _ = clouds(60, 0, classes=3)
    labels = [make(7 * (i % 3)) for i in range(60)]
    model = SimilarityModel(encoder_of())
    model.compile("adam", loss=ArcFace())
    history = model.fit(x, labels, epochs=2, validation_data=(x[:9], labels[:9]), verbose=0)
    assert np.isfinite(history.history["val_loss"]).all()
    assert model.classes == labels[:3]
    model.index(x, labels)
    assert {n.label for row in model.lookup(x, k=1) for n in row} == set(labels)


def test_training_on_makes_the_index_stale() -> None:
    x, labels = clouds(40, 0)
    model = SimilarityModel(encoder_of())
    model.index(x, labels)
    model.compile("adam", loss=MultiSimilarity())
    model.fit(x, labels, epochs=1, verbose=0)
    for use in (lambda: model.lookup(x), lambda: model.index(x), lambda: model.save("/nowhere")):
        with pytest.raises(RuntimeError, match="reset_index"):
            use()
    model.reset_index()
    assert model.index(x[:3]) == [0, 1, 2]
    assert model.index(x[3:5]) == [3, 4]


@pytest.mark.parametrize("make", [str, lambda c: 7 - c], ids=["text", "numbers"])
def test_a_sampler_keeps_the_numbers_that_labels_had(make: Any) -> None:
    codes = np.arange(80) % 4
    x, labels = np.eye(8, dtype="float32")[codes], [make(c) for c in 3 - codes]
    model = SimilarityModel(encoder_of())
    model.compile(keras.optimizers.Adam(0.05), loss="proxy_nca_plus")
    before = model.fit(x, labels, epochs=30, verbose=0).history["loss"][-1]
    batches = samplers.ClassBatches(x, labels, classes=4, examples=4)
    after = model.fit(batches, verbose=0, validation_data=(x, labels)).history
    assert max(after["loss"] + after["val_loss"]) <= before < 0.1
    assert model.classes == labels[:4]
    assert batches.epoch > 0  # it moves on with the epochs
    with pytest.raises(ValueError, match="at most 4 classes, got 5"):
        model.fit(samplers.ClassBatches(x[:6], [*labels[:5], make(9)], classes=2), classes=4)


def test_labels_are_not_numbered_after_a_sampler_whose_numbers_were_taken_as_they_are() -> None:
    x, y = np.eye(8, dtype="float32")[np.arange(16) % 4], 3 - np.arange(16) % 4
    for loss, numbered in (("multi_similarity", False), ("proxy_nca_plus", True)):
        model = SimilarityModel(encoder_of())
        model.compile("adam", loss=loss)
        for _ in range(2):
            model.fit(samplers.ClassBatches(x, y, classes=4, examples=2), verbose=0)
        if numbered:
            with pytest.raises(ValueError, match="labels must go on as they began"):
                model.fit(x, y, verbose=0)
            model.compile("adam", loss=loss)
        assert model.fit(x, y, verbose=0).history["loss"]


def test_a_sampler_of_labels_below_0_trains() -> None:
    x, labels = np.eye(8, dtype="float32")[np.arange(16) % 2], np.arange(16) % 2 - 2
    model = SimilarityModel(encoder_of())
    model.compile("adam", loss="arcface")
    assert np.isfinite(model.fit(samplers.ClassBatches(x, labels, classes=2), verbose=0).history["loss"]).all()
    assert model.classes == [-2, -1]


def test_what_is_stored_is_a_copy_without_named_fields() -> None:
    x, labels = clouds(10, 0)
    model, want = SimilarityModel(encoder_of()), x[0].copy()
    model.index(x, labels, data=x)
    x[:] = 0
    np.testing.assert_array_equal(model.single_lookup(want, k=1)[0].data, want)
    with pytest.raises(TypeError, match=r"data must be numbers or text, got \[\('a', '<i4'\)\].*named fields"):
        model.index(x[:2], data=np.zeros(2, [("a", "i4")]))


def test_wrong_use_is_told(trained: SimilarityModel) -> None:
    x, labels = clouds(10, 0)
    with pytest.raises(ValueError, match="built Keras model"):
        SimilarityModel(keras.Sequential([keras.layers.Dense(3)]))
    model = SimilarityModel(encoder_of())
    with pytest.raises(RuntimeError, match=r"compile\(loss=…\)"):
        model.fit(x, labels)
    with pytest.raises(ValueError, match="needs a loss"):
        model.compile("adam")
    with pytest.raises(RuntimeError, match="it is empty"):
        model.lookup(x)
    with pytest.raises(ValueError, match="120, got 121"):
        trained.lookup(x, k=121)
    with pytest.raises(ValueError, match="2 labels for 10"):
        trained.calibrate(x, labels[:2])
    model.index(x)
    with pytest.raises(RuntimeError, match="call calibrate first"):
        model.match(x)
    model.compile("adam", loss=MultiSimilarity())
    with pytest.raises(ValueError, match="at most 2 classes, got 5"):
        model.fit(x, labels, classes=2)
    with pytest.raises(ValueError, match="must be trained on, got 'hat'"):
        model.fit(x, labels, validation_data=(x, ["hat"] * 10))


def test_what_users_of_tensorflow_similarity_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keras.utils.set_random_seed(2)
    x, labels = clouds(200, 3)
    inputs = keras.Input((8,))
    model = SimilarityModel(inputs, keras.layers.Dense(4)(keras.layers.Dense(16, activation="relu")(inputs)))
    model.summary()
    assert "Total params" in capsys.readouterr().out
    model.compile(keras.optimizers.Adam(0.02), loss=losses.MultiSimilarityLoss())
    batches = samplers.MultiShotMemorySampler(
        x, labels, classes_per_batch=5, examples_per_class_per_batch=8, steps_per_epoch=30
    )
    history = model.fit(batches, epochs=2, verbose=0, validation_data=(x[:50], labels[:50])).history
    assert len(history["val_loss"]) == 2
    np.testing.assert_array_equal(model.predict(x[:3]), model.embed(x[:3]))
    model.index(x=x[:100], y=labels[:100], data=x[:100])
    neighbours = model.single_lookup(x[0], k=2)
    np.testing.assert_array_equal(neighbours[0].data, x[0])
    assert repr(neighbours[0]).endswith("data=float32 (8,))")
    assert len(repr(model)) < 120

    others, wanted = clouds(100, 9)
    chosen = model.calibrate(others, wanted, precision=0.6)
    assert capsys.readouterr().out == f"{chosen}\n"
    assert str(chosen).startswith(f"threshold {chosen.threshold:.4f} (precision of at least 0.6): precision ")
    assert "array" not in repr(chosen)
    model.calibrate(others, wanted, precision=None, verbose=0)
    assert capsys.readouterr().out == ""
    figures = model.evaluate_classification(others, wanted)
    result = model.match(others, no_match="nothing")
    accepted = [t for t in result if t != "nothing"]
    assert figures["accepted"] == len(accepted) / 100
    assert figures["recall"] == sum(t == w for t, w in zip(result, wanted, strict=True)) / 100

    model.save(str(tmp_path / "model"))
    again = SimilarityModel.load(str(tmp_path / "model"))
    np.testing.assert_array_equal(again.single_lookup(x[0], k=1)[0].data, x[0])
    again.remove(neighbours[0].id)
    assert again.single_lookup(x[0], k=1)[0].id != neighbours[0].id
    with pytest.raises(ValueError, match="data must be one array for each input, got 2 for 3"):
        model.index(x[:3], labels[:3], data=x[:2])
    with pytest.raises(TypeError, match="data must be numbers or text, got object"):
        model.index(x[:1], labels[:1], data=[{"a": 1}])
    assert len(model.items) == 100


def test_losses_and_samplers_go_by_their_names() -> None:
    x, labels = clouds(120, 0)
    model = SimilarityModel(encoder_of())
    model.compile("adam", loss="soft_triple")
    assert model.fit(x, labels, sampler="class_batches", verbose=0).history["loss"]
    model.compile("adam", loss="multi_similarity")
    table = {"name": "class_batches", "classes": 3, "examples": 4}
    assert model.fit(x, labels, sampler=table, verbose=0).history["skipped"] == [0]
    model.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match=r"loss must be one of .*, got 'tripel'; did you mean 'triplet'\?"):
        model.compile("adam", loss="tripel")
    with pytest.raises(ValueError, match=r"sampler must be one of .* did you mean 'class_batches'"):
        model.fit(x, labels, sampler="class_batch", verbose=0)
    model.compile("adam", loss="arcface")
    assert model.fit(samplers.ClassBatches(x, labels, classes=5), verbose=0).history["loss"]


def test_a_call_without_half_of_what_it_needs_is_explained() -> None:
    x, labels = clouds(20, 0)
    inputs = keras.Input((8,))
    with pytest.raises(ValueError, match=r"got KerasTensor alone: give SimilarityModel\(inputs, outputs\)"):
        SimilarityModel(inputs)
    model = SimilarityModel(inputs, keras.layers.Dense(4)(inputs))
    model.compile("adam", loss="nt_xent")
    for call in ({}, {"sampler": "class_batches"}):
        with pytest.raises(ValueError, match=r"fit needs labels beside inputs, got none: fit\(x, y\)"):
            model.fit(x, **call)
    assert model.fit(x, labels, verbose=0).history["loss"]
    with pytest.raises(TypeError, match=r"data must be an array \(n, ...\) or a list of them, got int"):
        model.index(x, labels, data=3)
