"""The recommender in memory gives what the jobs write, takes any table, and says what is wrong."""

import datetime as dt
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import topkin
from topkin import errors
from topkin.api.answers import Answers
from topkin.api.data import StoredData
from topkin.config.load import load_settings
from topkin.synthetic.shop import Shop

SETS = ("train.epochs=2", "train.dim=8", "recommend.k=10", "evaluate.bootstrap=50")


class Night(NamedTuple):
    """A shop, its configuration, the run that ``topkin run`` made of it, and the recommender in memory."""

    shop: Shop
    config: Path
    run: Any
    recommender: topkin.Recommender
    tables: dict[str, pa.Table]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    folder = tmp_path_factory.mktemp("night")
    shop = Shop(users=150, items=80, purchases=3_000, seed=7)
    shop.write(str(folder / "shop"))
    (folder / "topkin.toml").write_text(shop.config_toml("shop"))
    settings = load_settings(folder / "topkin.toml", SETS, env={})
    names = {"purchases": "purchases", "items": "items.parquet", "users": "users.parquet"}
    tables = {name: pq.read_table(folder / "shop" / path) for name, path in names.items()}
    recommender = topkin.Recommender(settings).fit(**tables, as_of=shop.as_of)
    return Night(shop, folder / "topkin.toml", topkin.run(settings, shop.as_of), recommender, tables)


def by_id(table: pa.Table) -> pa.Table:
    return table.sort_by([(table.column_names[0], "ascending"), ("rank", "ascending")]).combine_chunks()


@pytest.mark.parametrize(
    ("method", "table"),
    [("recommend", "recommendations"), ("similar_items", "similar_items"), ("similar_users", "similar_users")],
)
def test_tables_in_memory_are_those_that_the_job_writes(night: Night, method: str, table: str) -> None:
    written = by_id(night.run.table(table))
    computed = getattr(night.recommender, method)()
    assert len(written)
    assert computed.equals(written)
    assert computed.schema.equals(written.schema)
    assert computed.schema.metadata == written.schema.metadata  # the same encoder, to the bit


def test_the_order_is_that_of_the_question_and_k_cuts_the_list(night: Night) -> None:
    users = night.recommender.users.to_pylist()[5:2:-1]
    lists = night.recommender.recommend([*users, users[0]], k=3)
    assert lists["user_id"].to_pylist() == [u for u in users for _ in range(3)]
    assert lists["rank"].to_pylist() == [1, 2, 3] * 3
    every = night.recommender.recommend()
    for user in users:
        own = every.filter(pc.equal(every["user_id"], user)).slice(0, 3)
        assert lists.filter(pc.equal(lists["user_id"], user)).equals(own.combine_chunks())


def test_a_published_run_answers_as_the_recommender_in_memory(night: Night) -> None:
    loaded = topkin.Recommender.load(night.run.settings.run.output)
    users, items = loaded.users.to_pylist()[10:4:-2], loaded.items.to_pylist()[3:1:-1]
    bought = by_id(night.run.table("recommendations"))["item_id"][0].as_py()
    for k in (1, 10, 15):  # 15 are more than were published
        assert loaded.recommend(users, k).equals(night.recommender.recommend(users, k).combine_chunks())
        assert loaded.similar_items(items, k).equals(night.recommender.similar_items(items, k))
        assert loaded.similar_users(users, k).equals(night.recommender.similar_users(users, k))
    assert loaded.recommend().equals(night.recommender.recommend())
    assert loaded.explain(users[0], bought).equals(night.recommender.explain(users[0], bought))
    assert loaded.as_of == night.recommender.as_of == night.shop.as_of


@pytest.mark.parametrize(
    "sets",
    [
        ("recommend.bought=keep",),
        pytest.param(("recommend.model=item_knn",), marks=pytest.mark.slow),
        ("recommend.bought=boost",),
    ],
)
def test_lists_by_every_rule_are_computed_as_published(night: Night, sets: tuple[str, ...]) -> None:
    run = topkin.run(load_settings(night.config, [*SETS, *sets], env={}), night.shop.as_of, publish=False)
    computed = Answers(StoredData(topkin.open_run(run.run.path))).recommendations(None, 10)
    assert computed.equals(by_id(run.table("recommendations")))


def test_what_was_saved_answers_as_what_was_fitted(night: Night, tmp_path: Path) -> None:
    night.recommender.save(tmp_path / "saved")
    night.recommender.save(tmp_path / "saved")  # once more is no fault
    loaded, users = topkin.Recommender.load(tmp_path / "saved"), night.recommender.users.slice(3, 5)
    assert loaded.recommend(users).equals(night.recommender.recommend(users))
    assert loaded.similar_users(users).equals(night.recommender.similar_users(users))
    assert loaded.similar_items().equals(night.recommender.similar_items())
    topkin.open_run(tmp_path / "saved").verify()
    encoder = topkin.Encoder.load(topkin.open_run(tmp_path / "saved").folder("train"))
    vectors, _ = encoder.encode_items(topkin.open_run(tmp_path / "saved").table("catalogue"))
    np.testing.assert_array_equal(vectors, night.recommender._known.items.vectors)
    with pytest.raises(errors.ConfigError, match="was loaded: copy its folder"):
        loaded.save(tmp_path / "again")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "letter.txt").write_text("dear")
    for folder in (tmp_path / "own", night.run.settings.run.output):  # of the user, and of the nightly job
        with pytest.raises(errors.ConfigError, match="folder of its own"):
            night.recommender.save(folder)


def test_the_shares_of_an_explanation_add_up_to_the_score(night: Night) -> None:
    plain = topkin.Recommender(night.run.settings, train={"epochs": 0}).fit(**night.tables, as_of=night.shop.as_of)
    lists, checked = plain.recommend(k=1), 0
    for row in lists.filter(pc.equal(lists["source"], "model")).slice(0, 30).to_pylist():
        shares = plain.explain(row["user_id"], row["item_id"])
        assert shares["item_id"].to_pylist()[:3] == row["because"]
        assert (np.diff(shares["share"].to_numpy()) <= 0).all()
        total = shares["share"].to_numpy().sum()
        assert total >= row["score"] - 1e-5  # those that speak against it are left out
        checked += bool(abs(total - row["score"]) < 1e-5)
    assert checked


def test_look_ups_load_neither_beam_nor_tensorflow(night: Night) -> None:
    user, item = night.recommender.users[0].as_py(), night.recommender.items[0].as_py()
    code = f"""
import sys, topkin
recommender = topkin.Recommender.load({night.run.settings.run.output!r})
recommender.recommend([{user!r}], k=3), recommender.recommend([{user!r}], k=30)
recommender.similar_items([{item!r}]), recommender.similar_users({user!r}), recommender.explain({user!r}, {item!r})
topkin.open_run({night.run.settings.run.output!r}).table("recommendations")
print(sorted({{"apache_beam", "tensorflow", "keras"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


ROWS = {
    "user_id": ["ann", "ann", "bob", "bob", "cat", "cat", "dan"],
    "item_id": ["tea", "cup", "tea", "pot", "cup", "jam", "jam"],
    "timestamp": [dt.datetime(2024, 5, day) for day in (1, 2, 1, 3, 3, 4, 5)],
}
QUICK: dict[str, Any] = {"train": {"epochs": 0, "next_item_dim": 0}, "run": {"parts": 2}}


@pytest.fixture(scope="module")
def quick() -> topkin.Recommender:
    return topkin.Recommender(QUICK).fit(pa.table(ROWS))


def test_sources_beside_the_encoder_rank_what_was_saved_as_what_was_fitted(tmp_path: Path) -> None:
    sources = {"recommend": {"sources": ["popularity", "item_knn_nearby"]}}
    recommender = topkin.Recommender({**QUICK, **sources}).fit(pa.table(ROWS))
    assert recommender._known.blend["weights"] == {}  # four users choose nothing
    blend = {"weights": {"encoder": 1.0, "item_knn_nearby": 0.5}}
    recommender._set(replace(recommender._known, blend=blend))
    lists = recommender.recommend(k=2)
    assert {"final", "decided"} < set(lists.column_names)
    assert set(lists["decided"].to_pylist()) <= {"encoder", "item_knn_nearby"}
    recommender.save(tmp_path / "own")
    assert topkin.Recommender.load(tmp_path / "own").recommend(k=2).equals(lists)
    recommender._set(replace(recommender._known, blend={}))
    assert "final" not in recommender.recommend(k=2).column_names


@pytest.mark.parametrize(
    "make",
    [
        pd.DataFrame,
        lambda rows: pd.DataFrame(rows, index=list("qrstuvw")),
        lambda rows: pd.DataFrame(rows).astype({"user_id": "category", "item_id": object}),
        pl.DataFrame,
        lambda rows: pl.DataFrame(rows).with_columns(pl.col("item_id").cast(pl.Categorical)),
        lambda rows: duckdb.from_arrow(pa.table(rows)),
        lambda rows: pa.table(rows).to_reader(max_chunksize=2),
        lambda rows: pa.table({**rows, "timestamp": [int(t.timestamp() * 1000) for t in rows["timestamp"]]}),
    ],
    ids=[
        "pandas",
        "pandas with an index",
        "pandas categories",
        "Polars",
        "Polars categories",
        "DuckDB",
        "reader",
        "epoch",
    ],
)
def test_any_table_with_an_arrow_stream_gives_the_same_lists(quick: topkin.Recommender, make: Any) -> None:
    frame = make(ROWS)
    assert topkin.Recommender(QUICK).fit(frame).recommend().equals(quick.recommend())


@pytest.mark.parametrize("kind", [pa.int64(), pa.int32(), pa.binary(), pa.large_string()])
def test_ids_stay_as_the_user_has_them(quick: topkin.Recommender, kind: pa.DataType) -> None:
    codes = {name: sorted(set(ROWS[name])) for name in ("user_id", "item_id")}

    def ids(name: str) -> pa.Array:
        values: list[Any] = [str(v) for v in ROWS[name]]
        if pa.types.is_integer(kind):
            values = [codes[name].index(v) for v in values]
        return pa.array(values, pa.string() if pa.types.is_binary(kind) else None).cast(kind)

    table = pa.table({**ROWS, "user_id": ids("user_id"), "item_id": ids("item_id")})
    recommender = topkin.Recommender(QUICK).fit(table)
    user = table["user_id"][3].as_py()
    lists = recommender.recommend(np.array([user]) if pa.types.is_integer(kind) else [user])
    plain = quick.recommend("bob")
    assert lists.schema.field("user_id").type == recommender.users.type
    named = [codes["item_id"][i] for i in lists["item_id"].to_pylist()] if pa.types.is_integer(kind) else [
        i.decode() if isinstance(i, bytes) else i for i in lists["item_id"].to_pylist()
    ]  # fmt: skip
    assert named == plain["item_id"].to_pylist()


def test_ids_may_come_as_any_array(quick: topkin.Recommender) -> None:
    wanted = quick.recommend(["cat", "ann"])
    for users in (pd.Series(["cat", "ann"]), pl.Series(["cat", "ann"]), pa.array(["cat", "ann"]), ("cat", "ann")):
        assert quick.recommend(users).equals(wanted)
    assert len(quick.recommend([])) == 0
    assert set(quick.recommend("ann")["user_id"].to_pylist()) == {"ann"}  # a text is one id


def test_columns_are_named_by_the_settings_and_the_items_and_users_may_come_too() -> None:
    table = pa.table({"who": ROWS["user_id"], "what": ROWS["item_id"], "when": ROWS["timestamp"], "quantity": [1] * 7})
    items = pa.table({"item_id": ["tea", "new"], "title": ["green tea", "new tea"], "available": [False, True]})
    recommender = topkin.Recommender(
        QUICK, purchases={"user_id": "who", "item_id": "what", "timestamp": "when"}, recommend={"k": 2}
    ).fit(table, items, pa.table({"user_id": ["eva"]}), as_of="2024-05-05")
    assert recommender.as_of == dt.datetime(2024, 5, 5)
    assert recommender.users.to_pylist() == ["ann", "bob", "cat", "eva"]  # dan came later
    lists = recommender.recommend()
    assert "tea" not in lists["item_id"].to_pylist()
    assert set(lists.filter(pc.equal(lists["user_id"], "eva"))["source"].to_pylist()) == {"recent_popularity"}
    assert "new" in recommender.items.to_pylist()


def test_baskets_with_a_catalogue_give_the_lists_of_their_lines() -> None:
    items = pa.table({"item_id": ["tea", "new"], "title": ["green tea", "new tea"]})
    lines = [[{"sku": item}] for item in ROWS["item_id"]]
    baskets = pa.table({"user_id": ROWS["user_id"], "lines": lines, "timestamp": ROWS["timestamp"]})
    recommender = topkin.Recommender(QUICK, purchases={"item_id": "lines[].sku"}).fit(baskets, items)
    assert recommender.recommend().equals(topkin.Recommender(QUICK).fit(pa.table(ROWS), items).recommend())


def test_by_default_everything_up_to_the_last_purchase_counts(quick: topkin.Recommender) -> None:
    assert quick.as_of == dt.datetime(2024, 5, 5, 0, 0, 0, 1)
    assert "dan" in quick.users.to_pylist()


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (lambda r: r.recommend("zed"), errors.InputError, r"users must be in the data .* such as 'zed': drop them"),
        (lambda r: r.recommend([1, 2]), TypeError, r"users must be string, as in the purchases, got int64"),
        (lambda r: r.recommend(["ann", None]), TypeError, "users must not be null, got 1 nulls"),
        (lambda r: r.recommend("ann", k=0), ValueError, "k must be a whole number of at least 1, got 0: leave it out"),
        (lambda r: r.recommend("ann", k=2.5), ValueError, "k must be a whole number of at least 1, got 2.5: leave"),
        (lambda r: r.similar_items("zed"), errors.InputError, "items must be in the data"),
        (lambda r: r.explain("ann", "zed"), errors.InputError, "items must be in the data"),
        (lambda r: r.explain(["ann", "bob"], "tea"), ValueError, "explain takes one user and one item, got 2 and 1"),
        (lambda r: topkin.Recommender().recommend("ann"), RuntimeError, r"call fit\(purchases\) first"),
        (lambda r: topkin.Recommender().fit("purchases.parquet"), TypeError, "Arrow C stream .* got str: .*read_table"),
        (lambda r: topkin.Recommender().fit(pl.LazyFrame(ROWS)), TypeError, "got LazyFrame: collect a lazy one"),
        (lambda r: topkin.Recommender().fit(pa.table(ROWS).rename_columns(["user", "item_id", "timestamp"])),
         errors.InputError, r"did you mean 'user'; its columns are .*: set purchases.user_id to one"),
        (lambda r: topkin.Recommender().fit(pa.table({**ROWS, "user_id": [0.5] * 7})),
         errors.InputError, "must be an integer, a string or binary, got double"),
        (lambda r: topkin.Recommender().fit(pa.table(ROWS).slice(0, 0)), errors.InputError, "must have rows, got none"),
        (lambda r: topkin.Recommender().fit(pa.table(ROWS), as_of="2020-01-01"), errors.InputError,
         "there must be a purchase before 2020-01-01"),
        (lambda r: topkin.Recommender().fit(pa.table(ROWS), as_of="soon"), errors.ConfigError, "as_of must be a date"),
        (lambda r: topkin.Recommender().fit(pa.table(ROWS), pa.table({"item_id": [1]})),
         errors.InputError, "items must have ids of the purchases' type string, got int64"),
        (lambda r: topkin.Recommender(items={"title": "name"}).fit(pa.table(ROWS)),
         errors.ConfigError, r"section \[items\]: give fit its table"),
        (lambda r: topkin.Recommender(train={"epoch": 3}), errors.ConfigError, "did you mean train.epochs"),
        (lambda r: topkin.Recommender(trian={"epochs": 3}), errors.ConfigError, r"did you mean \[train\]"),
        (lambda r: topkin.Recommender(recommend={"k": "many"}), errors.ConfigError, "recommend.k takes"),
        (lambda r: topkin.Recommender(recommend=20), errors.ConfigError, "recommend must be a section"),
        (lambda r: topkin.Recommender("none.toml"), errors.ConfigError, "there is no configuration file"),
        (lambda r: topkin.Recommender.load("/nowhere"), errors.ArtifactError, "Recommender.save"),
    ],
)  # fmt: skip
def test_misuse_says_the_rule_what_came_and_the_cure(
    quick: topkin.Recommender, act: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        act(quick)


@pytest.mark.parametrize(("twice", "epochs"), [(0, 0), (0, 3), (1, 0), (9, 3), (40, 0)])
def test_where_hardly_an_item_is_bought_with_another_the_lists_are_led_by_what_sells(twice: int, epochs: int) -> None:
    rng, shares = np.random.default_rng(0), 1 / np.arange(1, 21)
    first = rng.choice(20, 300, p=shares / shares.sum())
    second = 19 - np.arange(twice) % 3  # rare items, bought with another by a few
    hours = rng.integers(0, 6480, 300)
    rows = {
        "user_id": [*range(300), *range(twice)],
        "item_id": [*first, *second],
        "timestamp": [dt.datetime(2024, 1, 1) + dt.timedelta(hours=int(h)) for h in [*hours, *hours[:twice]]],
    }
    recommender = topkin.Recommender(train={"epochs": epochs, "dim": 8}).fit(pa.table(rows))
    lists = recommender.recommend(list(range(300)), 3)
    best, next_best = (item for item, _ in Counter(rows["item_id"]).most_common(2))
    leaders = lists.filter(pc.equal(lists["rank"], 1))
    bought = {(user, item) for user, item in zip(rows["user_id"], rows["item_id"], strict=True)}
    expected = [next_best if (user, best) in bought else best for user in leaders["user_id"].to_pylist()]
    assert leaders["item_id"].to_pylist() == expected
