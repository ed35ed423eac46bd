"""Which files of a folder are data: what is passed over is counted and told."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.errors import InputError
from topkin.ingest.files import ArrowFiles, Listing, find, opened

DATA = (
    "a.parquet", "A.PARQUET", "b.snappy.parquet", "c.parq", "d.pq", "e.parquet.gzip", "part-00000", "f.c000",
    "day=1/_year=2/g.parquet",
)  # fmt: skip
HIDDEN = ("_SUCCESS", ".a.parquet.crc", "._x.parquet", "_temporary/0/p.parquet", "x/.ipynb_checkpoints/a.parquet")
FOREIGN = ("a.csv", "read.me", "notes.txt", "deep/b.json", "a.parquet.tmp", "no_suffix")


def listed(folder: Path, names: tuple[str, ...]) -> Listing:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in FOREIGN:
            path.write_text("words")
        else:
            pq.write_table(pa.table({"n": [1]}), path)
    return find("purchases.path", str(folder), ArrowFiles())


def test_each_file_is_data_or_passed_over(tmp_path: Path) -> None:
    files = listed(tmp_path, (*DATA, *HIDDEN, *FOREIGN))
    assert [f.path for f in files.files] == sorted(str(tmp_path / n) for n in DATA)
    assert files.hidden == len(HIDDEN)
    assert files.foreign == tuple(sorted(FOREIGN))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), ""),
        (("a.csv",), "passed over: 1 file that is not Parquet (a.csv)"),
        (FOREIGN[:3], "passed over: 3 files that are not Parquet (a.csv, notes.txt, read.me)"),
        (FOREIGN, "passed over: 6 files that are not Parquet (a.csv, a.parquet.tmp, deep/b.json, …)"),
        (HIDDEN, "passed over: 5 hidden"),
        (("a.csv", *HIDDEN), "passed over: 1 file that is not Parquet (a.csv), 5 hidden"),
    ],
)
def test_what_is_passed_over_is_told(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    assert listed(tmp_path, ("a.parquet", *names)).passed_over == words


def test_a_glob_means_what_a_folder_would(tmp_path: Path) -> None:
    listed(tmp_path, ("a.parquet", "day=1/b.parquet", "a.csv", "_SUCCESS"))
    files = find("purchases.path", f"{tmp_path}/*", ArrowFiles())
    assert [f.path.removeprefix(f"{tmp_path}/") for f in files.files] == ["a.parquet", "day=1/b.parquet"]
    assert (files.foreign, files.hidden) == (("a.csv",), 1)
    assert [name for name, _ in files.files[1].constants] == ["day"]


def test_a_folder_of_hidden_files_has_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the folder .* holds no file that ends in .* but 5 hidden"):
        listed(tmp_path, HIDDEN)


def test_really_packed_parquet_stops_with_the_cure(tmp_path: Path) -> None:
    listed(tmp_path, ("a.parquet",))
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    files = find("purchases.path", str(tmp_path), ArrowFiles())
    assert len(files.files) == 2
    with pytest.raises(InputError, match="unpack it with gunzip"), opened("p", files.files[1].path, ArrowFiles()):
        pass


def test_links_give_no_row_twice(tmp_path: Path) -> None:
    listed(tmp_path, ("s/2024.parquet", "s/day=1/a.parquet", "elsewhere/b.parquet"))
    for name, target in {
        "a_latest.parquet": "2024.parquet",
        "self": "../s",
        "b.parquet": "../elsewhere/b.parquet",
    }.items():
        (tmp_path / "s" / name).symlink_to(target)
    files = find("purchases.path", str(tmp_path / "s"), ArrowFiles())
    assert [f.path for f in files.files] == [
        str(tmp_path / "s" / n) for n in ("2024.parquet", "b.parquet", "day=1/a.parquet")
    ]
    assert "links to files read anyway" in files.passed_over
    assert find("purchases.path", str(tmp_path / "s" / "b.parquet"), ArrowFiles()).passed_over == ""
