"""Every sink against its own server or library: what is read back, twice the same, a broken export, another's table."""

import csv
import importlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest

from topkin.artifacts import storage
from topkin.errors import ConfigError, TopkinError
from topkin.exports import sink
from topkin.exports.sink import export, open_sink
from topkin.exports.tables import ExportTable
from topkin.exports.values import doubles, plain, rows


def _files(target: str, name: str) -> list[dict[str, Any]]:
    kind, _, folder = target.partition(":")
    with open(f"{folder}/{name}/current.json") as f:
        path = f"{folder}/{name}/{json.load(f)['file']}"
    with open(path, newline="") as f:
        return list(csv.DictReader(f)) if kind == "csv" else [json.loads(line) for line in f]


def _sqlite(target: str, name: str) -> list[dict[str, Any]]:
    with sqlite3.connect(target.partition(":")[2]) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(f"SELECT * FROM {name} ORDER BY rowid")]


def _postgresql(target: str, name: str) -> list[dict[str, Any]]:
    import psycopg

    with psycopg.connect(f"{target}%20-clock_timeout%3D2000", row_factory=psycopg.rows.dict_row) as db:
        return db.execute(f"SELECT * FROM {name}").fetchall()


def _redis(target: str, name: str) -> list[dict[str, Any]]:
    import redis

    url, _, prefix = target.partition("?prefix=")
    db = redis.Redis.from_url(url, decode_responses=True)
    version = db.hget(f"{prefix}:{name}", "version")
    keys = sorted(k for k in db.scan_iter() if k.startswith(f"{prefix}:{version}:{name}:"))
    return [row for key in keys for row in json.loads(db.get(key))]


def _qdrant(target: str, name: str) -> list[dict[str, Any]]:
    from qdrant_client import QdrantClient

    db = QdrantClient(path=target.partition(":")[2])
    try:
        points, _ = db.scroll(name, limit=1000, with_vectors=True)
        return sorted(({**p.payload, **p.vector} for p in points), key=lambda row: row["item_id"])
    finally:
        db.close()


def _ordered(table: pa.Table) -> list[dict[str, Any]]:
    """By the key: the files of a lake's table have no order."""
    return sorted(table.to_pylist(), key=lambda row: (row.get("user_id"), row.get("rank"), row["item_id"]))


def _delta(target: str, name: str) -> list[dict[str, Any]]:
    from deltalake import DeltaTable

    return _ordered(DeltaTable(f"{target.partition(':')[2]}/{name}").to_pyarrow_table())


def _iceberg(target: str, name: str) -> list[dict[str, Any]]:
    from pyiceberg.catalog.sql import SqlCatalog

    folder = target.partition(":")[2]
    catalog = SqlCatalog("topkin", uri=f"sqlite:///{folder}/catalogue.db", warehouse=f"file://{folder}")
    try:
        return _ordered(catalog.load_table(("topkin", name)).scan().to_arrow())
    finally:
        catalog.close()


READERS: dict[str, Callable[[str, str], list[dict[str, Any]]]] = {
    **{"csv": _files, "jsonl": _files, "sqlite": _sqlite, "postgresql": _postgresql},
    **{"redis": _redis, "qdrant": _qdrant, "delta": _delta, "iceberg": _iceberg},
}


def expected(table: ExportTable, kind: str) -> list[dict[str, Any]]:
    """The rows as a client of the sink gives them."""
    result = []
    for batch in table.batches():
        exact = batch.to_pylist() if kind in ("delta", "iceberg") else list(rows(batch))
        result += exact if kind in ("delta", "iceberg", "postgresql") else [plain(row) for row in exact]
    if kind == "sqlite":
        return [
            {n: json.dumps(v, separators=(",", ":")) if isinstance(v, list) else v for n, v in r.items()}
            for r in result
        ]
    return result


def as_csv(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return json.dumps(value, separators=(",", ":"))
    return "" if value is None else str(value)


def read(target: str, kind: str, name: str) -> list[dict[str, Any]]:
    return READERS[kind](target, name)


def check(target: str, kind: str, table: ExportTable) -> None:
    stored, want = read(target, kind, table.name), expected(table, kind)
    if kind == "csv":
        want = [{n: as_csv(v) for n, v in row.items()} for row in want]
        for row in want + stored:
            row["times"] = str(datetime.fromisoformat(row["times"])) if "times" in row else ""
    if table.vectors and kind in ("postgresql", "qdrant"):
        assert [row["item_id"] for row in stored] == [row["item_id"] for row in want]
        for got, right in zip(stored, want, strict=True):
            vector = json.loads(got["vector"]) if isinstance(got["vector"], str) else got["vector"]
            unit = kind == "qdrant"  # a server of it stores unit vectors, its client's own store does not
            assert _scaled(vector, unit) == pytest.approx(_scaled(right["vector"], unit), abs=1e-6)
        return
    assert stored == want


def _scaled(vector: list[float], unit: bool) -> list[float]:
    length = sum(x * x for x in vector) ** 0.5 if unit else 1
    return [x / length for x in vector]


def test_rows_are_read_back_and_the_same_version_changes_nothing(kind, target, make_table):
    tables = (
        [make_table("items", vectors=True)] if kind == "qdrant" else [make_table(), make_table("items", vectors=True)]
    )
    assert [e.rows for e in export(tables, target)] == [50] * len(tables)
    for table in tables:
        check(target, kind, table)
    assert [e.rows for e in export(tables, target)] == [None] * len(tables)
    for version, seed in (("2024-05-02-b.1", 1), ("2024-05-03-c.1", 2)):
        newer = [make_table(t.name, version, seed, bool(t.vectors)) for t in tables]
        assert [e.rows for e in export(newer, target)] == [50] * len(tables)
        for table in newer:
            check(target, kind, table)
        opened = open_sink(target)
        assert {opened.version(t.name) for t in newer} == {version}
        opened.close()


class Broken(ExportTable):
    """A table whose second file is gone."""

    def batches(self, size: int = 8) -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(super().batches(8)):
            if number == 2:
                raise RuntimeError("the disk went away")
            yield batch


def test_what_is_broken_off_leaves_the_version_before(kind, target, make_table):
    vectors = kind == "qdrant"
    before, after = make_table(vectors=vectors), make_table(version="2024-05-02-b.1", seed=1, vectors=vectors)
    broken = Broken(after.name, after.version, after.paths, after.stage, after.folder)
    with pytest.raises(RuntimeError, match="disk went away"):
        list(export([broken], target))  # before there is any version
    opened = open_sink(target)
    assert opened.version("lists") is None
    opened.close()
    assert [e.rows for e in export([before], target)] == [50]
    with pytest.raises(RuntimeError, match="disk went away"):
        list(export([broken], target))
    check(target, kind, before)
    assert [e.rows for e in export([before], target)] == [None]
    assert [e.rows for e in export([after], target)] == [50]
    check(target, kind, after)


LIVE = {(2**60 + n) % 1000 for n in range(50)}


class Watched(ExportTable):
    """A table that another looks for in the target while it is written."""

    def batches(self, size: int = 8) -> Iterator[pa.RecordBatch]:
        for batch in super().batches(8):
            yield batch
            assert {row["item_id"] % 1000 for row in read(*self.stage.split(" "), self.name)} == LIVE


@pytest.mark.parametrize("kind", ["jsonl", "sqlite", "postgresql", "redis", "iceberg"])
def test_readers_see_the_version_before_while_another_is_written(kind, target, make_table):
    before, after = make_table(), make_table(version="2024-05-02-b.1", seed=500)
    list(export([before], target))
    list(export([Watched(after.name, after.version, after.paths, f"{target} {kind}", after.folder)], target))
    check(target, kind, after)


def test_a_table_of_another_is_refused_and_left(kind, target, make_table):
    _put_a_strangers(kind, target)
    vectors = kind == "qdrant"
    with pytest.raises(ConfigError, match=r"'.*lists' already, and topkin did not write it") as caught:
        list(export([make_table("first", vectors=vectors), make_table(vectors=vectors)], target))
    assert "secret" not in str(caught.value)
    opened = open_sink(target)
    assert opened.version("first") is None  # nothing was begun
    opened.close()


def _put_a_strangers(kind: str, target: str) -> None:
    place = target.partition(":")[2]
    table = pa.table({"user_id": ["mine"]})
    if kind in ("csv", "jsonl"):
        importlib.import_module("os").makedirs(f"{place}/lists")
        with open(f"{place}/lists/mine.txt", "w") as f:
            f.write("mine")
    elif kind == "sqlite":
        with sqlite3.connect(place) as db:
            db.execute("CREATE TABLE lists (mine TEXT)")
    elif kind == "postgresql":
        with importlib.import_module("psycopg").connect(target) as db:
            db.execute("CREATE TABLE lists (mine text)")
    elif kind == "redis":
        url, _, prefix = target.partition("?prefix=")
        importlib.import_module("redis").Redis.from_url(url).set(f"{prefix}:lists", "mine")
    elif kind == "qdrant":
        client = importlib.import_module("qdrant_client")
        db = client.QdrantClient(path=place)
        db.create_collection("lists", client.models.VectorParams(size=2, distance=client.models.Distance.DOT))
        db.close()
    elif kind == "delta":
        importlib.import_module("deltalake").write_deltalake(f"{place}/lists", table)
    else:
        opened = open_sink(target)
        opened.catalog.create_table(("topkin", "lists"), table.schema)
        opened.close()


def test_pgvector_finds_neighbours(request, make_table):
    psycopg = pytest.importorskip("psycopg")
    url, schema = request.getfixturevalue("postgresql"), f"s{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as db:
        if not db.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone():
            pytest.skip("needs pgvector: Debian's postgresql-NN-pgvector, or the wheel of the extra dev")
        db.execute(f"CREATE SCHEMA {schema}")
        db.execute(f"CREATE SCHEMA {schema}_v")
        db.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        db.execute(f"ALTER EXTENSION vector SET SCHEMA {schema}_v")  # where the export's search path does not lead
        try:
            list(export([make_table("items", vectors=True)], f"{url}?options=-csearch_path%3D{schema}"))
        finally:
            db.execute("ALTER EXTENSION vector SET SCHEMA public")
    target = f"{url}?options=-csearch_path%3D{schema},public"
    with psycopg.connect(target) as db:
        nearest = db.execute("SELECT item_id FROM items ORDER BY vector <=> '[4, 1, -0.5]' LIMIT 3").fetchall()
        assert {int(name[0][1:4]) % 5 for name in nearest} == {4}
        indexes = db.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'items' AND schemaname = %s", [schema])
        assert any("hnsw" in row[0] for row in indexes.fetchall())


def test_two_versions_stay_in_redis_and_in_files(make_table, request, tmp_path):
    redis = pytest.importorskip("redis")
    url = request.getfixturevalue("redis_url")
    db = redis.Redis.from_url(url, decode_responses=True)
    db.set("kept:2024-05-01-a.1:other:u1", "not ours")
    for day in (1, 2, 3):
        table = make_table(version=f"2024-05-0{day}-a.1", seed=day)
        list(export([table], f"{url}?prefix=kept"))
        list(export([table], f"csv:{tmp_path}/files"))
    versions = {key.split(":")[1] for key in db.scan_iter("kept:*:lists:*")}
    assert versions == {"2024-05-02-a.1", "2024-05-03-a.1"}
    assert db.get("kept:2024-05-01-a.1:other:u1") == "not ours"
    names = sorted(path.name for path in (tmp_path / "files/lists").iterdir())
    assert names == ["2024-05-02-a.1.csv", "2024-05-03-a.1.csv", "current.json"]


@pytest.mark.parametrize(
    ("target", "match"),
    [
        ("postgres://x", "did you mean postgresql://"),
        ("csv", "a target must be one of csv:FOLDER"),
        ("kafka:x", "a target must be one of"),
        ("redis:", "a target must be one of"),
        ("redis:localhost", "of redis must look like redis://HOST"),
        ("postgresql:host=db password=secret", "of postgresql must look like postgresql://HOST/DATABASE"),
        ("qdrant:localhost:6333", "of qdrant must look like qdrant://HOST:6333"),
        ("iceberg:s3://bucket/lake", "on this machine's disk, got 's3://bucket/lake'"),
        ("sqlite:s3://bucket/x.db", "on this machine's disk"),
        ("postgresql://shop:secr%et@db/x", r"must be percent-encoded.*%40 for @"),
        ("postgresql://shop:secret@secret@db/x", "must be percent-encoded"),
        ("sqlite::memory:", "must name a file"),
        ("redis://db/shop", "must end with the number of a database"),
        ("redis://[::1", "must be a URL, it is none"),
        ("redis://127.0.0.1:1/0?prefx=x", "prefix and parameters of redis-py alone: .*'prefx'"),
        ("redis://:sec/ret@db/0", "must be percent-encoded"),
        ("qdrant:https://u:sec ret@db", "must be percent-encoded"),
    ],
)
def test_an_unknown_target_is_refused(target, match):
    with pytest.raises(ConfigError, match=match) as caught:
        open_sink(target)
    assert not any(part in str(caught.value) for part in ("sec", "ret@"))


def test_a_home_folder_is_meant_by_its_sign(make_table, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    list(export([make_table()], "csv:~/out"))
    assert (tmp_path / "out/lists/current.json").exists()


def test_a_port_that_is_none_is_one_message():
    pytest.importorskip("qdrant_client")
    with pytest.raises(TopkinError, match=r"qdrant://h:abc cannot be written .*'h:abc' is not a valid host or port"):
        open_sink("qdrant://h:abc")


@pytest.mark.parametrize("text", ['{"theirs": 1}', "[1]", "no JSON"])
def test_a_strangers_pointer_is_refused_and_left(text, make_table, tmp_path):
    (tmp_path / "out/lists").mkdir(parents=True)
    pointer = tmp_path / "out/lists/current.json"
    pointer.write_text(text)
    with pytest.raises(ConfigError, match="topkin did not write it: remove it, or name another target"):
        list(export([make_table()], f"csv:{tmp_path}/out"))
    assert pointer.read_text() == text


def test_a_catalogue_that_is_none_is_one_message(tmp_path):
    pytest.importorskip("pyiceberg")
    (tmp_path / "catalogue.db").write_text("no database at all, and long enough to be seen as none")
    with pytest.raises(TopkinError, match=r"cannot be written \(.*file is not a database"):
        open_sink(f"iceberg:{tmp_path}")


def test_a_scheme_that_no_library_knows_is_one_message(make_table):
    with pytest.raises(TopkinError, match=r"csv:http://x/y cannot be written \(Unrecognized filesystem"):
        list(export([make_table()], "csv:http://x/y"))


def test_a_lake_that_was_tidied_up_is_still_ours(make_table, tmp_path):
    deltalake = pytest.importorskip("deltalake")
    table, target = make_table(), f"delta:{tmp_path}/lake"
    list(export([table], target))
    deltalake.DeltaTable(f"{tmp_path}/lake/lists").vacuum(0, enforce_retention_duration=False, dry_run=False)
    assert [e.rows for e in export([table], target)] == [None]
    assert [e.rows for e in export([make_table(version="2024-05-02-b.1", seed=1)], target)] == [50]


def _odd(tmp_path, **columns) -> ExportTable:
    path = str(tmp_path / "part-00000-of-00001.parquet")
    storage.write_parquet(pa.table(columns), path)
    return ExportTable("odd", "2024-05-01-a.1", (path,), "prepare", folder=True)


def test_binary_ids_are_no_json_in_a_cell(tmp_path):
    ids = ['a"b', "a\\b", "é,\n", "plain"]
    list(export([_odd(tmp_path, user_id=pa.array([i.encode() for i in ids]))], f"csv:{tmp_path}/out"))
    assert [row["user_id"] for row in _files(f"csv:{tmp_path}/out", "odd")] == [*ids[:2], "0xc3a92c0a", "plain"]


def test_lists_of_structs_are_jsonb(request, tmp_path):
    psycopg = pytest.importorskip("psycopg")
    url = request.getfixturevalue("postgresql")
    bought = [[{"colour": "red", "at": None}], []]
    list(export([_odd(tmp_path, user_id=[1, 2], bought=pa.array(bought))], url))
    with psycopg.connect(url) as db:
        assert [row[0] for row in db.execute("SELECT bought FROM odd ORDER BY user_id")] == bought


def test_a_table_that_is_by_no_user_or_item_is_refused_by_redis(request, tmp_path):
    pytest.importorskip("redis")
    table = _odd(tmp_path, source=["items", "purchases", "items"], row=[1, 2, 3])  # one key would lose a row
    with pytest.raises(ConfigError, match="redis takes tables by user or item, odd is by source"):
        list(export([table], request.getfixturevalue("redis_url")))


@pytest.mark.parametrize(
    "target", ["postgresql://shop:secret@127.0.0.1:1/db", "redis://:secret@127.0.0.1:1/0", "qdrant://127.0.0.1:1"]
)
def test_a_server_that_does_not_answer_is_one_message(target):
    pytest.importorskip({"postgresql": "psycopg", "redis": "redis", "qdrant": "qdrant_client"}[target.split(":")[0]])
    with pytest.raises(TopkinError, match=r"is not reached .*: start the server") as caught:
        open_sink(target)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["csv", "sqlite", "delta", "iceberg"])
def test_a_place_that_cannot_be_written_is_one_message(kind, make_table, tmp_path):
    pytest.importorskip({"delta": "deltalake", "iceberg": "pyiceberg"}.get(kind, "csv"))
    (tmp_path / "file").write_text("no folder, no database")
    with pytest.raises(TopkinError, match=r"/file.* cannot be written \(.+\): what readers see is as before"):
        list(export([make_table()], f"{kind}:{tmp_path}/file{'' if kind == 'sqlite' else '/x'}"))


def test_redis_is_reached_by_tls_and_a_certificate_that_nobody_vouches_for_is_told(make_table, rediss_url):
    redis = pytest.importorskip("redis")
    url, certificate = rediss_url
    list(export([make_table()], f"{url}?prefix=shop&ssl_ca_certs={certificate}"))
    db = redis.Redis.from_url(f"{url}?ssl_ca_certs={certificate}", decode_responses=True)
    assert db.hget("shop:lists", "version") == "2024-05-01-a.1"
    db.close()
    for wrong, words in ((url, "certificate verify failed"), (url.replace("rediss", "redis"), "Connection")):
        with pytest.raises(TopkinError, match=rf"is not reached .*{words}") as caught:
            open_sink(wrong)
        assert "secret" not in str(caught.value)


def test_a_missing_extra_is_named_with_its_command(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'redis'", name="redis")

    monkeypatch.setattr(sink.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"needs redis: pip install 'topkin\[redis\]'"):
        open_sink("redis://localhost")


def test_a_table_without_vectors_is_refused_by_a_vector_store(make_table, tmp_path):
    pytest.importorskip("qdrant_client")
    with pytest.raises(ConfigError, match="lists has none: --table item_embeddings"):
        list(export([make_table()], f"qdrant:{tmp_path}/q"))


def test_floats_print_as_they_were_written():
    values = pa.array([0.1, -3.3e-9, None, 16777216.0], pa.float32())
    assert doubles(values).to_pylist() == [0.1, -3.3e-9, None, 16777216.0]
    lists = pa.array([[0.1, None], None, []], pa.list_(pa.float32()))
    assert doubles(lists.slice(0)).to_pylist() == [[0.1, None], None, []]
    assert doubles(lists.slice(1)).to_pylist() == [None, []]
    assert doubles(pa.concat_arrays([lists, lists]).slice(1, 3)).to_pylist() == [None, [], [0.1, None]]
    fixed = pa.array([[0.1, 0.2], [0.3, 0.4]], pa.list_(pa.float32(), 2))
    assert doubles(fixed.slice(1)).to_pylist() == [[0.3, 0.4]]
