"""A trained model over a table: every row has a vector or a reason, and what is wrong is said before the work."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import manifest, schemas, storage
from topkin.artifacts.embeddings import vectors_of
from topkin.config.load import load_encoder_run
from topkin.config.reference import as_toml
from topkin.encoding.signature import read_signature
from topkin.errors import ConfigError, InputError
from topkin.models import save_encoder
from topkin.pipelines.embed_table import TableVectors, embed_table

layers = keras.layers


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A price and a colour to two numbers."""
    keras.utils.set_random_seed(0)
    price, colour = keras.Input((1,), name="price"), keras.Input((1,), dtype="string", name="colour")
    colours = layers.StringLookup(vocabulary=["red", "blue"], output_mode="one_hot")(colour)
    return keras.Model([price, colour], layers.Dense(2)(layers.Concatenate()([price, colours])))


@pytest.fixture
def shop(tmp_path: Path, model: keras.Model) -> Path:
    """model.keras, and a folder of items in files of three row groups."""
    model.save(tmp_path / "model.keras")
    (tmp_path / "items").mkdir()
    for part in range(2):
        table = pa.table(
            {
                "sku": [f"{part}-{n}" for n in range(30)],
                "cost": np.arange(30) + 100.0 * part,
                "colour": ["red", "blue", None] * 10,
                "stock": [None if n == 4 else n % 7 for n in range(30)],
            }
        )
        pq.write_table(table, tmp_path / "items" / f"{part}.parquet", row_group_size=11)
    return tmp_path


def run(shop: Path, *sets: str, model: str = "model.keras", out: str = "out", **options: Any) -> TableVectors:
    flags = {"encoder.path": str(shop / model), "items.path": str(shop / "items"), "items.item_id": "sku"}
    all_sets = [*(f"{key}={as_toml(value)}" for key, value in flags.items()), *sets]
    settings = load_encoder_run(None, (), all_sets, {})
    assert settings is not None
    return embed_table(settings, str(shop / out), **options)


def vectors(shop: Path, out: str = "out") -> pa.Table:
    return storage.read_parts(str(shop / out / "items"))


COST = "encoder.inputs.price=cost"


def test_rows_in_are_rows_out_and_rejected(shop: Path, model: keras.Model) -> None:
    told: list[str] = []
    made = run(shop, COST, "items.rules={in_stock = 'stock > 0'}", tell=told.append)
    assert told[0].split() == ["input", "price", "=", "cost", "(number", "of", "1,", "float32)"]
    assert told[1].split()[:4] == ["input", "colour", "=", "colour"]
    out, rejects = vectors(shop), storage.read_parts(str(shop / "out" / "rejects"))
    assert made.read == 60 == len(out) + len(rejects)
    assert made.embedded == len(out)
    assert Counter(rejects["reason"].to_pylist()) == made.rejects == {"colour is missing": 18, "in_stock": 12}
    rows = pa.concat_tables([pq.read_table(shop / "items" / f"{part}.parquet") for part in range(2)])
    known = zip(rows["colour"].to_pylist(), rows["stock"].to_pylist(), strict=True)
    kept = rows.filter(pa.array([colour is not None and bool(stock) for colour, stock in known]))
    assert out["item_id"].to_pylist() == kept["sku"].to_pylist()
    feeds = [np.asarray(kept["cost"])[:, None], np.array(kept["colour"].to_pylist(), object)[:, None]]
    expected = model.predict([feeds[0], keras.ops.convert_to_tensor(feeds[1], "string")], verbose=0)
    np.testing.assert_allclose(vectors_of(out), expected, atol=1e-5)


def test_the_folder_is_sealed_and_every_part_carries_the_encoder(shop: Path) -> None:
    made = run(shop, COST)
    signature = read_signature(str(shop / "out" / "encoder"))
    assert signature.hash == made.encoder
    assert [i.column for i in signature.inputs] == ["cost", "colour"]
    assert storage.sha256(str(shop / "model.keras")) == signature.files["item.keras"]
    parts = storage.parquet_files(str(shop / "out" / "items"))
    assert {schemas.encoder_of(pq.read_schema(part)) for part in parts} == {made.encoder}
    assert pq.read_schema(parts[0]).equals(schemas.encoded_items(pa.string(), 2))
    manifest.verify(str(shop / "out"))
    summary = storage.read_json(str(shop / "out" / "vectors.json"))
    assert summary == {"encoder": made.encoder, "dim": 2, "items": 40, "rejects": {"colour is missing": 20}}


def test_the_folder_that_was_made_embeds_again_with_what_it_says(shop: Path) -> None:
    first = run(shop, COST, "encoder.inputs.colour.missing=red")
    assert first.rejects == {}
    again = run(shop, model="out/encoder", out="again")
    assert again.inputs == first.inputs
    assert vectors(shop, "again").equals(vectors(shop))
    other = run(shop, "encoder.inputs.price=cost * 2", model="out/encoder", out="other")
    assert other.encoder == first.encoder
    assert not vectors(shop, "other").equals(vectors(shop))


def test_columns_may_be_normalised_and_expressions_of_other_jobs_are_passed_over(shop: Path) -> None:
    used = "price = 'cost + 0', sku = 'upper(sku)', colour = 'cast(3 as varchar)'"
    made = run(shop, f"items.normalise={{{used}, title = 'nothing_here'}}")
    assert made.embedded == 60
    assert made.inputs[0].startswith("price = price (number")


def test_what_is_there_is_replaced_by_force_and_others_files_never(shop: Path) -> None:
    run(shop, COST)
    before = vectors(shop)
    with pytest.raises(ConfigError, match=r"out holds 40 vectors already: --force makes them again, --output names"):
        run(shop, COST)
    run(shop, COST, force=True)
    assert vectors(shop).equals(before)
    (shop / "out" / "manifest.json").unlink()  # as a killed job leaves it
    run(shop, COST)
    (shop / "mine").mkdir()
    (shop / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"mine must be empty or new, it has 1 files of others, such as notes"):
        run(shop, COST, out="mine", force=True)
    assert os.listdir(shop / "mine") == ["notes.txt"]
    with pytest.raises(ConfigError, match=r"notes.txt must be a folder, it is a file: name another by --output"):
        run(shop, COST, out="mine/notes.txt", force=True)
    for inside in ("items", "items/vectors"):
        with pytest.raises(ConfigError, match=r"must lie outside of the items, .*items: --output names another"):
            run(shop, COST, out=inside, force=True)
    assert len(os.listdir(shop / "items")) == 2


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_of_the_users_own_encoder_stays_as_it_is(shop: Path, model: keras.Model, force: bool) -> None:
    save_encoder(model, str(shop / "own" / "encoder"))
    save_encoder(model, str(shop / "encoder"))
    before = tree(shop)
    with pytest.raises(ConfigError, match=r"own must be empty or new, it has 2 files of others, such as encoder/item"):
        run(shop, COST, out="own", force=force)
    with pytest.raises(ConfigError, match=r"must not hold the items, .*items: --output names another"):
        run(shop, COST, model="encoder", out=".", force=force)
    with pytest.raises(ConfigError, match=r"must not hold the encoder, .*own/encoder: --output names another"):
        run(shop, COST, model="own/encoder", out="own", force=force)
    with pytest.raises(ConfigError, match=r"must lie outside of the items"):
        run(shop, COST, f"items.path={as_toml(str(shop / 'items' / '**' / '*.parquet'))}", out="items/out", force=force)
    assert tree(shop) == before


def test_paths_are_compared_by_what_they_name(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    (shop / "link").symlink_to(shop / "items")
    before = tree(shop)
    for items in ("items", "./items/", "items/*.parquet", "link"):
        with pytest.raises(ConfigError, match=r"must not hold the items"):
            run(shop, COST, f"items.path={as_toml(items)}", out=".", force=True)
    assert tree(shop) == before


@pytest.mark.parametrize("name", ["notes.txt", "items/mine.parquet", "encoder/notes", ".git/HEAD", ".scratch/notes"])
def test_a_file_that_somebody_adds_to_the_vectors_is_never_removed(shop: Path, name: str) -> None:
    run(shop, COST)
    (shop / "out" / name).parent.mkdir(exist_ok=True)
    (shop / "out" / name).write_text("mine")
    before = tree(shop)
    with pytest.raises(ConfigError, match=rf"it has 1 files of others, such as {name}: name another by --output"):
        run(shop, COST, force=True)
    assert tree(shop) == before


def test_what_a_killed_job_leaves_is_cleared_and_rejects_do_not_outlive_their_run(shop: Path) -> None:
    run(shop, COST)
    (shop / "out" / "items" / f".part-000000-000009.parquet.{'0f' * 16}").write_text("half")
    run(shop, COST, "encoder.inputs.colour.missing=red", force=True)
    assert not [name for name in tree(shop / "out") if "half" in name or "0f0f" in name]
    assert not (shop / "out" / "rejects").exists()
    manifest.verify(str(shop / "out"))


def test_a_table_of_which_no_row_can_be_embedded_is_an_error_that_leaves_the_rejects(shop: Path) -> None:
    with pytest.raises(InputError, match=r"all 60 were rejected, 60 for: price \(.*\) is missing; .*out/rejects"):
        run(shop, "encoder.inputs.price=try_cast(colour as double)")
    assert len(storage.read_parts(str(shop / "out" / "rejects"))) == 60
    assert run(shop, COST).embedded == 40  # nothing was made, so nothing needs --force


def test_what_a_rule_drops_is_not_read_and_has_the_rules_reason(shop: Path) -> None:
    price = "encoder.inputs.price=cast(replace(colour, 'red', '1') as double)"  # of blue there is none
    made = run(shop, price, "items.rules={is_red = \"colour = 'red'\"}")
    assert made.rejects == {"is_red": 40}
    assert made.embedded == 20


def test_ids_that_are_null_are_rejected_with_their_place(shop: Path) -> None:
    table = pa.table({"sku": [1, None, 3], "cost": [1.0, 2.0, 3.0], "colour": ["red"] * 3})
    for part in range(2):
        pq.write_table(table, shop / "items" / f"{part}.parquet")
    made = run(shop, COST)
    assert made.rejects == {"sku is null": 2}
    assert vectors(shop)["item_id"].to_pylist() == [1, 3, 1, 3]
    rejects = storage.read_parts(str(shop / "out" / "rejects"))
    assert rejects["row"].to_pylist() == [1, 1]
    assert rejects["file"].to_pylist() == [str(shop / "items" / f"{part}.parquet") for part in range(2)]
    assert rejects["record"][0].as_py() == '{"sku":null,"cost":2.0,"colour":"red"}'


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ([], r"input 'price' of the model needs a column, the table has no 'price'"),
        (["encoder.inputs.price=cots"], r"has no 'cots', did you mean 'cost': name one, as in --input price=COLUMN"),
        (["encoder.inputs.price=ln(cots)"], r"'ln\(cots\)' names a column 'cots', .* did you mean 'cost'"),
        (["encoder.inputs.price=sum(cost)"], r"'sum\(cost\)' must be about one row, got sum"),
        (
            [COST, "items.item_id=sk"],
            r"has no column 'sk' \(items\.item_id\), did you mean 'sku'; .* --id COLUMN",
        ),
        ([COST, "items.item_id=cost"], r"column 'cost' \(items\.item_id\) must be .*, got double"),
        ([COST, "items.rules={r = 'cost +'}"], r"items\.rules\.'r': 'cost \+' is not an SQL expression"),
        ([COST, "items.path=nothing.parquet"], r"items\.path: there is no file"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(shop: Path, sets: list[str], said: str) -> None:
    with pytest.raises((ConfigError, InputError), match=said):
        run(shop, *sets)
    assert not (shop / "out").exists()


def test_files_of_other_types_are_named(shop: Path) -> None:
    table = pa.table({"sku": ["x"], "cost": ["cheap"], "colour": ["red"]})
    pq.write_table(table, shop / "items" / "2.parquet")
    with pytest.raises(InputError, match=r"2\.parquet: column 'cost' must be double as in .*0\.parquet, got string"):
        run(shop, COST)


def test_images_are_found_beside_the_table(shop: Path) -> None:
    import tensorflow as tf

    inputs = keras.Input((4, 4, 1), name="image")
    save_encoder(keras.Model(inputs, layers.Flatten()(inputs)), str(shop / "images"))
    pixels = np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1)
    for number, image in enumerate(pixels):
        (shop / "items" / f"{number}.png").write_bytes(tf.io.encode_png(image).numpy())
    table = pa.table({"sku": [0, 1, 2], "photo": ["0.png", "1.png", "2.png"]})
    (shop / "items" / "1.parquet").unlink()
    pq.write_table(table, shop / "items" / "0.parquet")
    made = run(shop, "encoder.inputs.image=photo", model="images")
    assert made.rejects == {"photo names a file that cannot be read": 1}
    np.testing.assert_array_equal(vectors_of(vectors(shop)), pixels.reshape(2, -1))
