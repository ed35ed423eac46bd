"""Tables without some users, and the search that proves it."""

import html
import json
from pathlib import Path
from uuid import UUID

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import schemas
from topkin.privacy.forgotten import REASON, Forgotten
from topkin.privacy.scan import occurrences, stands_out
from topkin.privacy.tables import shown, without_users

GONE = Forgotten.none().with_users(["u2", "u4"])


def test_rows_of_users_go_and_the_order_of_others_stays() -> None:
    table = pa.table({"user_id": ["u3", "u2", "u1", "u2"], "item_id": [1, 2, 3, 4]})
    assert without_users(table, GONE).to_pylist() == [{"user_id": "u3", "item_id": 1}, {"user_id": "u1", "item_id": 3}]


def test_neighbours_that_are_users_go_and_ranks_are_counted_anew() -> None:
    rows = [("u1", 1, "u2"), ("u1", 2, "u3"), ("u1", 3, "u4"), ("u1", 4, "u5"), ("u2", 1, "u1"), ("u3", 1, "u1")]
    schema = schemas.similar_users(pa.string())
    table = pa.Table.from_pylist(
        [{"user_id": u, "rank": r, "neighbour_id": n, "score": 0.5} for u, r, n in rows], schema=schema
    )
    left = without_users(table, GONE, neighbours_are_users=True)
    assert [(r["user_id"], r["rank"], r["neighbour_id"]) for r in left.to_pylist()] == [
        ("u1", 1, "u3"),
        ("u1", 2, "u5"),
        ("u3", 1, "u1"),
    ]
    assert left.schema.equals(schema)


def test_items_that_are_called_as_users_stay() -> None:
    table = pa.table({"item_id": ["u2"], "rank": pa.array([1], pa.int32()), "neighbour_id": ["u4"]})
    assert without_users(table, GONE).equals(table)


def test_a_reject_of_theirs_is_still_counted_and_shows_nothing() -> None:
    records = [{"user": "u2", "n": 1}, {"user": "u1", "friends": [{"id": "u4"}]}, {"user": "u1"}, {"user": 7.0}]
    rows = [
        {"source": "purchases", "file": "p", "row": n, "reason": "n is null", "record": json.dumps(r)}
        for n, r in enumerate(records)
    ]
    table = pa.Table.from_pylist([*rows, {**rows[0], "record": "not JSON"}], schema=schemas.REJECTS)
    left = without_users(table, GONE.with_users([7])).to_pylist()
    assert [r["record"] for r in left] == ["{}", "{}", '{"user": "u1"}', "{}", "{}"]
    assert [r["reason"] for r in left] == [REASON, REASON, "n is null", REASON, REASON]


@pytest.mark.parametrize("written", ["BLOB", "UUID", "VARCHAR"])
def test_a_reject_shows_a_binary_id_however_duckdb_writes_it(written: str, tmp_path: Path) -> None:
    ids = [bytes(range(16)), b'\\x41"~\x7f\xff' + bytes(8), b"other"]
    users = [str(UUID(bytes=i)) for i in ids[:2]] if written == "UUID" else ids
    users = ["a\\x41b", "aAb"] if written == "VARCHAR" else users
    kind = pa.binary() if written == "BLOB" else pa.string()
    rows = pa.table({"user_id": pa.array(users, kind)})
    query = f"SELECT to_json(struct_pack(u := CAST(user_id AS {written}))) AS record FROM rows"
    records = duckdb.from_arrow(rows).query("rows", query).to_arrow_table()["record"].cast(pa.string())
    who = users[:1] if written == "VARCHAR" else ids[:2]
    gone = shown(pa.chunked_array(records.chunks), Forgotten.none().with_users(who)).tolist()
    assert gone == {"BLOB": [True, True, False], "UUID": [True, True], "VARCHAR": [True, False]}[written]


def test_the_search_finds_what_was_planted_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    nested = pa.array([[{"name": "x"}, {"name": "cust-2"}], []])
    pq.write_table(pa.table({"who": ["cust-1", "cust-3"], "n": [1, 2], "l": nested}), tmp_path / "deep" / "t.parquet")
    pq.write_table(
        pa.table({"user_id": [77, 78], "neighbour_id": [5, 77], "item_id": [77, 77]}), tmp_path / "u.parquet"
    )
    (tmp_path / ".hidden").write_bytes(b"\x00\x01cust-1\xffcust-12 cust-1")
    (tmp_path / "clean.json").write_text('{"cust-11": 77}')
    assert occurrences(str(tmp_path), ["cust-1", "cust-2"]) == {"deep/t.parquet": 2, ".hidden": 2}
    assert occurrences(str(tmp_path), [77]) == {"u.parquet": 2}
    assert occurrences(str(tmp_path), ["nobody"]) == {}


@pytest.mark.parametrize(
    ("user", "alone"),
    [
        ("ab", False),
        ("encoder", False),
        ("item-knn_x", False),
        (1234567, False),
        ("0001234567", False),
        ("a@b.c", False),  # five bytes
        ("a@b.cd", True),
        ("u12345", True),
        ("Jürgen", True),
        (b"\x00" * 16, True),
        (-123456, True),
    ],
)
def test_an_id_that_chance_or_a_word_brings_does_not_stand_out(user: int | str | bytes, alone: bool) -> None:
    assert stands_out(user) == alone


def test_short_ids_and_words_are_looked_for_where_users_stand_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"\x00ab\xffencoder ab")
    table = {"item_id": ["ab", "x"], "title": ["encoder", "ab"], "because": [["ab"], []]}
    pq.write_table(pa.table(table), tmp_path / "items.parquet")
    pq.write_table(pa.table({"user_id": ["ab", "xy"], "neighbour_id": ["zz", "encoder"]}), tmp_path / "u.parquet")
    rejects = {"record": ['{"user": "encoder", "n": [1, "ab"]}', '{"n": "abc"}']}
    pq.write_table(pa.table(rejects), tmp_path / "rejects.parquet")
    assert occurrences(str(tmp_path), ["ab"]) == {"rejects.parquet": 1, "u.parquet": 1}
    assert occurrences(str(tmp_path), ["encoder"]) == {"rejects.parquet": 1, "u.parquet": 1}
    assert occurrences(str(tmp_path), ["encoder"], neighbours_are_users=False) == {"rejects.parquet": 1}


def test_an_item_may_be_called_as_a_user_whatever_the_id(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": ["cust-1"], "neighbour_id": ["cust-1"]}), tmp_path / "items.parquet")
    assert occurrences(str(tmp_path), ["cust-1"]) == {}
    pq.write_table(pa.table({"item_id": ["x"], "title": ["cust-1"]}), tmp_path / "items.parquet")
    assert occurrences(str(tmp_path), ["cust-1"]) == {"items.parquet": 1}


def test_bytes_of_an_id_that_an_item_has_too_are_the_items(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_bytes(b"<td>cust-1, cust-2")
    pq.write_table(pa.table({"user_id": ["cust-1", "cust-2"], "title": ["a", "cust-1"]}), tmp_path / "u.parquet")
    assert occurrences(str(tmp_path), ["cust-1"]) == {"page.html": 1, "u.parquet": 2}
    assert occurrences(str(tmp_path), ["cust-1", "cust-2"], of_items=["cust-1"]) == {"page.html": 1, "u.parquet": 2}
    assert occurrences(str(tmp_path), ["cust-1"], of_items=["cust-1"]) == {"u.parquet": 1}


@pytest.mark.parametrize(
    "user", ["Jürgen 17", 'the "one" 5', "o'neil&co-3", "a\\b-1234", "<b>-12345", "anna.1@shop.example"]
)
def test_an_id_is_found_as_json_and_a_page_write_it(tmp_path: Path, user: str) -> None:
    escaped = json.dumps({"users": [user, "x"]}).translate({ord(c): f"\\u{ord(c):04x}" for c in "<>&'"})
    texts = {
        "plain.txt": user,
        "run.json": json.dumps({"users": [user, "cust-1234"]}),
        "open.json": json.dumps({user: 1}, ensure_ascii=False),
        "page.html": f"<td title={html.escape(user)!r}>{html.escape(user, quote=False)}</td>",
        "script.html": f"<script>const data = {escaped}</script>",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    others = ["cust-9999", "Jürgen 18", 'the "two" 5', "b@shop.example"]
    assert set(occurrences(str(tmp_path), [user, *others])) == {*texts}
    assert occurrences(str(tmp_path), others) == {}


def test_an_id_with_quotes_is_not_the_beginning_of_another(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(['the "one" 57', 'see\nthe "one" 6']))
    assert occurrences(str(tmp_path), ['the "one" 5']) == {}
    assert occurrences(str(tmp_path), ['the "one" 57', 'the "one" 6']) == {"run.json": 2}
