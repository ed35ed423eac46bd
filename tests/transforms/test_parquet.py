from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import storage
from topkin.errors import InputError
from topkin.ingest.files import FILE, ROW, ArrowFiles, File, batches
from topkin.pipelines.engine.job import run_pipeline
from topkin.transforms.parquet import ParquetSplits, RowGroupSplit, WriteToParquetBatched, read_split

COLUMNS = ["b", "a"]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = []
    for number, rows in enumerate((1000, 0, 37)):
        table = pa.table({"a": range(rows), "b": [f"{number}-{i}" for i in range(rows)], "c": [1.5] * rows})
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=100, write_page_checksum=True)
        paths.append(str(tmp_path / f"{number}.parquet"))
    return paths


def read(splits: ParquetSplits, folder: Path, **bounds: int) -> dict[str, list[pa.Table]]:
    """The tables of each split, by its name; read twice, they are the same."""
    folder.mkdir()

    def keep(split: RowGroupSplit) -> None:
        for number, table in enumerate(read_split(splits.source, split, COLUMNS, **bounds)):
            storage.write_parquet(table, str(folder / f"{split.name}.{number:03d}.parquet"))

    run_pipeline(lambda p: p | splits | beam.Map(keep), ["--direct_runner_bundle_repeat=2"])
    by_file: dict[str, list[pa.Table]] = {}
    for path in sorted(folder.iterdir()):
        by_file.setdefault(path.name.partition(".")[0], []).append(storage.read_parquet(str(path)))
    return by_file


@pytest.mark.parametrize(
    ("rows", "bounds", "names"),
    [
        (1 << 20, {}, ["000000-000000", "000002-000000"]),
        (1, {}, [*(f"000000-{g:06d}" for g in range(10)), "000002-000000"]),
        (250, {"rows": 64}, ["000000-000000", "000000-000003", "000000-000006", "000000-000009", "000002-000000"]),
    ],
)
def test_every_row_comes_once_with_its_file_and_number(
    files: list[str], rows: int, bounds: dict[str, int], names: list[str], tmp_path: Path
) -> None:
    result = read(ParquetSplits("purchases", [File(f, 0) for f in files], rows), tmp_path / "out", **bounds)
    assert list(result) == names
    tables = [t for split in result.values() for t in split]
    assert all(t.column_names == [*COLUMNS, FILE, ROW] for t in tables)
    assert max(len(t) for t in tables) <= bounds.get("rows", 1 << 17)
    got = [tuple(r.values()) for t in tables for r in t.to_pylist()]
    assert got == [(f"{n}-{i}", i, files[n], i) for n, size in ((0, 1000), (2, 37)) for i in range(size)]


def test_a_batch_is_bounded_in_bytes(tmp_path: Path) -> None:
    path = str(tmp_path / "wide.parquet")
    pq.write_table(pa.table({"a": [bytes(1000)] * 5000, "b": range(5000)}), path, use_dictionary=False)
    split = RowGroupSplit("one", File(path, 0), 0, 1)
    wide = [len(t) for t in read_split("purchases", split, ["a"], size=1_500_000)]
    assert 1024 <= max(wide) <= 1500
    assert [len(t) for t in read_split("purchases", split, ["b"], size=1_500_000)] == [5000]
    few = [len(t) for t in read_split("items", split, ["a"], size=10_000, least=1)]
    assert (sum(few), max(few) <= 10) == (5000, True)


def test_a_damaged_page_is_told_with_its_file_and_row(files: list[str]) -> None:
    data = bytearray(Path(files[0]).read_bytes())
    column = pq.ParquetFile(files[0]).metadata.row_group(5).column(0)
    data[column.dictionary_page_offset + column.total_compressed_size - 20] ^= 0xFF
    Path(files[0]).write_bytes(data)
    with pytest.raises(InputError, match=r"purchases: .*0\.parquet is damaged near row 500"):
        list(batches("purchases", File(files[0], 0), ArrowFiles(), ["a"], rows=1000))


def test_parts_are_written_under_their_names_with_the_same_bytes(tmp_path: Path) -> None:
    tables = [(p, pa.table({"a": range(p * 10)})) for p in range(3)]

    def build(folder: str) -> Any:
        def inner(p: beam.Pipeline) -> None:
            rows = p | beam.Create(tables).with_output_types(tuple[int, pa.Table])
            rows | WriteToParquetBatched(str(tmp_path / folder), 3)

        return inner

    run_pipeline(build("one"), [])
    run_pipeline(build("two"), ["--direct_runner_bundle_repeat=2"])
    names = [storage.part_name(p, 3) for p in range(3)]
    assert storage.files(str(tmp_path / "one")) == storage.files(str(tmp_path / "two")) == names
    for part, name in enumerate(names):
        assert storage.read_parquet(str(tmp_path / "one" / name)).equals(tables[part][1])
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
