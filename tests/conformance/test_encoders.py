"""What every encoder must do, whatever its model and the kinds of its inputs: one suite for all."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import vectors_of
from topkin.encoding.signature import read_signature
from topkin.ingest.folders.file import File
from topkin.models import KerasEncoder, MetricEmbedding, history_encoder, ngram_encoder, save_encoder, small_cnn
from topkin.pipelines.engine.job import run_pipeline
from topkin.transforms.encode import EncodeInputs, EncodeTable

ROWS = 50
WORDS = ("red", "green", "lantern", "cup", "plate", "of", "tea")


class Case(NamedTuple):
    """A model, the columns that feed it, and the same rows as ``model.predict`` takes them."""

    model: keras.Model
    inputs: dict[str, Any]
    columns: dict[str, pa.Array]
    feeds: Any


def png(pixels: np.ndarray) -> bytes:
    return bytes(tf.io.encode_png(pixels).numpy())


def texts(rng: np.random.Generator) -> list[str]:
    return [" ".join(rng.choice(WORDS, rng.integers(1, 6))) for _ in range(ROWS)]


def raw_images(rng: np.random.Generator) -> Case:
    inputs = keras.Input((8, 8, 1), name="image")
    model = keras.Model(inputs, MetricEmbedding(5, seed=1)(small_cnn((8, 8, 1), widths=(4, 8), seed=1)(inputs)))
    pixels = rng.integers(0, 256, (ROWS, 8, 8, 1), dtype=np.uint8)
    return Case(model, {"image": "photo"}, {"photo": pa.array([p.tobytes() for p in pixels], pa.binary(64))}, pixels)


def image_files(rng: np.random.Generator) -> Case:
    """Files of other sizes, resized; the model takes any size and has a dict of inputs."""
    inputs = keras.Input((None, None, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3)(keras.layers.Rescaling(1 / 255)(inputs)))
    pixels = [rng.integers(0, 256, (12, 9 + n % 3, 3), dtype=np.uint8) for n in range(ROWS)]
    resized = np.stack([tf.image.resize(p, (10, 8)).numpy() for p in pixels])
    column = {"file": pa.array([png(p) for p in pixels])}
    return Case(
        keras.Model({"image": inputs}, x), {"image": {"column": "file", "size": (10, 8)}}, column, {"image": resized}
    )


def titles(rng: np.random.Generator) -> Case:
    words = keras.layers.TextVectorization(vocabulary=list(WORDS), output_sequence_length=6)
    layers = [keras.Input((), dtype="string"), words, keras.layers.Embedding(12, 4), keras.layers.Flatten()]
    titles = texts(rng)
    model = keras.Sequential([*layers, keras.layers.Dense(3)])
    return Case(model, {"text": "title"}, {"title": pa.array(titles)}, tf.constant(titles))


def ngrams(rng: np.random.Generator) -> Case:
    lists = [rng.integers(1, 101, rng.integers(0, 7)).tolist() for _ in range(ROWS)]
    padded = np.array([row[:4] + [0] * (4 - len(row[:4])) for row in lists], np.int32)
    return Case(ngram_encoder(buckets=100, dim=6, seed=1), {"grams": {"length": 4}}, {"grams": pa.array(lists)}, padded)


def prices_and_categories(rng: np.random.Generator) -> Case:
    """Numbers as they are and through SQL, strings and integers through lookups inside the model."""
    price, stock = keras.Input((), name="price"), keras.Input((1,), name="stock")
    colour, shop = keras.Input((1,), dtype="string", name="colour"), keras.Input((), dtype="int64", name="shop")
    colours = keras.layers.StringLookup(vocabulary=["red", "green"], output_mode="one_hot")(colour)
    shops = keras.layers.IntegerLookup(vocabulary=[7, 8], output_mode="one_hot")(shop)
    columns = [keras.layers.Reshape((1,))(price), stock, colours, shops]
    model = keras.Model([price, stock, colour, shop], keras.layers.Dense(4)(keras.layers.Concatenate()(columns)))
    values = rng.random(ROWS), rng.integers(0, 9, ROWS), rng.choice(WORDS, ROWS), rng.integers(6, 9, ROWS)
    table = dict(zip(("cost", "stock", "colour", "shop"), map(pa.array, values), strict=True))
    feeds = [
        np.log1p(values[0]).astype("f4"),
        values[1][:, None].astype("f4"),
        tf.constant(values[2][:, None]),
        values[3],
    ]
    return Case(model, {"price": "ln(cost + 1)"}, table, feeds)


def vectors(rng: np.random.Generator) -> Case:
    rows = rng.standard_normal((ROWS, 6)).astype(np.float32)
    inputs = keras.Input((6,), name="vector")
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 6)
    return Case(keras.Model(inputs, keras.layers.UnitNormalization()(inputs)), {}, {"vector": column}, rows)


def histories(rng: np.random.Generator) -> Case:
    """Of any length, with times, in buckets."""
    model = history_encoder([f"b{n}" for n in range(20)], 6, length=24, seed=1)
    lengths = rng.integers(0, 30, ROWS)
    items = [[f"b{n}" for n in rng.integers(0, 25, length)] for length in lengths]
    ages = [np.sort(rng.random(length) * 90)[::-1].tolist() for length in lengths]
    padded = [
        [row[-24:] + [nothing] * (24 - len(row[-24:])) for row in rows] for rows, nothing in ((items, ""), (ages, 0.0))
    ]
    inputs = {name: {"column": column, "kind": "history", "length": 24} for name, column in HISTORIES.items()}
    feeds = [tf.constant(padded[0]), tf.constant(padded[1], tf.float32)]
    return Case(model, inputs, {"bought": pa.array(items), "days": pa.array(ages)}, feeds)


HISTORIES = {"items": "bought", "ages": "days"}

CASES: list[Callable[[np.random.Generator], Case]] = [
    raw_images,
    image_files,
    titles,
    ngrams,
    prices_and_categories,
    vectors,
    histories,
]


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    keras.utils.set_random_seed(0)
    return {make.__name__: make(np.random.default_rng(0)) for make in CASES}


@pytest.fixture(params=[make.__name__ for make in CASES])
def case(request: pytest.FixtureRequest, cases: dict[str, Case]) -> Case:
    return cases[request.param]


def table(case: Case) -> pa.Table:
    return pa.table({"sku": [f"i{n}" for n in range(ROWS)], **case.columns})


def predicted(case: Case) -> np.ndarray:
    return np.asarray(case.model.predict(case.feeds, verbose=0))


def encoder(case: Case, folder: Path, batch_size: int = 16) -> KerasEncoder:
    save_encoder(case.model, str(folder), case.inputs, overwrite=True)
    return KerasEncoder.load(str(folder), batch_size=batch_size)


def test_the_vectors_are_those_of_predict(case: Case, tmp_path: Path) -> None:
    embedded = encoder(case, tmp_path).embed(table(case))
    assert embedded.good.all()
    np.testing.assert_allclose(embedded.vectors, predicted(case), atol=1e-5)
    assert read_signature(str(tmp_path)).dim == embedded.vectors.shape[1]


def test_a_row_has_the_same_vector_in_any_batch(case: Case, tmp_path: Path) -> None:
    whole = encoder(case, tmp_path, 64).embed(table(case)).vectors
    by_seven = encoder(case, tmp_path, 7).embed(table(case)).vectors
    alone = encoder(case, tmp_path, 1).embed(table(case).slice(3, 1)).vectors
    np.testing.assert_allclose(by_seven, whole, atol=1e-5)
    np.testing.assert_allclose(alone, whole[3:4], atol=1e-5)


def test_rows_that_lack_a_value_are_rejected_with_a_reason_and_the_others_are_as_before(
    case: Case, tmp_path: Path
) -> None:
    broken = table(case)
    gone = pa.array([n % 5 == 2 for n in range(ROWS)])
    for number, name in list(enumerate(broken.column_names))[1:]:
        if not pa.types.is_fixed_size_list(broken.schema.field(name).type):
            column = pa.array([None if g.as_py() else v for g, v in zip(gone, broken[name].to_pylist(), strict=True)])
            broken = broken.set_column(number, name, column.cast(broken.schema.field(name).type))
    embedded = encoder(case, tmp_path).embed(broken)
    assert len(embedded.vectors) + len(embedded.reasons) == ROWS
    assert len(embedded.vectors) == embedded.good.sum()
    assert all("is missing" in reason for reason in embedded.reasons.to_pylist())
    np.testing.assert_allclose(embedded.vectors, predicted(case)[embedded.good], atol=1e-5)


def test_a_table_without_rows_has_no_vectors(case: Case, tmp_path: Path) -> None:
    embedded = encoder(case, tmp_path).embed(table(case).slice(0, 0))
    assert embedded.vectors.shape == (0, case.model.output_shape[1])
    assert len(embedded.reasons) == 0


def test_saved_twice_an_encoder_has_the_same_hash_and_bytes(case: Case, tmp_path: Path) -> None:
    first = save_encoder(case.model, str(tmp_path / "a"), case.inputs)
    second = save_encoder(case.model, str(tmp_path / "b"), case.inputs)
    assert (first.hash, first) == (second.hash, second)
    names = storage.files(str(tmp_path / "a"))
    assert names == ["item.keras", "signature.json"]
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)


SCRIPT = """
import sys
from pathlib import Path
import numpy as np
import pyarrow.parquet as pq
from topkin.models import KerasEncoder

for folder in Path(sys.argv[1]).iterdir():
    embedded = KerasEncoder.load(str(folder / "encoder"), batch_size=16).embed(pq.read_table(folder / "rows.parquet"))
    np.save(folder / "vectors.npy", embedded.vectors)
"""


def test_another_process_that_imported_nothing_else_gives_the_same_vectors(
    cases: dict[str, Case], tmp_path: Path
) -> None:
    for name, case in cases.items():
        save_encoder(case.model, str(tmp_path / name / "encoder"), case.inputs)
        pq.write_table(table(case), tmp_path / name / "rows.parquet")
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], check=True, capture_output=True)
    for name, case in cases.items():
        np.testing.assert_allclose(np.load(tmp_path / name / "vectors.npy"), predicted(case), atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_one_process_and_two_write_the_same_parts(cases: dict[str, Case], tmp_path: Path) -> None:
    transforms = {}
    for name, case in cases.items():
        save_encoder(case.model, str(tmp_path / name / "encoder"), case.inputs)
        files = []
        for part in range(3):
            path = tmp_path / name / f"{part}.parquet"
            pq.write_table(table(case).slice(17 * part, 17), path, row_group_size=5)
            files.append(File(str(path), 0, rows=17))
        transforms[name] = EncodeInputs(
            encoder=str(tmp_path / name / "encoder"),
            files=files,
            id_column="sku",
            id_type=pa.string(),
            columns=table(case).column_names,
            batch_size=4,
        )
    two = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    for out, flags in (("one", []), ("two", two)):

        def work(p: Any, out: str = out) -> None:
            for name, inputs in transforms.items():
                folder = str(tmp_path / out / name)
                p | name >> EncodeTable(inputs, folder, storage.join(folder, "tally.json"))

        run_pipeline(work, flags)
    for name, case in cases.items():
        parts = storage.files(str(tmp_path / "one" / name / "items"))
        assert len(parts) == 3
        one, other = ([(tmp_path / out / name / "items" / p).read_bytes() for p in parts] for out in ("one", "two"))
        assert one == other, name
        values = pa.concat_tables([pq.read_table(io.BytesIO(data)) for data in one])
        assert values["item_id"].equals(table(case)["sku"])
        assert schemas.encoder_of(values.schema) == read_signature(transforms[name].encoder).hash
        np.testing.assert_allclose(vectors_of(values), predicted(case), atol=1e-5)
        counts = storage.read_json(str(tmp_path / "two" / name / "tally.json"))
        assert counts["items"]["read"] == counts["items"]["embedded"] == ROWS
