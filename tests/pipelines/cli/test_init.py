"""``topkin init`` writes a configuration that the data bear out."""

import json
import tomllib
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.config.load import load_settings
from topkin.config.sections import Settings
from topkin.pipelines.cli import init
from topkin.pipelines.cli.app import main


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with sales/ (two files) and goods.parquet, some of it dirty."""
    rng = np.random.default_rng(1)
    (tmp_path / "sales").mkdir()
    for part in range(2):
        users = [None if u == 0 else f"u{u}" for u in rng.integers(0, 40, 500)]
        times = [datetime(2024, 1, 1) + timedelta(minutes=int(m)) for m in rng.integers(0, 10**5, 500)]
        table = pa.table(
            {
                "Customer ID": users,
                "sku": [f"s{n}" for n in rng.integers(0, 30, 500)],
                "sold at": times,
                "qty": rng.integers(-1, 4, 500),
            }
        )
        pq.write_table(table, tmp_path / "sales" / f"{part}.parquet")
    goods = pa.table({"sku": [f"s{n}" for n in range(30)], "name": [f" Thing {n}" for n in range(30)]})
    pq.write_table(goods, tmp_path / "goods.parquet")
    return tmp_path


def test_the_written_file_loads_and_names_the_columns(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = shop / "topkin.toml"
    assert main(["init", f"{shop}/sales", "--items", f"{shop}/goods.parquet", "-o", str(config)]) == 0
    assert f"Next: topkin check --config {config}\n" in capsys.readouterr().out  # unbroken, however long
    loaded = load_settings(config, env={})
    assert loaded.purchases.path == str(shop / "sales")
    assert (loaded.purchases.user_id, loaded.purchases.item_id) == ("Customer ID", "sku")
    assert (loaded.purchases.timestamp, loaded.purchases.quantity) == ("sold at", "qty")
    assert loaded.purchases.rules == {"returned or nothing sold": "qty > 0"}
    assert loaded.items is not None
    assert loaded.items.title == "name"
    assert loaded.items.normalise == {"name": "trim(name)"}


def test_the_next_command_names_no_configuration_that_is_found_without(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shop)
    assert main(["init", "sales"]) == 0
    assert "Next: topkin check\n" in capsys.readouterr().out


def test_every_guess_carries_a_comment_and_paths_are_relative(shop: Path) -> None:
    config = shop / "topkin.toml"
    main(["init", f"{shop}/sales", "--items", f"{shop}/goods.parquet", "-o", str(config)])
    lines = config.read_text().splitlines()
    assert 'path = "sales"' in lines
    for number, line in enumerate(lines):
        if "=" in line and not line.startswith(("#", "path")):
            assert lines[number - 1].startswith("# ")


def test_the_commented_keys_are_right_when_taken_up(shop: Path) -> None:
    config = shop / "topkin.toml"
    main(["init", f"{shop}/sales", "-o", str(config)])
    lines = config.read_text().splitlines()
    taken = [line.removeprefix("# ") if " = " in line and "…" not in line else line for line in lines]
    Settings.model_validate(tomllib.loads("\n".join(taken)))


def test_a_file_that_is_there_is_not_replaced_unless_forced(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = shop / "topkin.toml"
    config.write_text("mine")
    assert main(["init", f"{shop}/sales", "-o", str(config)]) == 2
    assert "exists already: --force replaces it" in capsys.readouterr().err
    assert config.read_text() == "mine"
    assert main(["init", f"{shop}/sales", "-o", str(config), "--force"]) == 0
    assert config.read_text() != "mine"


@pytest.mark.parametrize("name", ["notes.txt", "pyproject.toml", "goods.parquet"])
def test_force_replaces_configurations_alone(name: str, shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = shop / name
    if not there.exists():
        there.write_text('[project]\nname = "mine"\n')
    before = there.read_bytes()
    assert main(["init", f"{shop}/sales", "-o", str(there), "--force"]) == 2
    assert f"{there} is no configuration of topkin" in capsys.readouterr().err
    assert there.read_bytes() == before
    there.write_text("[run]\nparts = 2\n")
    assert main(["init", f"{shop}/sales", "-o", str(there), "--force"]) == 0


def test_what_would_be_no_configuration_is_not_written(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init, "configuration", lambda *_, **__: "[purchases]\npth = 'a'\n")
    config = shop / "topkin.toml"
    config.write_text("mine")
    before = sorted(shop.iterdir())
    assert main(["init", f"{shop}/sales", "-o", str(config), "--force"]) == 2
    printed = capsys.readouterr().err
    assert f"{config} is not written, for it would not be a configuration: " in printed
    assert f"{config}:2: purchases.pth is not a key" in printed
    assert main(["init", f"{shop}/sales", "-o", f"{shop}/new.toml"]) == 2
    assert config.read_text() == "mine"
    assert sorted(shop.iterdir()) == before


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("quantity=qyt", "--column quantity=qyt: there is no column 'qyt', did you mean 'qty', the columns are "),
        (
            "items.title=nam",
            "--column items.title=nam: there is no column 'nam', did you mean 'name', the columns ",
        ),
        ("item_id=basket[]", "--column item_id=basket[]: there is no list 'basket', the columns are "),
        ("order=lien", "--column order=lien: there is no column 'lien', the columns are "),
    ],
)
def test_a_column_that_is_not_there_is_told_and_nothing_is_written(
    shop: Path, column: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["init", f"{shop}/sales", "--items", f"{shop}/goods.parquet", "-o", f"{shop}/t.toml", "--column", column]
    assert main(args) == 2
    assert message in capsys.readouterr().err.replace("\n", "")
    assert not (shop / "t.toml").exists()


def test_json_says_what_was_guessed_and_why(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", f"{shop}/sales/*.parquet", "-o", f"{shop}/t.toml", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    [table] = value["tables"]
    assert (table["files"], table["rows"]) == (2, 1000)
    assert table["columns"]["user_id"]["column"] == "Customer ID"
    assert table["rules"]["returned or nothing sold"]["expression"] == "qty > 0"


def test_a_named_column_wins_over_the_guess(shop: Path) -> None:
    config = shop / "topkin.toml"
    args = ["init", f"{shop}/sales", "--items", f"{shop}/goods.parquet", "-o", str(config)]
    assert main([*args, "--column", "quantity=Customer ID"]) == 3  # then no column is left for the user
    assert main([*args, "--column", "quantity=qty", "--column", "items.title=name"]) == 0
    assert load_settings(config, env={}).purchases.quantity == "qty"


@pytest.mark.parametrize("column", ["user_id", "colour=x", "items.quantity=x", "users.title=x", "user_id="])
def test_a_wrong_column_option_is_answered_with_its_form(
    shop: Path, column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", f"{shop}/sales", "-o", f"{shop}/t.toml", "--column", column]) == 2
    assert "--column must be KEY=COLUMN with a key of user_id" in capsys.readouterr().err


def test_ids_are_made_equal_in_both_tables_in_the_same_way(tmp_path: Path) -> None:
    codes = [f"s{n}" for n in range(30)] * 3 + ["S1", "S2"]
    times = [datetime(2024, 1, 1)] * len(codes)
    users = [f"u{n % 7}" for n in range(len(codes))]
    pq.write_table(pa.table({"user": users, "sku": codes, "time": times}), tmp_path / "sales.parquet")
    pq.write_table(pa.table({"Item Code": codes[:30], "name": codes[:30]}), tmp_path / "goods.parquet")
    config = tmp_path / "topkin.toml"
    assert main(["init", f"{tmp_path}/sales.parquet", "--items", f"{tmp_path}/goods.parquet", "-o", str(config)]) == 0
    loaded = load_settings(config, env={})
    assert loaded.purchases.normalise == {"sku": "upper(trim(sku))"}
    assert loaded.items is not None
    assert loaded.items.normalise == {"Item Code": 'upper(trim("Item Code"))'}


@pytest.mark.parametrize("kind", ["string_view", "large_string", "dictionary", "uuid", "nothing", "not UTF-8"])
def test_columns_of_rare_kinds_are_looked_at(tmp_path: Path, kind: str) -> None:
    texts = [f"u{n % 3}" for n in range(12)]
    users = {
        "string_view": pa.array(texts, pa.string_view()),
        "large_string": pa.array(texts, pa.large_string()),
        "dictionary": pa.array(texts).dictionary_encode(),
        "uuid": pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array([t.ljust(16).encode() for t in texts], pa.binary(16))
        ),
        "nothing": pa.array(texts),
        "not UTF-8": pa.Array.from_buffers(pa.string(), 12, pa.array([b"\xff\xfe "] * 12).buffers()),
    }[kind]
    sales = {"user_id": users, "item_id": ["i"] * 12, "date": [datetime(2024, 1, 1)] * 12, "note": pa.nulls(12)}
    pq.write_table(pa.table(sales), tmp_path / "sales.parquet")
    pq.write_table(pa.table({"item_id": ["i"]}), tmp_path / "goods.parquet")
    config = tmp_path / "t.toml"
    assert main(["init", f"{tmp_path}/sales.parquet", "--items", f"{tmp_path}/goods.parquet", "-o", str(config)]) == 0
    assert load_settings(config, env={}).purchases.user_id == "user_id"


def test_columns_of_one_name_are_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table([[1], [2]], names=["user_id", "user_id"]), tmp_path / "sales.parquet")
    assert main(["init", f"{tmp_path}/sales.parquet", "-o", f"{tmp_path}/t.toml"]) == 3
    assert "several columns called 'user_id'" in capsys.readouterr().err


def test_a_column_of_a_name_that_topkin_keeps_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"user_id": [1], "__File": [2]}), tmp_path / "sales.parquet")
    assert main(["init", f"{tmp_path}/sales.parquet", "-o", f"{tmp_path}/t.toml"]) == 3
    assert "column '__File' has a name that topkin keeps for itself: rename it" in capsys.readouterr().err


def test_data_that_cannot_be_read_are_bad_input(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "not.parquet").write_text("hello")
    pq.write_table(pa.table({"user_id": pa.array([], pa.string())}), shop / "empty.parquet")
    for name, words in {
        "none.parquet": "there is no file",
        "not.parquet": "is not Parquet",
        "empty.parquet": "holds no rows",
        "goods.parquet": "no column looks like user_id",
    }.items():
        assert main(["init", f"{shop}/{name}", "-o", f"{shop}/t.toml"]) == 3
        assert words in capsys.readouterr().err
    assert not (shop / "t.toml").exists()


def test_real_purchases_are_guessed_right(online_retail: Path, tmp_path: Path) -> None:
    config = tmp_path / "topkin.toml"
    args = ["init", f"{online_retail}/purchases.parquet", "--items", f"{online_retail}/items.parquet"]
    assert main([*args, "-o", str(config)]) == 0
    loaded = load_settings(config, env={})
    bought = loaded.purchases
    assert (bought.user_id, bought.item_id, bought.timestamp) == ("user_id", "item_id", "timestamp")
    assert (bought.quantity, bought.price, bought.segment) == ("quantity", "unit_price", "country")
    assert bought.normalise == {"item_id": "upper(trim(item_id))"}
    assert set(bought.rules.values()) == {"quantity > 0", "unit_price > 0"}
    assert loaded.items is not None
    assert (loaded.items.item_id, loaded.items.title) == ("item_id", "title")
    assert (loaded.items.price, loaded.items.available) == ("median_unit_price", "looks_like_product")


def test_the_generated_shop_is_guessed_right(tmp_path: Path) -> None:
    from topkin.synthetic.shop import Shop

    Shop(users=60, items=80, purchases=1500, seed=3).write(str(tmp_path / "shop"))
    args = [f"{tmp_path}/shop/purchases", "--items", f"{tmp_path}/shop/items.parquet"]
    config = tmp_path / "topkin.toml"
    assert main(["init", *args, "--users", f"{tmp_path}/shop/users.parquet", "-o", str(config)]) == 0
    loaded = load_settings(config, env={})
    bought = loaded.purchases
    assert (bought.user_id, bought.item_id, bought.timestamp) == ("user_id", "item_id", "timestamp")
    assert (bought.quantity, bought.price, bought.segment) == ("quantity", "price", "country")
    assert loaded.items is not None
    assert (loaded.items.title, loaded.items.category) == ("title", "category")
    assert (loaded.items.price, loaded.items.available) == ("price", "available")
    assert loaded.users is not None
    assert (loaded.users.user_id, loaded.users.segment) == ("user_id", "country")
