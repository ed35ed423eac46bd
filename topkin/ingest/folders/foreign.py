"""Files of other formats: what each is, and the one command that makes Parquet of it.

The commands keep every value: where DuckDB would read a text of a CSV file as a number and lose a leading zero or a
digit, or guess which number of a date is the day, the column stays text.
"""

import os
import posixpath
import re
import shlex
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import duckdb

from topkin.ingest.sql import literal, quoted

LOOKED_AT = 1_000_000  # rows of a file of texts


@dataclass(frozen=True)
class Format:
    """A format: what it is called, the Python that converts a file, and packages that topkin does not bring."""

    words: str
    code: Callable[[str, str], str]
    needs: str = ""


def _csv(path: str, out: str) -> str:
    return _copy(f"read_csv({literal(path)}, union_by_name=true, sample_size=-1{_csv_types(path)})", out)


def _json(path: str, out: str) -> str:
    return _copy(f"read_json({literal(path)}, sample_size=-1)", out)


def _copy(rows: str, out: str) -> str:
    sql = f"COPY (FROM {rows}) TO {literal(out)} (FORMAT parquet)"
    text = repr(sql) if "'''" in sql or "\\" in sql else f"'''{sql}'''"  # no double quote, which a shell would read
    return f"import duckdb; duckdb.sql({text})"


def _exactly(path: str) -> str:
    """A path as a glob that means it alone."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def _csv_types(path: str) -> str:
    """The argument that keeps columns as text which are texts of digits, not numbers or dates that read one way."""
    if "://" in path:
        return ""
    source = f"read_csv({literal(path)}, union_by_name = true"
    try:
        with duckdb.connect(":memory:", config={"threads": 1}) as engine:
            sniffed = engine.execute(f"DESCRIBE FROM {source})").fetchall()
            tests = {
                name: test
                for name, kind, *_ in sniffed
                if (test := _CHANGES.get("TIME" if kind in _TIMES else kind, "")) and name
            }
            if not tests:
                return ""
            asked = ", ".join(f"bool_or({test.format(quoted(name))})" for name, test in tests.items())
            rows = f"(FROM {source}, all_varchar = true) LIMIT {LOOKED_AT})"
            changed = engine.execute(f"SELECT {asked} FROM {rows}").fetchall()[0]
    except duckdb.Error:
        return ""
    texts = [f"{literal(name)}: 'VARCHAR'" for name, is_changed in zip(tests, changed, strict=True) if is_changed]
    return f", types={{{', '.join(texts)}}}" if texts else ""


_TIMES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
_CHANGES = {
    "BIGINT": "CAST(TRY_CAST({0} AS BIGINT) AS VARCHAR) <> trim({0})",
    "DOUBLE": "regexp_matches({0}, '^\\s*[+-]?(0[0-9]|[0-9]{{16,}}\\s*$)')",
    "TIME": "NOT regexp_matches({0}, '^\\s*[0-9]{{4}}[-/.]')",
}
"""By the type that DuckDB takes texts for: what tells, of a text, that the value would not be what it says."""


def _arrow(module: str, read: str) -> Callable[[str, str], str]:
    return lambda path, out: (
        f"import pyarrow.{module} as f, pyarrow.parquet as p; p.write_table(f.{read}({path!r}), {out!r})"
    )


def _polars(read: str) -> Callable[[str, str], str]:
    return lambda path, out: f"import polars; polars.{read}({path!r}).write_parquet({out!r})"


def _duckdb(path: str, out: str) -> str:
    sql = f"FROM {quoted(_tables(path)[0])}"
    return f"import duckdb; duckdb.connect({path!r}, read_only=True).sql({sql!r}).write_parquet({out!r})"


def _sqlite(path: str, out: str) -> str:
    sql = f"SELECT * FROM {quoted(_tables(path)[0])}"
    return (
        f"import sqlite3, pyarrow as a, pyarrow.parquet as p; c = sqlite3.connect({path!r}).execute({sql!r}); "
        f"p.write_table(a.table(list(map(list, zip(*c))), [d[0] for d in c.description]), {out!r})"
    )


def _tables(path: str) -> list[str]:
    """The tables of a database file; ["TABLE"] where they cannot be told."""
    names: list[str] = []
    try:
        if format_of(path) is DUCKDB:
            with duckdb.connect(path, read_only=True) as engine:
                names = [row[0] for row in engine.execute("SHOW TABLES").fetchall()]
        elif os.path.exists(path):
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                sql = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite%'"
                names = [row[0] for row in connection.execute(sql)]
    except (duckdb.Error, sqlite3.Error):
        pass
    return sorted(names) or ["TABLE"]


CSV, TEXT, JSON = Format("CSV", _csv), Format("text", _csv), Format("JSON", _json)
DUCKDB, SQLITE = Format("a database of DuckDB", _duckdb), Format("a database of SQLite", _sqlite)
ORC, FEATHER = (
    Format("ORC", _arrow("orc", "read_table")),
    Format("Arrow IPC (Feather)", _arrow("feather", "read_table")),
)
AVRO = Format("Avro", _polars("read_avro"), "polars")
EXCEL = Format("a workbook of Excel", _polars("read_excel"), "polars fastexcel")

_TEXTS = {"csv": CSV, "tsv": CSV, "txt": TEXT, "json": JSON, "jsonl": JSON, "ndjson": JSON}
FORMATS = {
    **{f".{name}{packed}": kind for name, kind in _TEXTS.items() for packed in ("", ".gz", ".zst")},
    **dict.fromkeys((".duckdb", ".ddb"), DUCKDB),
    **dict.fromkeys((".sqlite", ".sqlite3", ".db"), SQLITE),
    **dict.fromkeys((".feather", ".arrow", ".ipc"), FEATHER),
    **dict.fromkeys((".xlsx", ".xls", ".xlsm"), EXCEL),
    ".orc": ORC,
    ".avro": AVRO,
}
"""What the end of a name says."""
_STARTS = (
    (0, b"SQLite format 3", SQLITE),
    (8, b"DUCK", DUCKDB),
    (0, b"ORC", ORC),
    (0, b"Obj\x01", AVRO),
    (0, b"ARROW1", FEATHER),
    (0, b"FEA1", FEATHER),
)
"""What the bytes at the beginning of a file say: (place, bytes, format)."""


def format_of(path: str, start: bytes = b"") -> Format | None:
    """The format of a file by its first bytes, else by its name; None where neither tells."""
    if not start and "://" not in path and os.path.isfile(path):
        with open(path, "rb") as handle:
            start = handle.read(16)
    by_start = next((kind for at, magic, kind in _STARTS if start[at : at + len(magic)] == magic), None)
    by_name = next((kind for suffix, kind in FORMATS.items() if path.lower().endswith(suffix)), None)
    return by_start or by_name


def _text(start: bytes) -> Format | None:
    """Of a file whose name does not tell: JSON, CSV, or nothing that is text."""
    text = start.decode("utf-8", "ignore")
    if not text.replace("\t", "").replace("\r", "").replace("\n", "").isprintable() or not text:
        return None
    return JSON if text.lstrip()[:1] in ("{", "[") else CSV


def why_not_parquet(source: str, path: str, start: bytes) -> str:
    """What a file is instead of Parquet, and the cure. ``start``: its first 16 bytes or more."""
    problem = f"{source}: {path} is not Parquet: it starts with {start[:4]!r}, not b'PAR1'"
    if start[:4] == b"PARE":
        return f"{source}: {path} is encrypted Parquet: write it without encryption"
    kind = format_of(path, start) or _text(start)
    if kind is not None:
        return f"{problem}. It is {kind.words}. {cure(path, kind)}"
    if start[:2] == b"\x1f\x8b":
        return f"{problem}. It is packed by gzip: unpack it with gunzip, Parquet has compression of its own"
    if start[:4] == b"PK\x03\x04":
        return f"{problem}. It is a zip archive: unpack it"
    return f"{problem}: write it as Parquet, or leave it out"


def cure(path: str, kind: Format, *, folder: str | None = None) -> str:
    """The command that converts a file, or the files that a glob ``path`` means in ``folder``, and what it writes."""
    length = 0 if folder else max((len(s) for s in FORMATS if path.lower().endswith(s)), default=0)
    base = posixpath.normpath(folder or path[: len(path) - length])
    out = "all.parquet" if base == "." else f"{base}.parquet"
    out = f"{base}-converted.parquet" if os.path.exists(out) else out
    tables = _tables(path) if kind in (DUCKDB, SQLITE) else []
    path = _exactly(path) if kind in (CSV, TEXT, JSON) and folder is None else path
    install = f"pip install {kind.needs} && " if kind.needs else ""
    several = f" (its tables: {', '.join(tables)})" if len(tables) > 1 else ""
    return (
        f"This converts {'them' if folder else 'it'}{several}: {install}python -c {_argument(kind.code(path, out))}   "
        f"and then give {out} in its place"
    )


def _argument(code: str) -> str:
    """Python as an argument of a shell."""
    return shlex.quote(code) if any(c in code for c in '"$`\\!') else f'"{code}"'


def why_no_parquet(key: str, path: str, folder: str, names: Sequence[str]) -> str:
    """Why a folder or glob without Parquet cannot be read, and the cure where all its files are of one format.

    ``names``: its files below ``folder`` that are not hidden.
    """
    lengths = [max((len(s) for s in FORMATS if name.lower().endswith(s)), default=0) for name in names]
    ends = {name[len(name) - length :] for name, length in zip(names, lengths, strict=True)}
    kinds = {FORMATS.get(end.lower()) for end in ends}
    files = "file" if len(names) == 1 else "files"
    problem = f"{key}: the folder {folder} holds no file that ends in .parquet: {len(names):,} {files} "
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    (kind,) = kinds if len(kinds) == 1 else (None,)
    if kind is None:
        return f"{problem}of other kinds ({shown}): write them as Parquet"
    if kind not in (CSV, TEXT, JSON) or len(ends) > 1:
        first = posixpath.join(folder, names[0])
        return f"{problem}of {kind.words} ({shown}). For {names[0]}: {cure(first, kind)}; likewise for the others"
    which = path if any(c in path for c in "*?[") else f"{_exactly(folder)}/**/*{ends.pop()}"
    return f"{problem}of {kind.words} ({shown}). {cure(which, kind, folder=folder)}"
