"""Files of other formats are refused with a command that converts them as it is printed."""

import gzip
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from topkin.errors import InputError
from topkin.ingest.files import ArrowFiles, find, opened

ROWS = pa.table({"user_id": [1, 2], "sku": ["007", "7"], "price": [1.5, None]})
CSV = "user_id,sku,price\n1,007,1.5\n2,7,\n"
JSON = '{"user_id": 1, "sku": "007", "price": 1.5}\n{"user_id": 2, "sku": "7", "price": null}\n'


def refusal(path: Path | str) -> str:
    with pytest.raises(InputError) as raised:  # noqa: PT012
        for file in find("purchases.path", str(path), ArrowFiles()).files:
            with opened("purchases", file.path, ArrowFiles()):
                pass
    return str(raised.value)


def converted(message: str) -> pa.Table:
    """What the printed command makes."""
    command = re.search(
        r"This converts (?:it|them).*?: (?:pip install [^&]* && )?python (-c .*)   and then give", message
    )
    out = re.search(r"and then give (.*) in its place", message)
    assert command is not None, message
    assert out is not None
    subprocess.run(f"{sys.executable} {command[1]}", shell=True, check=True)
    return pq.read_table(out[1])


def sqlite(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE sales (user_id INTEGER, sku TEXT, price REAL)")
        connection.executemany("INSERT INTO sales VALUES (?, ?, ?)", [tuple(r.values()) for r in ROWS.to_pylist()])
    connection.close()


def database(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.register("given", ROWS)
        connection.execute("CREATE TABLE sales AS FROM given")


WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a.csv": ("CSV", lambda p: p.write_text(CSV)),
    "a.tsv": ("CSV", lambda p: p.write_text(CSV.replace(",", "\t"))),
    "a.csv.gz": ("CSV", lambda p: p.write_bytes(gzip.compress(CSV.encode()))),
    "misnamed.parquet": ("CSV", lambda p: p.write_text(CSV)),
    'it\'s "$HOME" \\ `x`.csv': ("CSV", lambda p: p.write_text(CSV)),
    "x[1]*?.csv": ("CSV", lambda p: (p.write_text(CSV), p.with_name("x1.csv").write_text("another"))),
    "a.jsonl": ("JSON", lambda p: p.write_text(JSON)),
    "misnamed json.parquet": ("JSON", lambda p: p.write_text(JSON)),
    "a.ndjson.gz": ("JSON", lambda p: p.write_bytes(gzip.compress(JSON.encode()))),
    "a.db": ("a database of SQLite", sqlite),
    "b.db": ("a database of DuckDB", database),
    "a.duckdb": ("a database of DuckDB", database),
    "a.orc": ("ORC", lambda p: pyarrow.orc.write_table(ROWS, p)),
    "a.feather": ("Arrow IPC (Feather)", lambda p: pyarrow.feather.write_feather(ROWS, p)),
    "a.avro": ("Avro", lambda p: polars.from_arrow(ROWS).write_avro(p)),  # type: ignore[union-attr]
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_printed_command_converts(tmp_path: Path, name: str) -> None:
    words, write = WRITERS[name]
    write(tmp_path / name)
    message = refusal(tmp_path / name)
    assert "is not Parquet: it starts with b" in message
    assert f"It is {words}." in message
    assert converted(message).to_pylist() == ROWS.to_pylist()


@pytest.mark.parametrize(("suffix", "text"), [(".csv", CSV), (".CSV", CSV), (".jsonl", JSON)])
@pytest.mark.parametrize("tail", ["", "/", "/**/*"])
def test_a_folder_of_one_format_is_converted_at_once(tmp_path: Path, suffix: str, text: str, tail: str) -> None:
    for name in ("a", "deep/b"):
        path = tmp_path / "sales" / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "sales" / "_SUCCESS").touch()
    message = refusal(f"{tmp_path}/sales{tail and tail + suffix if '*' in tail else tail}")
    assert "holds no file that ends in .parquet: 2 files of" in message
    assert converted(message).to_pylist() == ROWS.to_pylist() * 2


def test_a_command_keeps_what_is_written(tmp_path: Path) -> None:
    """No digit of an id is lost, and no day is taken for a month."""
    (tmp_path / "a.csv").write_text(
        "zero,long,plus,day,iso,n,x\n007,12345678901234567890,+1,03/04/2024,2024-04-03,12,1.5\n"
        "7,12345678901234567891,1,04/04/2024,2024-04-04,13,2\n"
    )
    table = converted(refusal(tmp_path / "a.csv"))
    text = {"zero", "long", "day", "plus"}
    assert {f.name for f in table.schema if f.type == pa.string()} == text
    assert table["long"].to_pylist() == ["12345678901234567890", "12345678901234567891"]
    assert (table["zero"].to_pylist(), table["n"].to_pylist()) == (["007", "7"], [12, 13])
    assert pa.types.is_temporal(table.schema.field("iso").type)


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    (tmp_path / "a.parquet").touch()
    assert "a-converted.parquet in its place" in refusal(tmp_path / "a.csv")


def test_a_database_of_several_tables_names_them(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        connection.execute('CREATE TABLE "zz top" AS SELECT 1 AS n; CREATE TABLE sales AS SELECT 2 AS n')
    message = refusal(tmp_path / "a.duckdb")
    assert "This converts it (its tables: sales, zz top)" in message
    assert converted(message)["n"].to_pylist() == [2]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.xlsx", b"PK\x03\x04rest", 'pip install polars fastexcel && python -c "import polars; polars.read_excel('),
        ("a.zip", b"PK\x03\x04rest", "is a zip archive: unpack it"),
        ("a.bin", b"\x00\x01\x02\x03", "write it as Parquet, or leave it out"),
        ("a.parquet", b"PARE....PARE", "is encrypted Parquet"),
    ],
)
def test_what_else_is_no_parquet_is_told(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert words in refusal(tmp_path / name)


def test_a_folder_of_several_formats_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    (tmp_path / "b.jsonl").write_text(JSON)
    assert "2 files of other kinds (a.csv, b.jsonl): write them as Parquet" in refusal(tmp_path)
