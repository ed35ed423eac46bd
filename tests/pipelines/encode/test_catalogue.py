"""A trained model beside purchases: its vectors are those that a column of vectors would bring."""

from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import schemas
from topkin.artifacts.embeddings import vectors_of
from topkin.artifacts.partition import split_by_partition
from topkin.artifacts.shuffle import read_part
from topkin.config.load import settings_of
from topkin.config.sections import Settings
from topkin.errors import ConfigError
from topkin.pipelines.encode.catalogue import by_part, joined, vectors_for
from topkin.pipelines.engine.earlier import earlier_runs
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stages import _keys, keys
from topkin.pipelines.prepare import STAGE, check_inputs
from topkin.planning.estimate import InputCounts

AS_OF = datetime(2024, 6, 1)
WIDTHS = [1.0, 2.0, None, 4.0, 5.0, 5.5]
SKUS = ["a", "b", "c", "d", "e", "a"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    keras.utils.set_random_seed(1)
    width = keras.Input((1,), name="width")
    model = keras.Model(width, keras.layers.Dense(3, activation="tanh")(width))
    model.save(folder / "model.keras")
    days = [datetime(2024, 5, d) for d in (1, 2, 3, 4)]
    pq.write_table(
        pa.table({"user": list("uuvv"), "item": ["a", "b", "b", "sold"], "time": days}), folder / "p.parquet"
    )
    cut = pa.table({"sku": SKUS, "width": WIDTHS})
    pq.write_table(cut, folder / "items.parquet", row_group_size=4)
    vectors = model.predict(np.array([0.0 if w is None else w for w in WIDTHS])[:, None], verbose=0)
    vectors[2] = 0
    pq.write_table(cut.append_column("emb", pa.array(vectors.tolist())), folder / "with_vectors.parquet")
    return folder


def settings(shop: Path, items: dict[str, Any] | None = None, **more: Any) -> Settings:
    purchases = {"path": str(shop / "p.parquet"), "user_id": "user", "item_id": "item", "timestamp": "time"}
    table = {"path": str(shop / "items.parquet"), "item_id": "sku", **(items or {})}
    values = {"run": {"parts": 2}, "purchases": purchases, "items": table, "prepare": {"max_reject_share": 1}, **more}
    return settings_of(values, "the test")


def encoder(shop: Path, **more: Any) -> dict[str, Any]:
    return {"path": str(shop / "model.keras"), **more}


def prepared(asked: Settings, out: Path) -> tuple[pa.Table, dict[str, Any]]:
    summary = STAGE.execute(Job(settings=asked, as_of=AS_OF, out=str(out), beam=()))
    return pq.read_table(out / "catalogue.parquet"), summary


@pytest.mark.parametrize("which", ["first", "last"])
def test_the_catalogue_is_that_of_a_column_with_the_same_vectors(shop: Path, tmp_path: Path, which: str) -> None:
    by_model, tables = prepared(settings(shop, {"duplicates": which}, encoder=encoder(shop)), tmp_path / "model")
    column = {"path": str(shop / "with_vectors.parquet"), "vector": "emb", "duplicates": which}
    by_column, _ = prepared(settings(shop, column), tmp_path / "column")
    assert by_model.schema.equals(by_column.schema)
    assert by_model.drop(["vector"]).equals(by_column.drop(["vector"]))
    np.testing.assert_allclose(vectors_of(by_model), vectors_of(by_column), atol=1e-6)
    assert vectors_of(by_model).any(axis=1).tolist() == [True, True, False, True, True, False]
    (note,) = [n for n in tables["notes"] if "vector" in n]
    assert note.startswith("4 of 6 items have a vector of 3 numbers by ")
    assert "rows that it cannot take: width is missing 1 (vector_rejects/)" in note
    assert sum(pq.read_metadata(f).num_rows for f in (tmp_path / "model/vector_rejects").glob("*.parquet")) == 1
    assert InputCounts.of_prepared(str(tmp_path / "model")).vector_dim == 3
    assert not list((tmp_path / "model").glob(".*"))


def test_another_model_under_the_same_name_is_another_night(shop: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.keras"
    path.write_bytes((shop / "model.keras").read_bytes())
    asked = settings(shop, encoder={"path": str(path)})
    before = keys(asked, AS_OF)["prepare"]
    assert keys(asked, AS_OF)["prepare"] == before
    path.write_bytes(path.read_bytes() + b"more")
    assert keys(asked, AS_OF)["prepare"] != before


def test_an_encoder_is_not_kept_that_learned_of_another_model(shop: Path, tmp_path: Path) -> None:
    """A recipe leaves data and paths out, and the model is neither: its vectors are what the encoder takes."""
    path = tmp_path / "own.keras"
    path.write_bytes((shop / "model.keras").read_bytes())
    recipes = [_keys(asked, AS_OF, earlier_runs(asked, AS_OF))[1]["train"] for asked in _of_models(shop, path)]
    assert recipes[0] == recipes[1]
    path.write_bytes(path.read_bytes() + b"more")
    recipes = [_keys(asked, AS_OF, earlier_runs(asked, AS_OF))[1]["train"] for asked in _of_models(shop, path)]
    assert recipes[0] != recipes[1]


def _of_models(shop: Path, *others: Path) -> list[Settings]:
    return [settings(shop, encoder={"path": str(path)}) for path in (shop / "model.keras", *others)]


def test_check_says_what_does_not_fit(shop: Path) -> None:
    (fault,) = check_inputs(settings(shop, encoder=encoder(shop, inputs={"width": {"column": "widht"}})))
    assert "'widht'" in str(fault)
    assert "width" in str(fault)
    (gone,) = check_inputs(settings(shop, encoder={"path": str(shop / "none.keras")}))
    assert "none.keras" in str(gone)
    assert check_inputs(settings(shop, encoder=encoder(shop))) == []


@pytest.mark.parametrize(
    ("items", "keys_of_encoder", "words"),
    [
        ({"vector": "emb"}, {}, "items.vector and [encoder] both give the items their vectors"),
        ({"latest_by": "width"}, {}, "cannot choose among an item's rows by items.latest_by"),
        ({}, {"user_inputs": {"x": {}}}, "encoder.user_inputs is for topkin embed --encoder"),
    ],
)
def test_what_does_not_go_with_an_encoder_is_refused(
    shop: Path, items: dict[str, Any], keys_of_encoder: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as e:
        settings(shop, items, encoder=encoder(shop, **keys_of_encoder))
    assert words in str(e.value)


def test_an_encoder_needs_items(shop: Path) -> None:
    with pytest.raises(ConfigError, match=r"no items are named: set items\.path"):
        settings_of({"purchases": {"path": "p.parquet"}, "encoder": encoder(shop)}, "the test")


def test_joined_takes_the_first_or_the_last_and_zeros_for_none() -> None:
    row = {"title": None, "category": None, "price": None, "available": True, "events": 1, "users": 1, "recent": 0}
    rows = [{"item_id": i, **row, "first_sale": AS_OF, "last_sale": AS_OF} for i in "abc"]
    catalogue = pa.Table.from_pylist(rows, schema=schemas.catalogue(pa.string()))
    values = pa.array([[1, 1], [2, 2], [3, 3]], pa.list_(pa.float32(), 2))
    vectors = pa.table({"item_id": ["c", "a", "c"], "vector": values})
    assert joined(catalogue, vectors, last=False)["vector"].to_pylist() == [[2, 2], [0, 0], [1, 1]]
    assert joined(catalogue, vectors, last=True)["vector"].to_pylist() == [[2, 2], [0, 0], [3, 3]]


@pytest.mark.parametrize("parts", [1, 3])
def test_vectors_of_users_go_to_their_parts_in_the_order_of_files_and_rows(tmp_path: Path, parts: int) -> None:
    rng, kind = np.random.default_rng(parts), pa.list_(pa.float32(), 2)
    tables = []
    for number in range(3):
        ids = pa.array(rng.integers(0, 20, 15).tolist(), pa.int64())  # some several times
        vectors = pa.array(rng.standard_normal((15, 2)).tolist(), kind)
        tables.append(pa.table({"user_id": ids, "vector": vectors}))
        pq.write_table(tables[-1], tmp_path / f"{number}.parquet", row_group_size=4)
    files = [str(tmp_path / f"{number}.parquet") for number in range(3)]
    sent, schema = by_part(files, str(tmp_path / "by_part"), pa.string(), parts)
    whole = pa.concat_tables(tables)
    users = pa.table({"user_id": pa.array([str(n) for n in range(25)])})
    for part, own in split_by_partition(users, "user_id", parts).items():
        for last in (False, True):
            expected = vectors_for(
                own["user_id"], whole.set_column(0, "user_id", whole[0].cast(pa.string())), last=last
            )
            assert vectors_for(own["user_id"], read_part(sent, part, parts, schema), last=last).equals(expected)
    assert len(sent) == len(files)  # each is written once, and read once
