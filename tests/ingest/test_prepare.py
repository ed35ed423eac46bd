"""Preparing in memory against plain Python over the same rows."""

import json
import math
import random
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.artifacts import schemas
from topkin.ingest.contract import InputSource
from topkin.ingest.files import FILE, ROW
from topkin.ingest.prepare import Prepared, PreparePlan, prepare
from topkin.ingest.rules import Rules

CLOCK, AS_OF, RECENT = datetime(2011, 12, 10), datetime(2011, 11, 9), 7
DAYS = [datetime(2011, 10, 1), datetime(2011, 11, 3), datetime(2011, 11, 2), AS_OF, datetime(2011, 12, 1)]

PURCHASES = InputSource(
    name="purchases",
    path="p",
    columns={
        "user_id": "who",
        "item_id": "what",
        "timestamp": "when",
        "quantity": "n",
        "price": "cost",
        "segment": "land",
    },
    rules=Rules.of(
        "purchases", {"what": "upper(trim(what))"}, {"bought": "n > 0", "no gift": "note IS NULL OR note <> 'gift'"}
    ),
)
ITEMS = InputSource(
    name="items",
    path="i",
    columns={"item_id": "id", "title": "name", "category": "kind", "price": "cost", "available": "sold"},
    rules=Rules.of("items", {}, {"named": "name <> '?'"}),
)
USERS = InputSource(name="users", path="u", columns={"user_id": "id", "segment": "land"})

P_SCHEMA = pa.schema(
    {
        "who": pa.string(),
        "what": pa.string(),
        "when": pa.string(),
        "n": pa.float64(),
        "cost": pa.float64(),
        "land": pa.string(),
        "note": pa.string(),
    }
)
I_SCHEMA = pa.schema(
    {"id": pa.string(), "name": pa.string(), "kind": pa.string(), "cost": pa.float64(), "sold": pa.bool_()}
)
U_SCHEMA = pa.schema({"id": pa.string(), "land": pa.string()})


def dirty(choices: dict[str, tuple[list[Any], list[Any]]], n: int, seed: int, dirt: float) -> list[dict[str, Any]]:
    """Rows of good values, each replaced with a bad one at the rate of ``dirt``."""
    rng = random.Random(seed)
    return [
        {c: rng.choice(bad if rng.random() < dirt else good) for c, (good, bad) in choices.items()} for _ in range(n)
    ]


PURCHASE = {
    "who": (["u1", "u2", "u3"], [None]),
    "what": (["a", " A", "b", "c"], [None]),
    "when": ([d.isoformat() for d in DAYS] + ["2011-10-01T02:00+02:00"], [None, "n/a", "2031-01-01"]),
    "n": ([1.0, 2.0], [None, -1.0, math.nan, math.inf, 1e300]),
    "cost": ([0.5, 1.25], [None, math.nan]),
    "land": (["UK", "FR"], [None]),
    "note": (["x", None], ["gift"]),
}
ITEM = {
    "id": (["A", "B", "Z", "Y"], [None]),
    "name": (["Red  lamp", "blue LAMP-Lamp", ""], [None, "?"]),
    "kind": (["k1", "k2"], [None]),
    "cost": ([3.0], [None, math.inf]),
    "sold": ([True, False], [None]),
}
USER = {"id": (["u1", "u8", "u9"], [None]), "land": (["DE", "UK"], [None])}


def raw(rows: list[dict[str, Any]], schema: pa.Schema, files: int) -> pa.Table:
    """The rows in turn over some files, as a reader gives them."""
    table = pa.Table.from_pylist(rows, schema)
    names = [f"f{i % files}" for i in range(len(rows))]
    numbers = [i // files for i in range(len(rows))]
    return table.append_column(FILE, pa.array(names, pa.string()).dictionary_encode()).append_column(
        ROW, pa.array(numbers, pa.int64())
    )


def plan(**changes: Any) -> PreparePlan:
    common = {
        "purchases": PURCHASES,
        "items": ITEMS,
        "users": USERS,
        "user_type": pa.string(),
        "item_type": pa.string(),
    }
    return PreparePlan(**{**common, "as_of": AS_OF, "clock": CLOCK, "recent_days": RECENT, **changes})


def when_of(text: str) -> datetime | None:
    if text == "n/a":
        return None
    when = datetime.fromisoformat(text)
    return when if when.tzinfo is None else (when - when.utcoffset()).replace(tzinfo=None)  # type: ignore[operator]


def why_not(row: dict[str, Any]) -> str | None:
    """The first rule that a purchase breaks."""
    when = when_of(row["when"]) if row["when"] is not None else None
    checks = [
        ("who is null", row["who"] is None),
        ("what is null", row["what"] is None),
        ("when is null", row["when"] is None),
        ("when is not readable as a time", row["when"] is not None and when is None),
        ("when is in the future", when is not None and when > CLOCK),
        ("n is null or not finite", row["n"] is None or not abs(row["n"]) < 1e38),
        ("bought", row["n"] is None or not row["n"] > 0),
        ("no gift", row["note"] == "gift"),
    ]
    return next((reason for reason, broken in checks if broken), None)


def key_of(row: dict[str, Any]) -> str:
    return json.dumps(row)


def first_listed(rows: list[dict[str, Any]], files: int, bad: Any) -> tuple[dict[str, dict[str, Any]], Counter[str]]:
    """Of items or users the first of each id, and the counts of reasons."""
    kept: dict[str, dict[str, Any]] = {}
    reasons: Counter[str] = Counter()
    for _, _, row in sorted((i % files, i // files, i) for i in range(len(rows))):
        reason = bad(rows[row])
        if reason is None and rows[row]["id"] in kept:
            reason = "listed twice"
        if reason is None:
            kept[rows[row]["id"]] = rows[row]
        else:
            reasons[reason] += 1
    return kept, reasons


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def none_last(value: Any) -> tuple[bool, Any]:
    return (value is None, value)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 150), st.sampled_from([0, 0.05, 0.5, 1]), st.integers(1, 3), st.booleans())
def test_preparing_equals_plain_python(seed: int, n: int, dirt: float, files: int, drop: bool) -> None:
    rows = dirty(PURCHASE, n, seed, dirt)
    rows = rows + rows[: n // 3]  # duplicates
    items, users = dirty(ITEM, min(n, 6), seed, dirt), dirty(USER, min(n, 4), seed, dirt)
    inputs = {
        "purchases": raw(rows, P_SCHEMA, files),
        "items": raw(items, I_SCHEMA, files),
        "users": raw(users, U_SCHEMA, files),
    }
    tables = prepare(inputs, plan(drop_duplicates=drop))

    rejected: Counter[str] = Counter()
    good, seen = [], set()
    for row in rows:
        reason = why_not(row)
        if reason is not None:
            rejected[reason] += 1
        elif not drop or key_of(row) not in seen:
            seen.add(key_of(row))
            good.append(
                (
                    row["who"],
                    when_of(row["when"]),
                    row["what"].strip().upper(),
                    row["n"],
                    finite(row["cost"]),
                    row["land"],
                )
            )
    good.sort(key=lambda r: (*r[:4], none_last(r[4]), none_last(r[5])))
    before = [r for r in good if r[1] < AS_OF]
    as_events = [(u, i, t, n, c, s) for u, t, i, n, c, s in good]
    assert tuples(tables.events) == [r for r in as_events if r[2] < AS_OF]
    assert tuples(tables.heldout) == [r for r in as_events if r[2] >= AS_OF]

    # the users
    listed, twice = first_listed(users, files, lambda r: "id is null" if r["id"] is None else None)
    lists: dict[str, list[Any]] = defaultdict(list)
    for r in before:
        lists[r[0]].append(r)
    expected = []
    for u in sorted({*lists, *listed}):
        lands = [r[5] for r in lists[u] if r[5] is not None]
        land = listed.get(u, {}).get("land") or (lands[-1] if lands else None)
        expected.append((u, [r[2] for r in lists[u]], [r[1] for r in lists[u]], [r[3] for r in lists[u]], land))
    assert tuples(tables.histories) == expected

    # the items
    catalogue, twice_items = first_listed(
        items, files, lambda r: "id is null" if r["id"] is None else "named" if r["name"] in (None, "?") else None
    )
    expected = []
    for i in sorted({*catalogue, *(r[2] for r in before)}):
        sales = [r for r in before if r[2] == i]
        times = [r[1] for r in sales]
        last = max((r[4] for r in sales if r[1] == max(times) and r[4] is not None), default=None)
        row = catalogue.get(i, {})
        price = finite(row.get("cost"))
        expected.append(
            (
                i,
                row.get("name") or None,
                row.get("kind"),
                last if price is None else price,
                row.get("sold") is not False,
                len(sales),
                len({r[0] for r in sales}),
                sum(t >= AS_OF - timedelta(days=RECENT) for t in times),
                min(times, default=None),
                max(times, default=None),
            )
        )
    assert tuples(tables.catalogue) == expected
    words = Counter(w for r in catalogue.values() for w in {*(r["name"] or "").lower().replace("-", " ").split()})
    assert tuples(tables.vocabularies["words"]) == sorted(words.items(), key=lambda w: (-w[1], w[0]))
    lands = Counter(r["segment"] for r in tables.histories.to_pylist() if r["segment"] is not None)
    assert tuples(tables.vocabularies["segments"]) == sorted(lands.items(), key=lambda w: (-w[1], w[0]))

    # nothing disappears
    stated = tables.statistics["sources"]
    assert stated["purchases"]["rejected"] == rejected
    assert stated["items"]["rejected"] == {k.replace("listed", "item listed"): n for k, n in twice_items.items()}
    assert stated["users"]["rejected"] == {k.replace("listed", "user listed"): n for k, n in twice.items()}
    assert stated["purchases"]["duplicates"] == len(rows) - sum(rejected.values()) - len(good)
    for name, table in inputs.items():
        s = stated[name]
        assert s["rows"] == len(table) == s["accepted"] + s["duplicates"] + sum(s["rejected"].values())
    assert len(tables.rejects) == sum(sum(s["rejected"].values()) for s in stated.values())
    well_formed(tables, inputs)


def tuples(table: pa.Table) -> list[tuple[Any, ...]]:
    return [tuple(r.values()) for r in table.to_pylist()]


def well_formed(tables: Prepared, inputs: dict[str, pa.Table]) -> None:
    """Schemas as written down, and each rejected row told by its place and as it came."""
    assert tables.events.schema == tables.heldout.schema == schemas.events(pa.string(), pa.string())
    assert tables.histories.schema == schemas.histories(pa.string(), pa.string())
    assert tables.catalogue.schema == schemas.catalogue(pa.string())
    assert tables.rejects.schema == schemas.REJECTS
    for table in (tables.events, tables.heldout, tables.histories, tables.catalogue, tables.rejects):
        table.validate(full=True)
    rows = {(n, r[FILE], r[ROW]): r for n, table in inputs.items() for r in table.to_pylist()}
    places = [(r["source"], r["file"], r["row"]) for r in tables.rejects.to_pylist()]
    assert places == sorted(set(places))
    for reject in tables.rejects.to_pylist():
        record, row = json.loads(reject["record"]), rows[reject["source"], reject["file"], reject["row"]]
        for name, value in record.items():
            odd = isinstance(row[name], float) and not math.isfinite(row[name])
            blank = row[name] == "" and value is None  # an item listed twice is shown as it was read
            assert value == row[name] or odd or blank or (name == "sold" and value is True)
        assert "listed twice" in reject["reason"] or set(record) == set(row) - {FILE, ROW}


def test_without_items_and_users_all_comes_from_the_purchases() -> None:
    rows = [dict(zip(P_SCHEMA.names, r, strict=True)) for r in [("u1", "a", "2011-10-01", 1.0, 2.5, None, None)]]
    tables = prepare({"purchases": raw(rows, P_SCHEMA, 1)}, plan(items=None, users=None))
    assert tables.catalogue.to_pylist()[0]["title"] is None
    assert tables.catalogue.to_pylist()[0]["available"] is True
    assert tables.catalogue.to_pylist()[0]["price"] == 2.5
    assert tables.statistics["users"] == tables.statistics["items"] == 1
    assert list(tables.statistics["sources"]) == ["purchases"]
    assert tables.statistics["first_sale"] == tables.statistics["last_sale"] == "2011-10-01T00:00:00"


def test_nothing_at_all_gives_empty_tables() -> None:
    tables = prepare(
        {n: raw([], s, 1) for n, s in (("purchases", P_SCHEMA), ("items", I_SCHEMA), ("users", U_SCHEMA))}, plan()
    )
    assert [len(t) for t in (tables.events, tables.heldout, tables.histories, tables.catalogue, tables.rejects)] == [
        0
    ] * 5
    assert tables.statistics["first_sale"] is None


@pytest.mark.parametrize("kind", [pa.int64(), pa.binary()])
def test_ids_of_other_types_survive(kind: pa.DataType) -> None:
    ids = [2**62 + 1, -5, 7] if kind == pa.int64() else [b"\xff\x00", b"", b"a"]
    table = pa.table({"who": pa.array(ids, kind), "what": pa.array(ids[::-1], kind), "when": pa.array(DAYS[:3])})
    table = table.append_column(FILE, pa.array(["f"] * 3).dictionary_encode()).append_column(ROW, pa.array([0, 1, 2]))
    source = InputSource(name="purchases", path="p", columns={"user_id": "who", "item_id": "what", "timestamp": "when"})
    tables = prepare(
        {"purchases": table}, plan(purchases=source, items=None, users=None, user_type=kind, item_type=kind)
    )
    assert tables.histories["user_id"].to_pylist() == tables.catalogue["item_id"].to_pylist() == sorted(ids)
    assert tables.histories.schema == schemas.histories(kind, kind)
    assert np.asarray(tables.events["quantity"]).tolist() == [1, 1, 1]


def test_rows_are_duplicates_only_when_every_column_read_is_equal() -> None:
    row = dict(zip(P_SCHEMA.names, ("u1", "a", "2011-10-01", 1.0, 2.5, None, "x"), strict=True))
    for change in (
        {"note": "y"},
        {"note": None},
        {"land": ""},
        {"what": " a"},
        {"when": "2011-10-01T00:00"},
        {"cost": 2.0},
    ):
        both = prepare({"purchases": raw([row, row | change], P_SCHEMA, 1)}, plan(items=None, users=None))
        assert both.statistics["sources"]["purchases"]["duplicates"] == 0
    same = prepare({"purchases": raw([row, row, row], P_SCHEMA, 2)}, plan(items=None, users=None))
    assert same.statistics["sources"]["purchases"]["duplicates"] == 2
    kept = prepare(
        {"purchases": raw([row, row, row], P_SCHEMA, 2)}, plan(items=None, users=None, drop_duplicates=False)
    )
    assert len(kept.events) == 3
