"""A trained model over a table: every row has a vector or a reason, and what is wrong is said before the work."""

import os
from collections import Counter
from datetime import datetime, timedelta
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
from topkin.models import KerasEncoder, MetricEmbedding, history_encoder, save_encoder
from topkin.pipelines.encode.table import TableVectors, embed_table

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
    collected: list[str] = []
    embedded = run(shop, COST, "items.rules={in_stock = 'stock > 0'}", tell=collected.append)
    assert collected[0].split() == ["input", "price", "=", "cost", "(number", "of", "1,", "float32)"]
    assert collected[1].split()[:4] == ["input", "colour", "=", "colour"]
    out, rejects = vectors(shop), storage.read_parts(str(shop / "out" / "rejects"))
    assert embedded.read == 60 == len(out) + len(rejects)
    assert embedded.embedded == len(out)
    assert Counter(rejects["reason"].to_pylist()) == embedded.rejects == {"colour is missing": 18, "in_stock": 12}
    rows = pa.concat_tables([pq.read_table(shop / "items" / f"{part}.parquet") for part in range(2)])
    known = zip(rows["colour"].to_pylist(), rows["stock"].to_pylist(), strict=True)
    kept = rows.filter(pa.array([colour is not None and bool(stock) for colour, stock in known]))
    assert out["item_id"].to_pylist() == kept["sku"].to_pylist()
    feeds = [np.asarray(kept["cost"])[:, None], np.array(kept["colour"].to_pylist(), object)[:, None]]
    expected = model.predict([feeds[0], keras.ops.convert_to_tensor(feeds[1], "string")], verbose=0)
    np.testing.assert_allclose(vectors_of(out), expected, atol=1e-5)


def test_the_folder_is_sealed_and_every_part_carries_the_encoder(shop: Path) -> None:
    embedded = run(shop, COST)
    signature = read_signature(str(shop / "out" / "encoder"))
    assert signature.hash == embedded.encoder
    assert [i.column for i in signature.inputs] == ["cost", "colour"]
    assert storage.sha256(str(shop / "model.keras")) == signature.files["item.keras"]
    parts = storage.parquet_files(str(shop / "out" / "items"))
    assert {schemas.encoder_of(pq.read_schema(part)) for part in parts} == {embedded.encoder}
    assert pq.read_schema(parts[0]).equals(schemas.encoded_items(pa.string(), 2))
    manifest.verify(str(shop / "out"))
    summary = storage.read_json(str(shop / "out" / "vectors.json"))
    assert summary == {"encoder": embedded.encoder, "dim": 2, "items": 40, "rejects": {"colour is missing": 20}}


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
    embedded = run(shop, f"items.normalise={{{used}, title = 'nothing_here'}}")
    assert embedded.embedded == 60
    assert embedded.inputs[0].startswith("price = price (number")


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
    embedded = run(shop, price, "items.rules={is_red = \"colour = 'red'\"}")
    assert embedded.rejects == {"is_red": 40}
    assert embedded.embedded == 20


def test_ids_that_are_null_are_rejected_with_their_place(shop: Path) -> None:
    table = pa.table({"sku": [1, None, 3], "cost": [1.0, 2.0, 3.0], "colour": ["red"] * 3})
    for part in range(2):
        pq.write_table(table, shop / "items" / f"{part}.parquet")
    embedded = run(shop, COST)
    assert embedded.rejects == {"sku is null": 2}
    assert vectors(shop)["item_id"].to_pylist() == [1, 3, 1, 3]
    rejects = storage.read_parts(str(shop / "out" / "rejects"))
    assert rejects["row"].to_pylist() == [1, 1]
    assert rejects["file"].to_pylist() == [str(shop / "items" / f"{part}.parquet") for part in range(2)]
    assert rejects["record"][0].as_py() == '{"sku":null,"cost":2.0,"colour":"red"}'


@pytest.mark.parametrize(
    ("sets", "message"),
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
def test_what_is_wrong_is_said_before_anything_is_written(shop: Path, sets: list[str], message: str) -> None:
    with pytest.raises((ConfigError, InputError), match=message):
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
    embedded = run(shop, "encoder.inputs.image=photo", model="images")
    assert embedded.rejects == {"image (photo) names a file that cannot be read": 1}
    np.testing.assert_array_equal(vectors_of(vectors(shop)), pixels.reshape(2, -1))


@pytest.fixture
def towers(tmp_path: Path) -> Path:
    """An encoder of items by a size and of users by what they bought, with a table of each."""
    user = history_encoder(["cup", "pot", "tea"], 4, length=8, seed=1)
    size = keras.Input((1,), name="size")
    history = {name: {"column": column, "kind": "history"} for name, column in BOUGHT.items()}
    save_encoder(keras.Model(size, MetricEmbedding(4)(size)), str(tmp_path / "towers"), user=user, user_inputs=history)
    pq.write_table(pa.table({"sku": ["cup", "pot"], "size": [1.0, 2.0]}), tmp_path / "items.parquet")
    now = datetime(2024, 5, 1)
    bought = [["cup", "tea"], ["pot"] * 70, [], None, ["cup", None], ["cup"]]
    times = [[now - timedelta(days=n) for n in range(len(row or []))][::-1] for row in bought]
    times[-1] = []
    table = pa.table({"id": np.arange(6), "bought": bought, "times": times})
    pq.write_table(table, tmp_path / "users.parquet", row_group_size=4)
    return tmp_path


BOUGHT = {"items": "bought", "ages": "times"}


def embed(towers: Path, side: str, *sets: str, out: str = "out", model: str = "towers", **options: Any) -> TableVectors:
    flags = {"encoder.path": str(towers / model)}
    flags |= {"items.path": str(towers / "items.parquet"), "items.item_id": "sku"} if side == "items" else {}
    flags |= {"users.path": str(towers / "users.parquet"), "users.user_id": "id"} if side == "users" else {}
    settings = load_encoder_run(None, (), [*(f"{key}={as_toml(value)}" for key, value in flags.items()), *sets], {})
    assert settings is not None
    assert settings.sides == [side]
    return embed_table(settings, str(towers / out), side=side, **options)


def test_users_are_embedded_by_their_histories(towers: Path) -> None:
    collected: list[str] = []
    embedded = embed(towers, "users", tell=collected.append)
    assert "items = bought (history of the last 64, string)" in collected[0]
    assert embedded.rejects == {
        "items (bought) has a value that is missing or does not fit": 1,
        "items (bought) is missing": 1,
        "ages (times) has not as many values as items (bought)": 1,
    }
    out, rejects = vectors_at(towers, "users"), storage.read_parts(str(towers / "out" / "user_rejects"))
    assert out["user_id"].to_pylist() == [0, 1, 2]
    assert (rejects["row"].to_pylist(), set(rejects["source"].to_pylist())) == ([3, 4, 5], {"users"})
    assert schemas.encoder_of(out.schema) == embedded.encoder == read_signature(str(towers / "towers")).hash
    expected = KerasEncoder.load(str(towers / "towers")).embed_users(pq.read_table(towers / "users.parquet"))
    np.testing.assert_allclose(vectors_of(out), expected.vectors, atol=1e-6)
    norms = np.linalg.norm(vectors_of(out), axis=1)
    np.testing.assert_allclose(norms, [1, 1, 0], atol=1e-6)
    assert embedded.worked - embedded.padded == 2 + 64


def vectors_at(towers: Path, side: str) -> pa.Table:
    return storage.read_parts(str(towers / "out" / side))


def test_both_sides_of_one_encoder_share_a_folder_and_each_is_replaced_by_itself(towers: Path) -> None:
    embed(towers, "items")
    items = embed(towers, "items", force=True)
    embed(towers, "users", "encoder.user_inputs.items='bought'")
    manifest.verify(str(towers / "out"))
    summary = storage.read_json(str(towers / "out" / "vectors.json"))
    assert (summary["items"], summary["users"], summary["rejects"]) == (2, 3, {})
    assert sum(summary["user_rejects"].values()) == 3
    signature = read_signature(str(towers / "out" / "encoder"))
    assert ([i.column for i in signature.inputs], signature.hash) == (["size"], items.encoder)
    with pytest.raises(ConfigError, match=r"holds 3 vectors of users already: --force makes them again"):
        embed(towers, "users")
    before = vectors_at(towers, "users")
    embed(towers, "items", "encoder.inputs.size='size * 3'", force=True)
    assert vectors_at(towers, "users").equals(before)
    signature = read_signature(str(towers / "out" / "encoder"))
    assert [i.column for i in signature.user_inputs] == ["bought", "times"]
    assert signature.inputs[0].column == "size * 3"
    embed(towers, "users", force=True)
    manifest.verify(str(towers / "out"))


def test_items_are_kept_where_no_user_can_be_embedded(towers: Path) -> None:
    embed(towers, "items")
    before = vectors_at(towers, "items")
    with pytest.raises(InputError, match=r"all 6 were rejected, 6 for: items .* is missing; .*out/user_rejects has"):
        embed(towers, "users", "encoder.user_inputs.items='cast(null as varchar[])'")
    manifest.verify(str(towers / "out"))
    assert vectors_at(towers, "items").equals(before)
    assert not storage.read_json(str(towers / "out" / "vectors.json")).get("users")
    embed(towers, "users")
    assert vectors_at(towers, "items").equals(before)


def test_the_sides_of_two_encoders_do_not_mix(towers: Path) -> None:
    embed(towers, "items")
    other = keras.Input((1,), name="size")
    user = history_encoder(["cup"], 4, seed=2, time_gaps=False)
    history = {"items": {"column": "bought", "kind": "history"}}
    save_encoder(keras.Model(other, MetricEmbedding(4)(other)), str(towers / "other"), user=user, user_inputs=history)
    with pytest.raises(ConfigError, match=r"holds 2 vectors of items by encoder [0-9a-f]{12}… already: --force"):
        embed(towers, "users", model="other")
    embed(towers, "users", model="other", force=True)
    assert not (towers / "out" / "items").exists()
    manifest.verify(str(towers / "out"))


def test_a_file_alone_embeds_users_and_lists_of_sql_are_histories(towers: Path) -> None:
    history_encoder(["cup", "pot", "tea"], 4, length=8, seed=1).save(towers / "users.keras")
    kinds = [f"encoder.user_inputs.{name}.kind=history" for name in BOUGHT]
    days = "list_transform(times, t -> date_diff('day', t, TIMESTAMP '2024-05-01'))"
    columns = [f"encoder.user_inputs.items.column={as_toml('bought')}"]
    by_sql = embed(
        towers,
        "users",
        *kinds,
        *columns,
        f"encoder.user_inputs.ages.column={as_toml(days)}",
        model="users.keras",
    )
    result = vectors_at(towers, "users")
    embed(towers, "users", *kinds, *columns, "encoder.user_inputs.ages.column=times", model="users.keras", force=True)
    np.testing.assert_allclose(vectors_of(vectors_at(towers, "users")), vectors_of(result), atol=1e-6)
    assert read_signature(str(towers / "out" / "encoder")).files.keys() == {"user.keras"}
    assert by_sql.embedded == 3


def test_a_side_that_is_not_there_is_said(towers: Path) -> None:
    size = keras.Input((1,), name="size")
    save_encoder(keras.Model(size, MetricEmbedding(4)(size)), str(towers / "one"))
    with pytest.raises(InputError, match=r"one must hold user\.keras to embed users, it has item\.keras alone"):
        embed(towers, "users", model="one")
    with pytest.raises(ConfigError, match=r"a table of items or of users must be named: set items\.path or users"):
        load_encoder_run(None, (), ["encoder.path=a.keras"], {})
    with pytest.raises(ConfigError, match=r"encoder\.user_inputs is for a table of users: set users\.path"):
        load_encoder_run(None, (), ["encoder.path=a.keras", "items.path=a", "encoder.user_inputs.items=bought"], {})
    with pytest.raises(InputError, match=r"no column .user. \(users\.user_id\).*: name one, as in --user-id COLUMN"):
        embed(towers, "users", "users.user_id=user")
    assert not (towers / "out").exists()
