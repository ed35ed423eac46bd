"""Inputs in an object store: the same files, keys and rows as on a disk."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts import storage
from topkin.errors import InputError
from topkin.ingest.files import ArrowFiles, batches, find
from topkin.ingest.folders.file import glob_pattern

TREE = ("a.parquet", "b.parquet", "d=1/p.parquet", "d=1/e=x/p.parquet", "d=2/p.parquet", "d=2/_tmp/p.parquet")
PATHS = ("", "/a.parquet", "/*.parquet", "/d=*/*.parquet", "/**/*.parquet", "/d=[12]", "/d=?/p.parquet", "/d=1")


def test_paths_folders_and_globs_mean_the_same_files_as_on_a_disk(bucket, tmp_path):
    for root in (bucket, str(tmp_path)):
        for number, name in enumerate(TREE):
            storage.write_parquet(pa.table({"a": [number]}), f"{root}/lake/{name}")
        storage.write_bytes(b"", f"{root}/lake/_SUCCESS")
    for path in PATHS:
        there, here = (find("purchases.path", f"{root}/lake{path}", ArrowFiles()) for root in (bucket, str(tmp_path)))
        names = [[f.path.partition("/lake")[2] for f in of.files] for of in (there, here)]
        assert names[0] == names[1], path
        assert [(f.bytes, f.constants) for f in there.files] == [(f.bytes, f.constants) for f in here.files], path
        assert there.hidden == here.hidden, path
    (file,) = find("purchases.path", f"{bucket}/lake/d=2/p.parquet", ArrowFiles()).files
    (table,) = batches("purchases", file, ArrowFiles(), ["a", "d"], rows=10)
    assert table.select(["a", "d"]).to_pylist() == [{"a": 4, "d": 2}]
    for path in ("/no.parquet", "/no", "/no*.parquet"):
        with pytest.raises(InputError, match=re.escape(f"{bucket}/lake{path}")):
            find("purchases.path", f"{bucket}/lake{path}", ArrowFiles())


def test_a_glob_in_a_folder_that_begins_with_a_dot_is_looked_for_there(bucket):
    storage.write_parquet(pa.table({"a": [1]}), f"{bucket}/.lake/a.parquet")
    listed = ArrowFiles().find(f"{bucket}/.lake/*.parquet")
    assert [f.path for f in listed.files] == [f"{bucket}/.lake/a.parquet"]
    assert [f.path for f in ArrowFiles().find(f"{bucket}/.l*/a.parquet").files] == [f"{bucket}/.lake/a.parquet"]


def test_a_table_of_a_lake_is_read_by_its_log(bucket, monkeypatch, object_server):
    deltalake = pytest.importorskip("deltalake")
    options = {**object_server.environment, "AWS_S3_ALLOW_UNSAFE_RENAME": "true"}
    for mode, rows in (("append", [1, 2]), ("overwrite", [3])):
        table = pa.table({"a": rows})
        deltalake.write_deltalake(f"{bucket}/lake/t", table, mode=mode, storage_options=options)
    listing = find("purchases.path", f"{bucket}/lake/t", ArrowFiles())
    assert [list(storage.read_parquet(f.path)["a"].to_pylist()) for f in listing.files] == [[3]]
    with pytest.raises(InputError, match="a table of Delta Lake"):
        find("purchases.path", f"{bucket}/lake/t/{Path(listing.files[0].path).name}", ArrowFiles())


def test_in_a_job_an_input_is_listed_once_and_a_small_file_fetched_once(bucket, object_server):
    for number in range(3):
        storage.write_parquet(pa.table({"a": range(100)}), f"{bucket}/lake/{number}.parquet")
    with storage.remembering():
        before = len(object_server.requests())
        for _ in range(3):
            listing = find("purchases.path", f"{bucket}/lake", ArrowFiles())
            for file in listing.files:
                with ArrowFiles().open(file.path) as handle:
                    assert pq.ParquetFile(handle).metadata.num_rows == 100
        lines = object_server.requests()[before:]
    assert len([line for line in lines if "list-type" in line and "lake%2F&" not in line]) <= 4
    assert len([line for line in lines if ".parquet" in line]) == 3
    storage.write_parquet(pa.table({"a": [1]}), f"{bucket}/lake/0.parquet")
    assert find("purchases.path", f"{bucket}/lake", ArrowFiles()).files[0].bytes != listing.files[0].bytes


@pytest.mark.parametrize(
    ("path", "yes", "no"),
    [
        ("a/*.parquet", ["a/x.parquet", "a/x.parquet/p"], ["a/.x.parquet", "a/b/x.parquet", "b/x.parquet"]),
        ("a/**/*.parquet", ["a/x.parquet", "a/b/c/x.parquet"], ["a/.b/x.parquet"]),
        ("a/d=2024-0?/**", ["a/d=2024-01/x", "a/d=2024-02/y/z"], ["a/d=2024-1/x"]),
        ("a/[!b]x", ["a/cx"], ["a/bx"]),
        ("a/[b-d]x", ["a/cx"], ["a/ex"]),
        ("a/[^b]x", ["a/^x", "a/bx"], ["a/cx"]),
        ("l/2024-*", ["l/2024-01/p.parquet"], ["l/2025"]),
        ("a/x[", ["a/x["], ["a/x"]),
    ],
)
def test_a_glob_means_files_and_all_below_a_folder(path, yes, no):
    assert all(glob_pattern(path).fullmatch(p) for p in yes)
    assert not any(glob_pattern(path).fullmatch(p) for p in no)


@given(st.text("ab.*?[]!-/\\^", min_size=1, max_size=12))
def test_any_text_is_a_glob(path):
    glob_pattern(path)
