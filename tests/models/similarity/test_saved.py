"""What is saved loads in another process, which imported one name; what would not is refused when it is saved."""

import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import topkin.models
from topkin.models import (
    BYOL,
    HistoryCrops,
    MetricEmbedding,
    Siamese,
    SimCLR,
    SimilarityModel,
    dssm,
    losses,
    mlp,
    ngram_encoder,
    small_cnn,
    small_resnet,
    whitened,
)
from topkin.models.ops import registered

for module in pkgutil.walk_packages(topkin.models.__path__, "topkin.models."):
    importlib.import_module(module.name)
REGISTERED = {n: kind for n, kind in keras.saving.get_custom_objects().items() if n.startswith("topkin>")}

TABLE = {"items": 3, "dim": 2, "word_buckets": 4, "title_words": 2, "categories": 2, "price_steps": 2}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "CrossBatchMemory": {"loss": losses.NTXent(), "size": 4, "dim": 2},
    "WeightedSum": {"losses": [losses.NTXent(), losses.Triplet()]},
    "PopularHard": {"counts": [3, 1]},
    "Proxies": {"classes": 3},
    "Centres": {"classes": 3},
    "SubCentres": {"classes": 3},
    "SoftCentres": {"classes": 3},
    "HistoryRows": {"items": 3, "width": 2, "places": 4, "ages": True},
    "KnownItems": {"items": 3, "looked_up": True},
    "MeanOfRows": {"buckets": 5, "dim": 2},
    "RowTable": {"rows": 3, "dim": 2},
    "Projection": {"inputs": 3, "dim": 2},
    "Siamese": {"encoder": mlp((2, 2, 1), units=(3,))},
    "Towers": {"towers": []},
}


def one_of(name: str, kind: type) -> Any:
    arguments = ARGUMENTS.get(name, {})
    if name == "TwoTower":
        import inspect

        wanted = inspect.signature(kind).parameters
        arguments = {n: TABLE.get(n, 2) for n, p in wanted.items() if p.default is p.empty and p.kind is p.KEYWORD_ONLY}
    return kind(**arguments)


CHECK = """
import json, sys
from topkin.models import SimilarityModel
import keras
folder = sys.argv[1]
out = {"registered": sorted(n for n in keras.saving.get_custom_objects() if n.startswith("topkin>")), "parts": {}}
for name, config in json.load(open(folder + "/parts.json")).items():
    out["parts"][name] = type(keras.saving.deserialize_keras_object(config)).__name__
import numpy as np
rows = np.load(folder + "/rows.npz")
out["models"] = {}
for name in rows.files:
    model = keras.saving.load_model(f"{folder}/{name}.keras", safe_mode=True)
    x = [rows[name]] * len(model.inputs)
    y = model.predict(x if len(x) > 1 else x[0], verbose=0)
    out["models"][name] = np.asarray(y).ravel().tolist()
model = SimilarityModel.load(folder + "/things")
out["items"] = [n.label for n in model.single_lookup(np.eye(4)[2], k=2)]
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Models, parts and a similarity model, saved here; what another process, that imported one name, makes of them."""
    folder = tmp_path_factory.mktemp("saved")
    parts = {n: keras.saving.serialize_keras_object(one_of(kind.__name__, kind)) for n, kind in REGISTERED.items()}
    (folder / "parts.json").write_text(json.dumps(parts))
    want, rows = {}, {}
    for name, (model, x) in models().items():
        model.save(folder / f"{name}.keras")
        rows[name] = x
        want[name] = np.asarray(
            model.predict([x] * len(model.inputs) if len(model.inputs) > 1 else x, verbose=0)
        ).ravel()
    np.savez(folder / "rows.npz", **rows)
    inputs = keras.Input((4,))
    things = SimilarityModel(keras.Model(inputs, MetricEmbedding(3, seed=1)(inputs)))
    things.index(np.eye(4, dtype="float32"), ["a", "b", "c", "d"])
    things.save(str(folder / "things"))
    done = subprocess.run([sys.executable, "-c", CHECK, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return {**json.loads(done.stdout.splitlines()[-1]), "want": want}


def models() -> dict[str, tuple[keras.Model, np.ndarray]]:
    rng = np.random.default_rng(0)
    rows, images = rng.normal(size=(3, 4)).astype("float32"), rng.integers(0, 255, (3, 8, 8, 1)).astype("uint8")
    numbers = rng.integers(1, 9, (3, 6))

    def encoder() -> keras.Model:
        inputs = keras.Input((4,))
        return keras.Model(inputs, MetricEmbedding(3)(keras.layers.Dense(5)(inputs)))

    trained = keras.Model(*(lambda e: (e.input, losses.ArcFace().head(classes=3)(e.output)))(encoder()))
    trained.compile("adam", loss=losses.WeightedSum([losses.ArcFace(), losses.CosFace()]))
    trained.fit(rows, np.arange(3), verbose=0)
    several = keras.Model(*(lambda e: (e.input, losses.SoftTriple(2).head(classes=3)(e.output)))(encoder()))
    histories = keras.Input((6,), dtype="int64")
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(20, 8, mask_zero=True)(histories))
    return {
        "encoder": (encoder(), rows),
        "with_head_and_loss": (trained, rows),
        "several_proxies": (several, rows),
        "whitened": (whitened(encoder(), rows, dim=2), rows),
        "siamese": (Siamese(encoder()), rows),
        "pairs": (dssm(encoder(), encoder()).model, rows),
        "left": (dssm(encoder(), encoder()).left, rows),
        "ngrams": (ngram_encoder(buckets=9, dim=2), numbers),
        "mlp": (mlp((8, 8, 1), units=(4,)), images),
        "cnn": (small_cnn((8, 8, 1), widths=(2, 3)), images),
        "resnet": (small_resnet((8, 8, 1), widths=(2, 3)), images),
        "simclr": (SimCLR(keras.Model(histories, pooled), HistoryCrops()).encoder, numbers),
        "byol": (BYOL(keras.Model(histories, MetricEmbedding(3)(pooled)), HistoryCrops()).encoder, numbers),
    }


def test_one_import_makes_every_class_known(elsewhere: dict[str, Any]) -> None:
    assert elsewhere["registered"] == sorted(REGISTERED)
    assert len(REGISTERED) > 50


def test_the_list_of_modules_is_that_of_the_registered_classes() -> None:
    modules = {kind.__module__.removeprefix("topkin.models.") for kind in REGISTERED.values()}
    inside = {m for m in modules if not m.startswith("metric_learning.losses.")} | {"metric_learning.losses"}
    assert inside == set(registered.MODULES)


@pytest.mark.parametrize("name", REGISTERED)
def test_a_part_of_each_class_loads_in_another_process(name: str, elsewhere: dict[str, Any]) -> None:
    assert elsewhere["parts"][name] == REGISTERED[name].__name__


def test_models_answer_the_same_in_another_process(elsewhere: dict[str, Any]) -> None:
    assert set(elsewhere["models"]) == set(elsewhere["want"])
    for name, want in elsewhere["want"].items():
        np.testing.assert_allclose(elsewhere["models"][name], want, atol=1e-5, err_msg=name)


def test_a_similarity_model_loads_where_nothing_else_was_imported(elsewhere: dict[str, Any]) -> None:
    assert elsewhere["items"][0] == "c"


class Unregistered(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return x


@keras.saving.register_keras_serializable("tests")
class Forgetful(keras.layers.Layer):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def call(self, x: Any) -> Any:
        return x[:, : self.width]


@keras.saving.register_keras_serializable("tests")
class Drawn(keras.layers.Layer):
    def build(self, shape: Any) -> None:
        self.scale = self.add_weight((), "random_normal", name="scale")

    def call(self, x: Any) -> Any:
        return x * self.scale

    def save_own_variables(self, store: Any) -> None:
        return

    def load_own_variables(self, store: Any) -> None:
        return


def swish_of_mine(x: Any) -> Any:
    return x * keras.ops.sigmoid(x)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            lambda: keras.layers.Lambda(lambda x: 2 * x, name="double"),
            r"fails by double \(Lambda\): write such a layer",
        ),
        (lambda: Unregistered(name="mine"), r"fails by mine \(Unregistered\): .*register_keras_serializable\(\)"),
        (lambda: Forgetful(3), "fails by TypeError"),
        (Drawn, "must come back from its file with its weights, got others"),
        (lambda: keras.layers.Dense(3, activation=swish_of_mine), "fails by Could not locate function 'swish_of_mine'"),
        (
            lambda: keras.Sequential([keras.layers.Lambda(lambda x: x, name="within")]),
            r"fails by within \(Lambda\)",
        ),
    ],
)
def test_what_cannot_be_read_again_is_refused_by_save(
    layer: Callable[[], keras.layers.Layer], message: str, tmp_path: Path
) -> None:
    inputs = keras.Input((4,))
    model = SimilarityModel(keras.Model(inputs, keras.layers.Dense(3)(layer()(inputs))))
    with pytest.raises(ValueError, match=message) as raised:
        model.save(str(tmp_path / "things"))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_learner_says_what_to_save(tmp_path: Path) -> None:
    histories = keras.Input((6,), dtype="int64")
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(20, 8)(histories))
    with pytest.raises(TypeError, match=r"a SimCLR cannot be saved.*save its encoder, SimCLR\.encoder"):
        SimCLR(keras.Model(histories, pooled), HistoryCrops()).save(tmp_path / "learner.keras")
