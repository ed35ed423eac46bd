"""What is trained by metric learning is an encoder that a table is embedded by."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import storage
from topkin.artifacts.embeddings import vectors_of
from topkin.config.load import load_encoder_run
from topkin.config.reference import as_toml
from topkin.encoding.signature import read_signature
from topkin.errors import InputError
from topkin.models import (
    HistoryCrops,
    KerasEncoder,
    MetricEmbedding,
    Siamese,
    SimCLR,
    SimilarityModel,
    dssm,
    mlp,
    ngram_encoder,
    ngram_rows,
    save_encoder,
    small_cnn,
)
from topkin.pipelines.encode.table import embed_table

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), dtype=np.uint8)


def embedded(folder: Path, out: Path, items: pa.Table, *sets: str) -> np.ndarray:
    pq.write_table(items, folder.parent / "items.parquet")
    flags = {"encoder.path": str(folder), "items.path": str(folder.parent / "items.parquet"), "items.item_id": "sku"}
    settings = load_encoder_run(None, (), [*(f"{key}={as_toml(value)}" for key, value in flags.items()), *sets], {})
    assert settings is not None
    embed_table(settings, str(out))
    return vectors_of(storage.read_parts(str(out / "items")))


@pytest.mark.parametrize("kind", ["bytes", "list", "fixed list"])
def test_a_saved_similarity_model_embeds_a_table_of_images(tmp_path: Path, kind: str) -> None:
    model = SimilarityModel(small_cnn((8, 8, 1), widths=(4, 8)))
    model.index(PIXELS, ids=[f"sku-{n}" for n in range(12)])
    model.save(str(tmp_path / "saved"))
    flat = pa.array(PIXELS.reshape(-1))
    photos = {
        "bytes": pa.array([image.tobytes() for image in PIXELS]),
        "list": pa.array([image.reshape(-1) for image in PIXELS]),
        "fixed list": pa.FixedSizeListArray.from_arrays(flat, 64),
    }[kind]
    items = pa.table({"sku": [f"sku-{n}" for n in range(12)], "photo": photos})
    vectors = embedded(tmp_path / "saved", tmp_path / "out", items, "encoder.inputs.x=photo")
    np.testing.assert_allclose(vectors, model.encoder.predict(PIXELS, verbose=0), atol=1e-5)
    hashes = {read_signature(str(folder)).hash for folder in (tmp_path / "saved", tmp_path / "out" / "encoder")}
    assert hashes == {storage.read_json(str(tmp_path / "saved" / "similarity.json"))["encoder"]}
    again = SimilarityModel.load(str(tmp_path / "saved"))
    assert again.single_lookup(PIXELS[3], k=1)[0].id == "sku-3"


def test_a_length_that_the_model_leaves_open_is_asked_for_when_a_table_is_embedded(tmp_path: Path) -> None:
    texts = ["red lantern", "blue lamp", "tea"]
    rows = ngram_rows(texts, buckets=50, width=20)
    model = SimilarityModel(ngram_encoder(buckets=50, dim=4))
    model.index(rows, ids=texts)
    model.save(str(tmp_path / "saved"))
    np.testing.assert_array_equal(SimilarityModel.load(str(tmp_path / "saved")).embed(rows), model.embed(rows))
    items = pa.table({"sku": texts, "grams": list(rows)})
    with pytest.raises(InputError, match="set length"):
        embedded(tmp_path / "saved", tmp_path / "out", items, "encoder.inputs.x=grams")
    how = "encoder.inputs.x={column = 'grams', kind = 'categories', length = 20}"
    vectors = embedded(tmp_path / "saved", tmp_path / "out", items, how)
    np.testing.assert_allclose(vectors, model.encoder.predict(rows, verbose=0), atol=1e-6)


def tower() -> keras.Model:
    inputs = keras.Input((64,), name="x")
    return keras.Model(inputs, MetricEmbedding(3)(keras.layers.Dense(5)(inputs)))


def history_encoder() -> keras.Model:
    inputs = keras.Input((64,), dtype="int64", name="x")
    return keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(256, 8)(inputs)))


ENCODERS = {
    "siamese": lambda: Siamese(mlp((64,), units=(4,))).encoder,
    "dssm": lambda: dssm(tower(), tower()).right,
    "self_supervised": lambda: SimCLR(history_encoder(), HistoryCrops()).encoder,
}


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_of_any_learner_is_written_and_run_over_a_table(name: str, tmp_path: Path) -> None:
    encoder, rows = ENCODERS[name](), PIXELS.reshape(12, -1)
    save_encoder(encoder, str(tmp_path / name), {"x": "v"})
    vectors = KerasEncoder.load(str(tmp_path / name)).embed(pa.table({"v": list(rows)}))
    np.testing.assert_allclose(vectors.vectors, encoder.predict(rows, verbose=0), atol=1e-5)


def test_a_saved_model_is_an_encoder_in_another_process(tmp_path: Path) -> None:
    model = SimilarityModel(tower())
    rows = np.random.default_rng(1).random((5, 64)).astype("f4")
    model.index(rows)
    model.save(str(tmp_path / "saved"))
    np.save(tmp_path / "rows.npy", rows)
    check = (
        "import sys, numpy as np, pyarrow as pa\n"
        "from topkin.models import KerasEncoder, SimilarityModel\n"
        "rows = np.load(sys.argv[1] + '/rows.npy')\n"
        "found = KerasEncoder.load(sys.argv[1] + '/saved').embed(pa.table({'x': list(rows)}))\n"
        "assert [n.id for n in SimilarityModel.load(sys.argv[1] + '/saved').single_lookup(rows[2], k=1)] == [2]\n"
        "np.save(sys.argv[1] + '/out.npy', found.vectors)\n"
    )
    done = subprocess.run([sys.executable, "-c", check, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), model.encoder.predict(rows, verbose=0), atol=1e-6)
