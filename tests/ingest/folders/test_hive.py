"""Columns in the names of folders: what was written as a partition is read as a column."""

from datetime import date
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.ingest.files import FILE, ROW, ArrowFiles, batches, find
from topkin.ingest.folders import hive


@pytest.mark.parametrize(
    ("path", "root", "keys"),
    [
        ("s/d=2024-01-02/p.parquet", "s", {"d": "2024-01-02"}),
        ("s/d=2024-01-02/p.parquet", "s/", {"d": "2024-01-02"}),
        ("s/y=2024/m=01/p.parquet", "s", {"y": "2024", "m": "01"}),
        ("s/y=2024/raw/m=01/p.parquet", "s", {"y": "2024", "m": "01"}),
        ("s/y=2024/m=01/p.parquet", "s/y=2024", {"y": "2024", "m": "01"}),  # the path ends in a key
        ("s/y=2024/m=01/p.parquet", "s/y=2024/m=01/p.parquet", {"y": "2024", "m": "01"}),
        ("/run=7/s/m=01/p.parquet", "/run=7/s", {"m": "01"}),  # a key above, cut off by a folder of another name
        ("d=1/p.parquet", ".", {"d": "1"}),
        ("s/c=__HIVE_DEFAULT_PARTITION__/p.parquet", "s", {"c": None}),
        ("s/c=a%2Fb%20%C3%A9/p.parquet", "s", {"c": "a/b é"}),
        ("s/c=%FF/p.parquet", "s", {"c": "%FF"}),
        ("s/the%20key=a=b/p.parquet", "s", {"the key": "a=b"}),
        ("s/=x/plain/p=q.parquet", "s", {}),
        ("s/c=1/c=2/p.parquet", "s", {"c": "2"}),
        ("gs://b/s/c=1/p.parquet", "gs://b/s", {"c": "1"}),
    ],
)
def test_keys_stand_below_the_path_or_at_its_end(path: str, root: str, keys: dict[str, str | None]) -> None:
    assert hive.keys_of(path, root) == keys


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1", "-20", "0"], [1, -20, 0]),
        (["1", None], [1, None]),
        (["1", "02"], ["1", "02"]),
        (["1", "x", None], ["1", "x", None]),
        (["9223372036854775807"], [2**63 - 1]),
        (["9223372036854775808", "1"], ["9223372036854775808", "1"]),
        (["+1"], ["+1"]),
        (["-0"], ["-0"]),
        (["1.0"], ["1.0"]),
        ([""], [""]),
        ([None], [None]),
        (["٣"], ["٣"]),
    ],
)
def test_a_key_has_one_type_in_all_files(texts: list[str | None], values: list[object]) -> None:
    scalars = [dict(columns)["k"] for columns in hive.constants([{"k": text} for text in texts])]
    assert [s.as_py() for s in scalars] == values
    assert {s.type for s in scalars} == {pa.int64() if any(isinstance(v, int) for v in values) else pa.string()}


@given(st.dictionaries(st.text(min_size=1), st.none() | st.text(), max_size=4))
def test_what_is_written_as_spark_writes_it_is_read(keys: dict[str, str | None]) -> None:
    parts = [f"{quote(k, safe='')}={hive.NULL if v is None else quote(v, safe='')}" for k, v in keys.items()]
    assert hive.keys_of("/".join(["root", *parts, "p.parquet"]), "root") == keys


def test_a_partitioned_data_set_of_arrow_reads_as_it_was_written(tmp_path: Path) -> None:
    table = pa.table(
        {
            "user_id": range(8),
            "day": pa.array([date(2024, 1, 1 + n % 3) for n in range(8)]),
            "shop": pa.array([7, None, 12, 7, 7, 12, None, 7]),
            "kind of": ["a/b", "a b", "ü=", "%", "a/b", ".", "x", None],
        }
    )
    keys = ["day", "shop", "kind of"]
    ds.write_dataset(
        table,
        tmp_path / "s",
        format="parquet",
        partitioning=ds.partitioning(pa.schema([table.schema.field(k) for k in keys]), flavor="hive"),
    )
    listed = find("purchases.path", str(tmp_path / "s"), ArrowFiles())
    rows = [
        t
        for f in listed.files
        for t in batches("purchases", f, ArrowFiles(), ["shop", "user_id", "day", "kind of"], rows=2)
    ]
    read = pa.concat_tables(rows).sort_by("user_id")
    assert read.column_names == ["shop", "user_id", "day", "kind of", FILE, ROW]
    expected = table.set_column(1, "day", table["day"].cast(pa.string()))
    assert read.select(table.column_names).to_pylist() == expected.to_pylist()


def test_a_stored_column_wins_over_its_folder_unless_it_is_of_the_null_type(tmp_path: Path) -> None:
    for number, column in enumerate((pa.array(["stored"]), pa.nulls(1), None)):
        folder = tmp_path / "k=folder" / str(number)
        folder.mkdir(parents=True)
        columns = {"n": [number]} | ({} if column is None else {"k": column})
        pq.write_table(pa.table(columns), folder / "p.parquet")
    files = find("purchases.path", str(tmp_path), ArrowFiles()).files
    read = [next(batches("purchases", f, ArrowFiles(), ["k"], rows=9))["k"].to_pylist() for f in files]
    assert read == [["stored"], ["folder"], ["folder"]]


def test_rows_of_a_folder_alone_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a=1").mkdir()
    pq.write_table(pa.table({"n": range(5)}), tmp_path / "a=1" / "p.parquet")
    (file,) = find("purchases.path", str(tmp_path), ArrowFiles()).files
    tables = list(batches("purchases", file, ArrowFiles(), ["a"], rows=2))
    assert [t["a"].to_pylist() for t in tables] == [[1, 1], [1, 1], [1]]
    assert [n for t in tables for n in t[ROW].to_pylist()] == [0, 1, 2, 3, 4]
