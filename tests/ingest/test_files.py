import io
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.errors import InputError
from topkin.ingest import files
from topkin.ingest.files import FILE, ROW, ArrowFiles, File, FolderFiles, batches, find_files, listing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.parquet", "a.pq", "deep/x=1/c.parquet", "_temporary/d.parquet", ".e.parquet"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"n": range(10)}), path, row_group_size=4)
    (tmp_path / "_SUCCESS").write_bytes(b"")
    (tmp_path / "README.md").write_text("words")
    return tmp_path


def test_a_folder_means_its_parquet_files_below_it_and_none_hidden(folder: Path) -> None:
    expected = [str(folder / n) for n in ("a.pq", "b.parquet", "deep/x=1/c.parquet")]
    assert find_files(str(folder)) == expected
    assert find_files(str(folder) + "/") == expected
    assert find_files(f"file://{folder}") == [f"file://{p}" for p in expected]


def test_a_file_is_itself_whatever_its_name(folder: Path) -> None:
    assert find_files(str(folder / "README.md")) == [str(folder / "README.md")]
    assert find_files(str(folder / ".e.parquet")) == [str(folder / ".e.parquet")]


def test_a_glob_means_what_it_matches(folder: Path) -> None:
    assert find_files(f"{folder}/[ab].*") == [str(folder / "a.pq"), str(folder / "b.parquet")]
    assert find_files(f"{folder}/dee*") == [str(folder / "deep/x=1/c.parquet")]
    with pytest.raises(InputError, match="no file matches"):
        find_files(f"{folder}/z*")


def test_a_name_with_a_glob_sign_in_it_is_found(folder: Path) -> None:
    (folder / "b.parquet").rename(folder / "b[1].parquet")
    assert find_files(f"{folder}/b[1].parquet") == [str(folder / "b[1].parquet")]


def test_names_below_a_hidden_folder_are_hidden() -> None:
    names = ["r/a.parquet", "r/_t/a.parquet", "r/x/.h/a.parquet", "r/a.csv"]
    listed = listing(FolderFiles("r", [File(n, 1) for n in names]), lambda unsure: [False] * len(unsure))
    assert ([f.path for f in listed.files], listed.hidden, listed.foreign) == (["r/a.parquet"], 2, ("a.csv",))


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_batches_number_the_rows_of_the_file(folder: Path, rows: int) -> None:
    path = str(folder / "b.parquet")
    read = list(batches("purchases", File(path, 0), ArrowFiles(), ["n"], groups=[1, 2], rows=rows))
    assert max(map(len, read)) <= rows
    whole = pa.concat_tables(read).to_pylist()
    assert whole == [{"n": n, FILE: path, ROW: n} for n in range(4, 10)]


def test_a_large_row_group_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"n": np.random.default_rng(0).integers(0, 2**60, 200_000)})
    pq.write_table(table, tmp_path / "f.parquet", use_dictionary=False, data_page_size=20_000)
    asked: list[int] = []

    class Recorded(io.FileIO):
        def read(self, size: int = -1) -> bytes:
            asked.append(size)
            return super().read(size) or b""

    class Recording(ArrowFiles):
        def open(self, path: str) -> Any:
            return Recorded(path)

    monkeypatch.setattr(files, "READ_BYTES", 50_000)
    tables = list(batches("purchases", File(str(tmp_path / "f.parquet"), 0), Recording(), ["n"], rows=1000))
    assert pa.concat_tables(tables)["n"].equals(table["n"])
    assert max(asked) < 100_000 < table.nbytes
    assert min(asked) >= 0


def test_int96_times_beyond_those_of_nanoseconds_are_themselves(tmp_path: Path) -> None:
    times = [datetime(1, 1, 1), datetime(1600, 5, 6), datetime(2024, 4, 2, 8, 22, 18, 5), datetime(9999, 12, 31), None]
    path = str(tmp_path / "f.parquet")
    pq.write_table(pa.table({"t": times}), path, use_deprecated_int96_timestamps=True)
    [rows] = batches("purchases", File(path, 0), ArrowFiles(), ["t"], rows=10)
    assert rows["t"].to_pylist() == times
