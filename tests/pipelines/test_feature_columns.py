"""Features of items and users: the columns' contract, and what arrives in the catalogue and the histories."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.api.inputs import prepare_tables
from topkin.artifacts import schemas
from topkin.config.sections import Settings
from topkin.errors import ConfigError, TopkinError
from topkin.pipelines.engine.job import Job
from topkin.pipelines.prepare import STAGE, check_inputs

AS_OF, DAY = datetime(2024, 6, 1), datetime(2024, 5, 1)
ITEMS = pa.table(
    {
        "item": ["a", "b", "c"],
        "brand": pa.array([" Acme &amp; Co ", "", None]).dictionary_encode(),
        "cost": [2.5, float("nan"), None],
        "tags": [["x", None, " y "], [], None],
        "blurb": ["A small, RED cup", None, "!"],
        "year": pa.array([2001, None, 2003], pa.int32()),
    }
)
USERS = pa.table({"user": ["u", "idle"], "country": ["FR", None], "age": [31, 44]})
ITEM_FEATURES: dict[str, Any] = {
    "brand": "brand",
    "log cost": "ln(cost)",
    "tags": "tags",
    "words": {"column": "blurb", "kind": "text"},
    "year": {"column": "year", "kind": "category"},
}


def settings(
    folder: Path, items: dict[str, Any], users: dict[str, Any] | None = None, *tables: pa.Table, parts: int = 2
) -> Settings:
    """Two purchases, files of items (ITEMS without tables), and the users."""
    pq.write_table(pa.table({"user": ["u", "v"], "item": ["a", "sold"], "time": [DAY, DAY]}), folder / "p.parquet")
    (folder / "items").mkdir()
    for number, table in enumerate(tables or (ITEMS,)):
        pq.write_table(table, folder / "items" / f"{number}.parquet")
    pq.write_table(USERS, folder / "u.parquet")
    return Settings.model_validate(
        {
            "run": {"parts": parts},
            "purchases": {
                "path": str(folder / "p.parquet"), "user_id": "user", "item_id": "item", "timestamp": "time"
            },
            "items": {"path": str(folder / "items"), "item_id": "item", "features": items},
            "users": {"path": str(folder / "u.parquet"), "user_id": "user", "features": users or {}},
        }
    )  # fmt: skip


def prepared(asked: Settings, folder: Path) -> tuple[pa.Table, pa.Table]:
    out = folder / "out"
    STAGE.execute(Job(settings=asked, as_of=AS_OF, out=str(out), beam=()))
    return pq.read_table(out / "catalogue.parquet"), pq.read_table(out / "histories").sort_by("user_id")


def by_id(table: pa.Table) -> dict[str, Any]:
    return dict(zip(table[0].to_pylist(), table["features"].to_pylist(), strict=True))


def test_features_arrive_as_numbers_labels_and_lists_of_labels(tmp_path: Path) -> None:
    catalogue, histories = prepared(settings(tmp_path, ITEM_FEATURES, {"country": "country", "age": "age"}), tmp_path)
    kinds = {
        "brand": schemas.STRING,
        "log cost": schemas.FLOAT,
        "tags": schemas.LABELS,
        "words": schemas.LABELS,
        "year": schemas.STRING,
    }
    assert catalogue.schema.equals(schemas.catalogue(pa.string(), None, pa.struct(kinds)))
    by_item = by_id(catalogue)
    assert by_item["a"].pop("log cost") == pytest.approx(0.916, abs=1e-3)
    assert by_item == {
        "a": {"brand": "Acme & Co", "tags": ["x", "y"], "words": ["a", "small", "red", "cup"], "year": "2001"},
        "b": {"brand": None, "log cost": None, "tags": [], "words": [], "year": None},
        "c": {"brand": None, "log cost": None, "tags": [], "words": [], "year": "2003"},
        "sold": None,
    }
    assert by_id(histories) == {
        "idle": {"country": None, "age": 44},
        "u": {"country": "FR", "age": 31},
        "v": None,
    }


def test_tables_in_memory_are_prepared_as_files_are(tmp_path: Path) -> None:
    asked = settings(tmp_path, ITEM_FEATURES, {"age": "age"}, parts=1)
    catalogue, histories = prepared(asked, tmp_path)
    tables = {"purchases": pq.read_table(tmp_path / "p.parquet"), "items": ITEMS, "users": USERS}
    in_memory, _ = prepare_tables(asked, tables, AS_OF)
    assert in_memory.catalogue["features"].to_pylist() == catalogue["features"].to_pylist()
    assert in_memory.histories["features"].to_pylist() == histories["features"].to_pylist()


def test_an_item_listed_twice_keeps_the_features_of_its_first_row(tmp_path: Path) -> None:
    twice = pa.table({"item": ["a", "a"], "brand": ["first", "second"]})
    catalogue, _ = prepared(settings(tmp_path, {"brand": "brand"}, None, twice), tmp_path)
    assert by_id(catalogue) == {"a": {"brand": "first"}, "sold": None}


def test_without_features_the_tables_have_no_such_column(tmp_path: Path) -> None:
    catalogue, histories = prepared(settings(tmp_path, {}), tmp_path)
    assert catalogue.schema.equals(schemas.catalogue(pa.string()))
    assert histories.schema.equals(schemas.histories(pa.string(), pa.string()))


def with_channels(folder: Path, **more: Any) -> Settings:
    asked = settings(folder, {})
    rows = {"user": list("uuv"), "item": ["b", "a", "sold"], "time": [DAY] * 3, "how": ["web", None, "gift"]}
    pq.write_table(pa.table({**rows, "paid": [1, 2, 3], "views": [1, 1, 1]}), folder / "p.parquet")
    features = {"channel": "how", "paid": "paid * 2", "code": {"column": "paid", "kind": "category"}}
    bought = {**asked.purchases.model_dump(exclude_unset=True), "features": features, **more}
    return Settings.model_validate({**asked.model_dump(mode="json", exclude_unset=True), "purchases": bought})


def test_features_of_purchases_arrive_beside_the_items_of_histories(tmp_path: Path) -> None:
    asked = with_channels(tmp_path)
    assert asked.feature_dim == 32
    _, histories = prepared(asked, tmp_path)
    kinds = {"channel": schemas.STRING, "paid": schemas.FLOAT, "code": schemas.STRING}
    assert histories.schema.field("purchase_features").type == pa.list_(pa.struct(kinds))
    result = dict(zip(*(histories[name].to_pylist() for name in ("user_id", "purchase_features")), strict=True))
    assert result == {
        "idle": [],
        "u": [{"channel": None, "paid": 4.0, "code": "2"}, {"channel": "web", "paid": 2.0, "code": "1"}],
        "v": [{"channel": "gift", "paid": 6.0, "code": "3"}],
    }
    assert pq.read_table(tmp_path / "out" / "events")["features"].null_count == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"weight": "views"}, "got events or weights beside them: drop one"),
        ({"order": "row", "timestamp": None}, "got purchases without times: drop one"),
        ({"features": {"x": {"column": "how", "kind": "time"}}}, "purchases.features.x.kind"),
    ],
)
def test_features_of_purchases_that_cannot_be_learned_are_refused(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        with_channels(tmp_path, **more)


def test_a_recommender_in_memory_says_that_it_learns_no_features_of_purchases(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"purchases\.features are learned by topkin run"):
        prepare_tables(with_channels(tmp_path), {"purchases": pq.read_table(tmp_path / "p.parquet")}, AS_OF)


def test_a_feature_of_a_purchase_of_a_wrong_type_is_told(tmp_path: Path) -> None:
    asked = with_channels(tmp_path, features={"channel": {"column": "how", "kind": "number"}})
    [fault] = check_inputs(asked, AS_OF)
    assert "purchases.features.channel of kind 'number' must be a number, got string" in str(fault)
    purchases = {**asked.purchases.model_dump(exclude_unset=True), "features": {"day": "time"}}
    sections = {**asked.model_dump(mode="json", exclude_unset=True), "purchases": purchases}
    [fault] = check_inputs(Settings.model_validate(sections), AS_OF)
    assert str(fault).endswith("or a part of it such as month(…)")


def of(**columns: Any) -> pa.Table:
    return pa.table({"item": ["a"], **{name: pa.array([value]) for name, value in columns.items()}})


@pytest.mark.parametrize(
    ("features", "tables", "message"),
    [
        ({"made": "made"}, [of(made=date(2024, 1, 1))],
         "items.features.made must be a number, a string, a boolean or a list of strings or integers, got "
         "date32[day]: give epoch(…) of it, or a part of it such as month(…)"),
        ({"size": {"column": "size", "kind": "number"}}, [of(size="L")],
         "items.features.size of kind 'number' must be a number, got string: give TRY_CAST(… AS DOUBLE), or leave "
         "kind out"),
        ({"size": "size"}, [of(size={"w": 1})],
         "got struct<w: int64>: name one of its fields, w"),
        ({"size": {"column": "size", "kind": "category"}}, [of(size=["L"])],
         "items.features.size of kind 'category' must be a string, an integer or a boolean, got list<"),
        ({"size": "size"}, [of(size="L"), of(size=4)],
         "1.parquet: column 'features.size' (items.features.size) is float, but string in "),
        ({"brand": "brnd"}, [ITEMS],
         "items.features.brand: 'brnd' names a column 'brnd', which is not there, did you mean 'brand'; the columns "
         "are item, brand, cost, tags, blurb, year"),
        ({"brand": "unit price"}, [ITEMS], "items.features.brand: 'unit price'"),
    ],
)  # fmt: skip
def test_a_feature_that_cannot_be_read_is_named_with_its_cure(
    tmp_path: Path, features: dict[str, Any], tables: list[pa.Table], message: str
) -> None:
    faults = check_inputs(settings(tmp_path, features, None, *tables), AS_OF)
    assert any(message in str(fault) for fault in faults), [str(f) for f in faults]
    assert all(isinstance(fault, TopkinError) for fault in faults)


def test_a_file_without_a_value_is_held_to_no_type(tmp_path: Path) -> None:
    nothing = pa.table({"item": ["b"], "brand": pa.nulls(1)})
    catalogue, _ = prepared(settings(tmp_path, {"brand": "brand"}, None, of(brand="x"), nothing), tmp_path)
    assert by_id(catalogue) == {"a": {"brand": "x"}, "b": {"brand": None}, "sold": None}
