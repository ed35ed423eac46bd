"""What a file of an input must hold: each fault is found from its footer, named with its place and its cure."""

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.config.sections import Settings
from topkin.errors import ConfigError, InputError
from topkin.ingest.cleaning import clean_purchases
from topkin.ingest.contract import Inspection, inspect, readable_rows, sources, vector_dim
from topkin.ingest.files import ArrowFiles, batches
from topkin.ingest.judging.sample import sample_rows
from topkin.ingest.values.findings import time_unit_finding

DAY, NEXT = datetime(2011, 10, 1), datetime(2011, 10, 2)
FILES = ArrowFiles()
PURCHASES = pa.table({"user": ["u", "v"], "item": ["a", "b"], "time": [DAY, NEXT], "price": [1.0, 2.0]})
ITEMS = pa.table({"item": ["a", "b", "c"], "emb": [None, [1.0, 2.0], [3.0, 4.0]]})


def write(table: pa.Table, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def replaced(column: str, values: Any, table: pa.Table = PURCHASES) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, pa.array(values))


def inspected(path: Path | str, **changes: Any) -> Inspection:
    columns = {"user_id": "user", "item_id": "item", "timestamp": "time", "price": "price"}
    settings = Settings.model_validate({"purchases": {"path": str(path), **columns, **changes}})
    return inspect(sources(settings)["purchases"], FILES)


def inspected_items(path: Path, **changes: Any) -> Inspection:
    items = {"path": str(path), "item_id": "item", "vector": "emb", **changes}
    return inspect(sources(Settings.model_validate({"purchases": {"path": "x"}, "items": items}))["items"], FILES)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(PURCHASES, tmp_path / "purchases.parquet")


def test_a_good_file_is_known_by_its_footer(file: Path) -> None:
    inspection = inspected(file)
    assert inspection.findings == ()
    assert (inspection.rows, inspection.columns) == (2, ("user", "item", "time", "price"))
    assert inspection.types == {"user_id": pa.string(), "item_id": pa.string()}
    assert (inspection.earliest, inspection.latest) == (DAY, NEXT)


def test_the_span_of_times_is_that_of_all_files_that_have_statistics(tmp_path: Path) -> None:
    write(replaced("time", [NEXT.date(), NEXT.date()]), tmp_path / "a.parquet")
    pq.write_table(PURCHASES, tmp_path / "b.parquet", write_statistics=False)
    inspection = inspected(tmp_path)
    assert (inspection.earliest, inspection.latest) == (None, NEXT)
    assert inspected(tmp_path / "a.parquet").earliest == NEXT
    assert inspected(tmp_path / "a.parquet", normalise={"time": "time + INTERVAL 1 DAY"}).latest is None
    write(replaced("time", [1_300_000_000, 1_300_000_001]), tmp_path / "a.parquet")
    assert inspected(tmp_path / "a.parquet").latest is None


@pytest.mark.parametrize(
    ("table", "changes", "message"),
    [
        (PURCHASES, {"user_id": "User"}, "has no column 'User' (purchases.user_id), did you mean 'user'"),
        (PURCHASES, {"rules": {"r": "prise > 0"}}, "names a column 'prise', which is not there, did you mean 'price'"),
        (replaced("time", [True, False]), {}, "column 'time' (purchases.timestamp) must be a timestamp"),
        (replaced("price", ["1", "2"]), {}, "must be a number, got string: set purchases.normalise.price"),
        (replaced("user", [1.0, 2.0]), {}, "a float cannot hold every id"),
        (PURCHASES.append_column("PRICE", pa.array([1, 2])), {"quantity": "PRICE"}, "differ in letter case only"),
        (pa.table([*PURCHASES.columns, PURCHASES["user"]], [*PURCHASES.column_names, "user"]), {}, "2 columns called"),
        (PURCHASES.append_column("__row", PURCHASES["price"]), {"price": "__row"}, "topkin keeps for itself"),
        (PURCHASES.append_column("__ROW", PURCHASES["price"]), {"price": "__ROW"}, "topkin keeps for itself"),
        (PURCHASES.slice(0, 0), {}, "holds no rows"),
        (PURCHASES, {"normalise": {"usr": "upper(item)"}}, "purchases.normalise.usr: nothing reads 'usr'"),
        (PURCHASES, {"rules": {"r": "price"}}, "must be true or false, got double"),
    ],
)
def test_each_fault_is_one_finding(file: Path, table: pa.Table, changes: dict[str, Any], message: str) -> None:
    write(table, file)
    (finding,) = inspected(file, **changes).findings
    assert isinstance(finding, InputError | ConfigError)
    assert any(part in str(finding) for part in message.split("|")), finding


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: b"", "is empty (0 bytes)"),
        (lambda whole: b"user,item\n", "is not Parquet: it starts with b'user'"),
        (lambda whole: whole[:-20], "is Parquet cut off before its end"),
        (lambda whole: whole[:-80] + b"\xff" * 70 + whole[-10:], "is damaged"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_finding(file: Path, damage: Any, message: str) -> None:
    file.write_bytes(damage(file.read_bytes()))
    (finding,) = inspected(file).findings
    assert message in str(finding)
    assert str(file) in str(finding)


def test_a_path_without_a_file_is_a_finding_that_says_what_is_there(file: Path) -> None:
    (file.parent / "empty").mkdir()
    os.mkfifo(file.parent / "pipe")
    for path, message in {
        file.parent / "purchase.parquet": "did you mean 'purchases.parquet'",
        file.parent / "empty": "holds no file that ends in .parquet",
        file.parent / "pipe": "is neither a file nor a folder",
        f"{file.parent}/x*.parquet": "no file matches",
        "foo://x/y.parquet": "cannot be looked for",
    }.items():
        (finding,) = inspected(path).findings
        assert message in str(finding)
        assert "purchases.path" in str(finding)


def test_files_of_a_folder_are_held_to_one_contract(tmp_path: Path) -> None:
    first = write(PURCHASES, tmp_path / "1.parquet")
    other = write(replaced("item", [1, 2]), tmp_path / "2.parquet")
    (finding,) = inspected(tmp_path).findings
    assert f"{other}: column 'item' (purchases.item_id) is int64, but string in {first}" in str(finding)
    for number in range(3, 10):
        write(PURCHASES.drop_columns("user"), tmp_path / f"{number}.parquet")
    missing = str(inspected(tmp_path).findings[-1])
    assert "has no column 'user'" in missing
    assert missing.endswith("and 2 more")


EMPTY = PURCHASES.slice(0, 0)


def test_a_file_without_a_column_of_the_others_is_told_how_it_mends(tmp_path: Path) -> None:
    write(PURCHASES, tmp_path / "a.parquet")
    write(pa.table({"other": [1]}), tmp_path / "b.parquet")
    findings = [str(finding) for finding in inspected(tmp_path).findings]
    assert findings
    assert all("b.parquet has no column" in text and "or keep it out of the folder" in text for text in findings)


def test_files_without_rows_stop_nothing(tmp_path: Path) -> None:
    """Whatever their columns are: pandas writes those of an empty frame as nulls."""
    nulls = pa.table({"user": pa.nulls(0), "item": pa.nulls(0)})
    for number, table in enumerate((nulls, EMPTY.drop_columns("user"), PURCHASES, pa.table({}))):
        write(table, tmp_path / f"{number}.parquet")
    write(EMPTY.set_column(0, "user", pa.array([], pa.int64())), tmp_path / "4.parquet")
    inspection = inspected(tmp_path, rules={"r": "price > 0"})
    assert inspection.findings == ()
    assert (len(inspection.files), inspection.rows, inspection.types["user_id"]) == (5, 2, pa.string())
    assert (inspection.earliest, inspection.latest) == (DAY, NEXT)
    assert [len(rows) for rows in sample_rows(inspection, FILES)] == [2]
    assert (
        sum(len(t) for f in inspection.files for t in batches("purchases", f, FILES, inspection.columns, rows=9)) == 2
    )


def test_a_folder_whose_files_are_all_empty_holds_no_rows(tmp_path: Path) -> None:
    for number, table in enumerate((EMPTY, pa.table({"user": pa.nulls(0)}))):
        write(table, tmp_path / f"{number}.parquet")
    (finding,) = inspected(tmp_path).findings
    assert str(finding) == f"purchases.path: {tmp_path} holds no rows: write it again"


@pytest.mark.parametrize("column", ["user", "item", "time", "price"])
def test_a_column_of_the_null_type_in_some_files_is_null_there(tmp_path: Path, column: str) -> None:
    write(replaced(column, pa.nulls(2)), tmp_path / "0.parquet")
    write(PURCHASES, tmp_path / "1.parquet")
    inspection = inspected(tmp_path, rules={"r": f"{column} IS NOT NULL"}, normalise={"item": "upper(item)"})
    assert inspection.findings == ()
    tables = [t for f in inspection.files for t in batches("purchases", f, FILES, inspection.columns, rows=9)]
    assert [t.schema.field(column).type for t in tables] == [PURCHASES.schema.field(column).type] * 2
    cleaned = [clean_purchases(t, inspection.source, datetime(2030, 1, 1)) for t in tables]
    assert [c.rejects.num_rows for c in cleaned] == [2, 0]
    reasons = {"price": "r"}.get(column, f"{column} is null")
    assert cleaned[0].rejects["reason"].to_pylist() == [reasons] * 2


def test_a_column_of_the_null_type_in_all_files_is_a_finding(file: Path) -> None:
    write(replaced("user", pa.nulls(2)), file)
    assert "column 'user' (purchases.user_id) must be" in str(inspected(file).findings[0])


def test_types_of_one_kind_are_one(tmp_path: Path) -> None:
    small = PURCHASES.schema.set(0, pa.field("user", pa.dictionary(pa.int8(), pa.large_string())))
    write(PURCHASES.cast(small), tmp_path / "0.parquet")
    write(PURCHASES.set_column(0, "user", PURCHASES["user"].cast(pa.large_string())), tmp_path / "1.parquet")
    write(PURCHASES.set_column(3, "price", pa.array([1, 2], pa.int8())), tmp_path / "k=1" / "2.parquet")
    assert inspected(tmp_path).findings == ()
    numbers = [replaced("item", pa.array([1, 2], t)) for t in (pa.int32(), pa.uint8(), pa.int64())]
    for number, table in enumerate(numbers):
        write(table, tmp_path / f"{number}.parquet")
    (tmp_path / "k=1" / "2.parquet").unlink()
    inspection = inspected(tmp_path)
    assert inspection.findings == ()
    assert inspection.types["item_id"] == pa.int64()


def test_columns_of_folders_are_held_to_the_contract(tmp_path: Path) -> None:
    for day in ("2011-10-01", "2011-10-02"):
        write(PURCHASES.drop_columns("time"), tmp_path / f"time={day}" / "a.parquet")
    inspection = inspected(tmp_path)
    assert inspection.findings == ()
    assert inspection.schema.field("time").type == pa.string()
    assert (inspection.earliest, inspection.latest) == (DAY, NEXT)
    assert inspected(f"{tmp_path}/*").columns == inspection.columns
    assert inspected(f"{tmp_path}/time=2011-10-01/a.parquet").latest == DAY
    assert inspected(tmp_path, rules={"late": "time < '2011-10-02'"}).findings == ()
    write(PURCHASES.drop_columns("time"), tmp_path / "b.parquet")
    (finding,) = inspected(tmp_path).findings
    assert str(finding).startswith(f"{tmp_path / 'b.parquet'} has no column 'time' (purchases.timestamp)")


def test_a_time_in_several_keys_of_folders_is_told_with_the_expression_that_reads_it(tmp_path: Path) -> None:
    write(PURCHASES.drop_columns("time"), tmp_path / "year=2011" / "month=10" / "day=01" / "a.parquet")
    (finding,) = inspected(tmp_path).findings
    sql = "make_date(CAST(year AS BIGINT), CAST(month AS BIGINT), CAST(day AS BIGINT))"
    assert str(finding).endswith(f'set purchases.timestamp to one of them, or purchases.normalise.time = "{sql}"')
    inspection = inspected(tmp_path, normalise={"time": sql})
    assert inspection.findings == ()
    (rows,) = batches("purchases", inspection.files[0], FILES, inspection.columns, rows=9)
    assert clean_purchases(rows, inspection.source, NEXT).accepted["timestamp"].to_pylist() == [DAY, DAY]


def test_keys_of_folders_that_differ_in_type_are_strings_everywhere(tmp_path: Path) -> None:
    for key in ("7", "07"):
        write(PURCHASES.drop_columns("user"), tmp_path / f"user={key}" / "a.parquet")
    assert inspected(tmp_path).types["user_id"] == pa.string()
    (tmp_path / "user=07").rename(tmp_path / "user=8")
    assert inspected(tmp_path).types["user_id"] == pa.int64()


def dim(inspection: Inspection) -> int | None:
    return vector_dim(inspection, readable_rows(inspection, FILES))


def test_the_size_of_vectors_is_that_of_their_type_or_of_the_first(tmp_path: Path) -> None:
    assert dim(inspected_items(write(ITEMS, tmp_path / "lists.parquet"))) == 2
    fixed = replaced("emb", pa.array([[1.0, 2, 3]] * 3, pa.list_(pa.float32(), 3)), ITEMS)
    inspection = inspected_items(write(fixed, tmp_path / "fixed.parquet"))
    assert inspection.types["vector"].list_size == dim(inspection) == 3
    assert dim(inspected_items(tmp_path / "lists.parquet", vector=None)) is None
    none = write(ITEMS.slice(0, 1), tmp_path / "none.parquet")
    with pytest.raises(InputError, match=r"column 'emb' \(items.vector\) must hold a vector in some row"):
        dim(inspected_items(none))
    wrong = write(replaced("emb", [1.0, 2.0, 3.0], ITEMS), tmp_path / "numbers.parquet")
    assert "must be a list of floats, got double" in str(inspected_items(wrong).findings[0])


def test_epoch_numbers_in_another_unit_than_the_configured_one_are_noticed(file: Path) -> None:
    write(replaced("time", [1_291_191_960_000, 1_291_191_961_000]), file)
    inspection = inspected(file, time_unit="s")
    rows = pq.read_table(file)
    message = str(time_unit_finding(inspection, rows, NEXT))
    assert "must be epoch seconds, as purchases.time_unit says, got milliseconds such as 1291191960000" in message
    assert time_unit_finding(inspected(file, time_unit="ms"), rows, NEXT) is None
