"""``topkin query`` answers from the tables of a run, reaches nothing else, and says what is wrong."""

import csv
import io
import json
import re
import shutil
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest

import topkin
from topkin.artifacts import lookup, runs, storage
from topkin.errors import ArtifactError, ConfigError
from topkin.pipelines.cli.app import main
from topkin.pipelines.cli.read.query import query


def asked(capsys: pytest.CaptureFixture[str], config: Path, sql: str, *words: str, code: int = 0) -> str:
    assert main(["query", sql, "--config", str(config), *words]) == code
    out, err = capsys.readouterr()
    return err if code else out


def test_every_table_of_the_run_is_a_view_with_its_rows(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = topkin.open_run(published.parent / "topkin-out")
    for name in run.tables:
        (row,) = json.loads(asked(capsys, published, f"SELECT count(*) AS n FROM {name}", "--json"))
        assert row == {"n": len(run.table(name))}


def test_rows_come_as_json_as_csv_and_as_a_table(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = topkin.open_run(published.parent / "topkin-out").table("recommendations").slice(0, 7).to_pylist()
    users = ", ".join({str(row["user_id"]) for row in lists})
    sql = f"SELECT user_id, rank, item_id, because FROM recommendations WHERE user_id IN ({users}) ORDER BY ALL"
    rows = json.loads(asked(capsys, published, sql, "--format", "json"))
    wanted = {tuple(row[name] for name in ("user_id", "rank", "item_id")): row["because"] for row in lists}
    got = {(row["user_id"], row["rank"], row["item_id"]): row["because"] for row in rows}
    assert {key: got[key] for key in wanted} == wanted
    of_csv = list(csv.DictReader(io.StringIO(asked(capsys, published, sql, "--format", "csv"))))
    assert [row["item_id"] for row in of_csv] == [row["item_id"] for row in rows]
    assert json.loads(of_csv[0]["because"]) == rows[0]["because"]
    drawn = asked(capsys, published, sql)
    assert drawn.splitlines()[0].split() == ["user_id", "rank", "item_id", "because"]
    names = ["[red]x", ">y", ">z"]
    drawn = asked(capsys, published, 'SELECT 1 AS "[red]x", 2 AS ">y", \'a\' AS ">z"')
    assert drawn.splitlines()[0].split() == names
    assert asked(capsys, published, "SELECT 1 AS x WHERE false", "--json") == "[]\n"
    assert asked(capsys, published, "SELECT 1 AS x WHERE false") == "no rows\n"
    assert "the first 100 rows" in asked(capsys, published, "SELECT * FROM range(101)")


def test_values_are_what_json_can_hold(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = (
        "SELECT sum(x) AS s, 0.1::FLOAT AS f, INTERVAL '14 months 3 days 0.5 s' AS i, "
        "'nan'::DOUBLE AS n, DATE '2024-05-01' AS d, 'a\\xFF'::BLOB AS b, "
        "{'k': [0.1::FLOAT]} AS o, MAP {'a': 0.1::FLOAT} AS m, true AS t FROM range(10) r(x)"
    )
    (row,) = json.loads(asked(capsys, published, sql, "--json"))
    assert row == {"s": 45, "f": 0.1, "i": "P14M3DT0.5S", "n": None, "d": "2024-05-01", "b": "0x61ff", "o": {"k": [0.1]}, "m": {"a": 0.1}, "t": True}  # fmt: skip  # noqa: E501


def test_a_name_of_the_query_s_own_may_be_user(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT user FROM (SELECT user_id AS user FROM events) ORDER BY user LIMIT 1"
    assert json.loads(asked(capsys, published, sql, "--json")) == [{"user": 100}]


def test_columns_of_one_name_are_told_apart(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT 1 AS a, 2 AS a_1, 3 AS a, true AS a"  # as a join has them
    assert json.loads(asked(capsys, published, sql, "--json")) == [{"a": 1, "a_1": 2, "a_2": 3, "a_3": True}]
    assert asked(capsys, published, sql, "--format", "csv") == "a,a_1,a_2,a_3\n1,2,3,true\n"
    assert asked(capsys, published, sql).split() == ["a", "a_1", "a_2", "a_3", "1", "2", "3", "true"]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "SELECT usr_id FROM recommendations",
            "no column 'usr_id', did you mean 'user_id'; recommendations has user_id",
        ),
        ("SELECT r.usr_id FROM recommendations r", "no column 'usr_id', did you mean 'user_id'"),
        ("SELECT 1 FROM recomendations", "no table 'recomendations', did you mean 'recommendations'; there are events"),
        ("SELECT 1 FROM bundles", "has no table bundles, its settings make none; it has events"),
        ("SELECT user FROM recommendations", "whoever asks, the same in every row: the column of users is user_id"),
        ("SELECT count(*) FROM events GROUP BY User", "the column of users is user_id"),
        ("SELECT [TIMESTAMP 'infinity'] AS t", "t must hold times of the years 1 to 9999 to be shown"),
        ("SELECT DATE '20000-01-01' AS d", "CAST(… AS VARCHAR) shows them as texts"),
        ("SELEC 1", "the query cannot be asked: syntax error at or near"),
        ("SELECT 1; SELECT 2", "one statement that reads, such as SELECT, got SELECT, SELECT"),
        ("DROP VIEW events", "got DROP"),
        ("PIVOT recommendations ON source USING count(*)", "name them, as in ON source IN"),
        ("CREATE TABLE x AS SELECT 1", "got CREATE"),
        ("SET memory_limit = '99GB'", "got SET"),
        ("COPY events TO 'x.csv'", "got COPY"),
        ("ATTACH 'x.db'", "got ATTACH"),
        ("", "got none"),
        ("SELECT * FROM '{config}'", "no table"),
        ("SELECT * FROM read_text('{config}')", "reads the tables of a run and nothing else"),
        ("SELECT * FROM read_csv('http://localhost/x.csv')", "reads the tables of a run and nothing else"),
        ("SELECT * FROM glob('*')", "reads the tables of a run and nothing else"),
    ],
)
def test_nothing_else_is_read_or_changed_and_wrong_sql_is_told(
    published: Path, sql: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in asked(capsys, published, sql.format(config=published), code=2)


def test_a_program_variable_is_no_table(published: Path) -> None:
    secret = pa.table({"x": [1]})
    assert len(secret) == 1
    with pytest.raises(ConfigError, match="no table 'secret'"):
        query(_run(published), "SELECT * FROM secret")


def test_memory_is_bounded(published: Path) -> None:
    with pytest.raises(ConfigError, match=r"the query takes more than 50.0 MB, half of this machine's memory"):
        list(query(_run(published), "SELECT list(x) FROM range(50_000_000) r(x)", memory=50e6)[1])


def test_a_wrong_format_is_told(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--format must be table, csv, json, got 'jsn', did you mean 'json'" in asked(
        capsys, published, "SELECT 1", "--format", "jsn", code=2
    )


@pytest.mark.parametrize("small_run", ["string"], indirect=True)
def test_a_table_that_is_not_made_yet_names_its_command(small_run: runs.Run) -> None:
    with pytest.raises(ConfigError, match="has no table item_embeddings yet: topkin embed makes it; it has"):
        query(small_run, "SELECT * FROM item_embeddings")


def test_a_run_of_items_alone_has_no_lists_and_no_command_makes_them(tmp_path: Path) -> None:
    folder = str(tmp_path / "prepared")
    storage.write_parquet(pa.table({"item_id": ["a"]}), f"{folder}/catalogue.parquet")
    run = runs.Run(str(tmp_path), "r1", datetime(2024, 5, 1), {"prepare": folder})
    for table in ("recommendations", "histories"):
        with pytest.raises(ConfigError, match=f"has no table {table}, for it is of items alone; it has catalogue"):
            query(run, f"SELECT * FROM {table}")


def _run(config: Path) -> runs.Run:
    run = runs.published(str(config.parent / "topkin-out"))
    assert run is not None
    return run


@pytest.mark.parametrize("which", [0, -1])
def test_a_table_with_a_changed_byte_or_a_file_of_another_is_told_by_its_file(
    published: Path, tmp_path: Path, which: int
) -> None:
    copy = Path(shutil.copytree(published.parent / "topkin-out", tmp_path / "out"))
    run, sql = runs.run_at(str(copy)), "SELECT count(DISTINCT user_id) FROM recommendations"
    files = sorted(Path(run.folder("recommend"), "recommendations").rglob("*.parquet"))
    content = files[which].read_bytes()
    with storage.open_parquet(str(files[which])) as parquet:
        place = parquet.metadata.row_group(0).column(0)
    end = (place.dictionary_page_offset or place.data_page_offset) + place.total_compressed_size
    files[which].write_bytes(content[: end - 2] + bytes([content[end - 2] ^ 1]) + content[end - 1 :])
    with pytest.raises(ArtifactError, match=re.escape(str(files[which]))):
        list(query(run, sql)[1])
    files[which].write_bytes(files[~which].read_bytes())
    with pytest.raises(ArtifactError, match=re.escape(str(files[which]))):
        list(query(run, sql)[1])


def test_a_table_whose_folder_is_gone_is_told_so(published: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(published.parent / "topkin-out", tmp_path / "out"))
    run = runs.run_at(str(copy))
    shutil.rmtree(run.folder("recommend"))
    with pytest.raises(ArtifactError, match=r"recommendations has no manifest .* run topkin recommend again"):
        query(run, "SELECT * FROM recommendations")


@pytest.mark.parametrize(
    "sql",
    ["SELECT count(*) AS n FROM Recommendations", "FROM query_table('recom' || 'mendations') SELECT count(*) AS n"],
)
def test_a_table_is_read_however_it_is_named(published: Path, sql: str) -> None:
    run = _run(published)
    lists = storage.read_parts(lookup.table_path(run, "recommendations"))
    assert [row["n"] for row in query(run, sql)[1]] == [len(lists)]
