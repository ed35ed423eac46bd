"""A shuffle through files against the split of the whole table in memory."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts import shuffle
from topkin.artifacts.partition import split_by_partition
from topkin.artifacts.shuffle import PartFile, read_part

SCHEMA = pa.schema([pa.field("id", pa.string(), False), pa.field("n", pa.int64(), False), pa.field("x", pa.float32())])


def rows(n: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    some = pa.array(rng.random(n).astype(np.float32), mask=rng.random(n) < 0.3)
    return pa.table([[f"é{i}" for i in rng.integers(0, 40, n)], range(n), some], schema=SCHEMA)


def write(path: Path, tables: list[pa.Table], parts: int) -> PartFile:
    with PartFile(str(path), SCHEMA, "id", parts) as file:
        for table in tables:
            file.add(table)
    return file


@pytest.mark.parametrize("chunk", [1, 70, 1 << 20])
@given(sizes=st.lists(st.integers(0, 90), max_size=5), parts=st.integers(1, 9))
def test_a_part_of_the_files_is_the_part_of_the_rows_in_their_order(tmp_path_factory, chunk, sizes, parts):
    folder = tmp_path_factory.mktemp("shuffle")
    tables = [rows(size, seed) for seed, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shuffle, "CHUNK_ROWS", chunk)
        files = [write(folder / f"{n}", tables[n::2], parts) for n in range(2)]
    paths = [f.path for f in files if f.rows]
    assert [Path(f.path).exists() for f in files] == [f.rows > 0 for f in files]
    expected = split_by_partition(pa.concat_tables([SCHEMA.empty_table(), *tables[::2], *tables[1::2]]), "id", parts)
    for part in range(parts):
        table = read_part(reversed(paths), part, parts, SCHEMA)
        assert table.schema == SCHEMA
        assert table.equals(expected.get(part, SCHEMA.empty_table()))


def test_the_same_rows_make_the_same_bytes_however_they_come(tmp_path: Path) -> None:
    table = rows(500)
    write(tmp_path / "one", [table], 4)
    write(tmp_path / "two", [table.slice(at, 50) for at in range(0, 500, 50)], 4)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_wide_rows_are_written_before_they_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffle, "CHUNK_BYTES", 1500)
    write(tmp_path / "f", [rows(50, seed) for seed in range(10)], 2)
    with pa.ipc.open_file(str(tmp_path / "f")) as reader:
        assert reader.num_record_batches > 8


def test_a_fault_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffle, "CHUNK_ROWS", 10)

    def stops() -> None:
        with PartFile(str(tmp_path / "f"), SCHEMA, "id", 3) as file:
            file.add(rows(30))
            raise RuntimeError("of the reader")

    with pytest.raises(RuntimeError, match="of the reader"):
        stops()
    assert list(tmp_path.iterdir()) == []
