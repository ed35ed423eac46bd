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
from topkin.ingest.contract import Inspection, inspect, sources, time_unit_finding, vector_dim
from topkin.ingest.files import ArrowFiles

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
    found = inspected(file)
    assert found.findings == ()
    assert (found.rows, found.columns) == (2, ("user", "item", "time", "price"))
    assert found.types == {"user_id": pa.string(), "item_id": pa.string()}
    assert (found.earliest, found.latest) == (DAY, NEXT)


def test_the_span_of_times_is_that_of_all_files_that_have_statistics(tmp_path: Path) -> None:
    write(replaced("time", [NEXT.date(), NEXT.date()]), tmp_path / "a.parquet")
    pq.write_table(PURCHASES, tmp_path / "b.parquet", write_statistics=False)
    found = inspected(tmp_path)
    assert (found.earliest, found.latest) == (None, NEXT)
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


def test_the_size_of_vectors_is_that_of_their_type_or_of_the_first(tmp_path: Path) -> None:
    assert vector_dim(inspected_items(write(ITEMS, tmp_path / "lists.parquet")), FILES) == 2
    fixed = replaced("emb", pa.array([[1.0, 2, 3]] * 3, pa.list_(pa.float32(), 3)), ITEMS)
    found = inspected_items(write(fixed, tmp_path / "fixed.parquet"))
    assert found.types["vector"].list_size == vector_dim(found, FILES) == 3
    assert vector_dim(inspected_items(tmp_path / "lists.parquet", vector=None), FILES) is None
    none = write(ITEMS.slice(0, 1), tmp_path / "none.parquet")
    with pytest.raises(InputError, match=r"column 'emb' \(items.vector\) must hold a vector in some row"):
        vector_dim(inspected_items(none), FILES)
    wrong = write(replaced("emb", [1.0, 2.0, 3.0], ITEMS), tmp_path / "numbers.parquet")
    assert "must be a list of floats, got double" in str(inspected_items(wrong).findings[0])


def test_epoch_numbers_in_another_unit_than_the_configured_one_are_noticed(file: Path) -> None:
    write(replaced("time", [1_291_191_960_000, 1_291_191_961_000]), file)
    found = inspected(file, time_unit="s")
    rows = pq.read_table(file)
    message = str(time_unit_finding(found, rows, NEXT))
    assert "must be epoch seconds, as purchases.time_unit says, got milliseconds such as 1291191960000" in message
    assert time_unit_finding(inspected(file, time_unit="ms"), rows, NEXT) is None
