"""Events of several types, prepared in memory, against plain Python over the same rows."""

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.artifacts import schemas
from topkin.config.load import settings_of
from topkin.config.sections import Settings
from topkin.errors import InputError
from topkin.ingest.contract import inspect_table, sources
from topkin.ingest.files import FILE, ROW
from topkin.ingest.judging.inputs import plan_of
from topkin.ingest.prepare import Prepared, prepare
from topkin.ingest.splits import part_at_cut
from topkin.ingest.typed.counts import lines_of_types
from topkin.ingest.typed.rows import with_earlier_inputs
from topkin.interactions import INPUTS

AS_OF, CLOCK = datetime(2024, 3, 1), datetime(2024, 6, 1)
P = pa.schema({"user_id": pa.string(), "item_id": pa.string(), "timestamp": pa.timestamp("us"), "n": pa.float64()})
MIXED = pa.schema([*P, pa.field("type", pa.string())])


def prepared(tables: dict[str, pa.Table], as_of: datetime = AS_OF, **sections: Any) -> Prepared:
    values: dict[str, Any] = {"purchases": {"path": "p"}, **sections}
    own_settings: Settings = settings_of(values, "here")
    inputs = {name: inspect_table(source, tables[name]) for name, source in sources(own_settings).items()}
    faults = [str(f) for i in inputs.values() for f in i.findings]
    if faults:
        raise InputError("\n".join(faults))
    plan = plan_of(own_settings, inputs, as_of, CLOCK, None)
    rows = {}
    for name, inspection in inputs.items():
        table = tables[name].select(inspection.columns)
        table = table.append_column(FILE, pa.array([name] * len(table), pa.string()))
        rows[name] = table.append_column(ROW, pa.array(range(len(table)), pa.int64()))
    return prepare(rows, plan)


def day(n: float) -> datetime:
    return AS_OF + timedelta(days=n)


def of(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=False)) for row in rows], schema)


def histories_of(tables: Prepared) -> dict[str, dict[str, Any]]:
    return {row.pop("user_id"): row for row in tables.histories.to_pylist()}


ROW_OF = st.tuples(
    st.sampled_from(["u", "v", "w"]),
    st.sampled_from(["a", "b", "c"]),
    st.integers(-6, 4).map(day),
    st.sampled_from([0.0, 1.0, 3.0]),
    st.sampled_from(["buy", "view", "cart", "return", "like"]),
)
WEIGHTS = {"buy": 1.0, "view": 0.25, "cart": 0.5, "return": 1.0, "like": 2.0}
ROLES = {"buy": "both", "cart": "both", "like": "target"}


@settings(max_examples=60)
@given(st.lists(ROW_OF, max_size=25))
def test_a_mixed_log_and_logs_of_one_type_become_the_same_as_a_loop_makes(rows):
    rows = [("u", "a", day(-5), 1.0, "buy"), *rows]
    mixed = {"path": "p", "weight": "n", "event_type": "type", "event_weights": WEIGHTS, "event_roles": ROLES}
    one = prepared({"purchases": of(rows, MIXED)}, purchases=mixed)
    apart = {"purchases": of([r for r in rows if r[4] == "buy"], MIXED)}
    apart |= {f"events.{t}": of([r for r in rows if r[4] == t] or [rows[0]][:0], MIXED) for t in WEIGHTS if t != "buy"}
    apart = {name: t for name, t in apart.items() if len(t)}
    sections = {
        name.removeprefix("events."): {"path": name, "weight": f"{WEIGHTS[name[7:]]} * n"}
        | {"role": "return" if name == "events.return" else ROLES.get(name[7:], "input")}
        for name in apart
        if name != "purchases"
    }
    two = prepared(apart, purchases={"path": "p", "weight": "n"}, events=sections)
    assert one.catalogue.equals(two.catalogue)
    assert one.events.equals(two.events)
    assert one.heldout.equals(two.heldout)
    names = {"buy": "purchase"}
    for user, row in histories_of(one).items():
        other = histories_of(two)[user]
        key = lambda h, n: sorted(zip(h["input_times"], h["input_items"], h["input_weights"],  # noqa: E731
                                      [n.get(e, e) for e in h["input_events"]], strict=True))  # fmt: skip
        assert key(row, names) == key(other, {})
        assert row["items"] == other["items"]
    bought, inputs, heldout = naive(sorted(set(rows), key=lambda r: (r[0], r[2], r[1])))
    histories = histories_of(one)
    assert {u: sorted(zip(h["items"], h["times"], strict=True)) for u, h in histories.items() if h["items"]} == bought
    got = {
        u: sorted(zip(h["input_items"], h["input_times"], h["input_weights"], h["input_events"], strict=True))
        for u, h in histories.items()
        if h["input_items"]
    }
    assert got == inputs
    assert Counter(one.heldout["item_id"].to_pylist()) == heldout
    assert histories.keys() == bought.keys() | inputs.keys()


def naive(rows):
    """What is bought and what is an input by user, and the items held out."""
    bought, inputs, heldout = defaultdict(list), defaultdict(list), Counter()
    for known in (True, False):
        some = [r for r in rows if (r[2] < AS_OF) == known]
        gone = set()
        for back in sorted((r for r in some if r[4] == "return"), key=lambda r: r[2]):
            before = [
                (r[2], list(WEIGHTS).index(r[4]), r[3], r)
                for r in some
                if ROLES.get(r[4]) and r[:2] == back[:2] and r[2] <= back[2] and r not in gone
            ]
            if before:
                gone.add(max(before)[3])
        for r in some:
            user, item, time, n, kind = r
            if r in gone or kind == "return":
                continue
            if kind in ROLES:
                if known:
                    bought[user].append((item, time))
                else:
                    heldout[item] += 1
            if known and kind != "like" and n > 0:
                inputs[user].append((item, time, n * WEIGHTS[kind], kind))
    return {u: sorted(x) for u, x in bought.items()}, {u: sorted(x) for u, x in inputs.items()}, heldout


def test_without_events_nothing_is_different_and_weights_of_one_change_no_other_column():
    rows = [("u", "a", day(-2), 2.0), ("u", "b", day(-1), 1.0), ("v", "a", day(-3), 1.0), ("v", "c", day(1), 1.0)]
    plain, weighed = (
        prepared({"purchases": of(rows, P)}, purchases={"path": "p", "quantity": "n", **more})
        for more in ({}, {"weight": "1"})
    )
    assert plain.histories.schema == schemas.histories(pa.string(), pa.string())
    assert plain.statistics.keys() == weighed.statistics.keys() - {"event_types", "inputs"}
    for name in ("events", "heldout", "catalogue"):
        assert getattr(plain, name).equals(getattr(weighed, name))
    assert weighed.histories.select(plain.histories.column_names).equals(plain.histories)
    assert weighed.histories["input_items"].to_pylist() == plain.histories["items"].to_pylist()


def test_an_item_that_is_only_viewed_and_a_user_who_only_views_are_known_and_nothing_is_bought():
    tables = {"purchases": of([("u", "a", day(-2), 1.0)], P), "events.view": of([("v", "z", day(-1), 1.0)], P)}
    prepared_tables = prepared(tables, events={"view": {"path": "v", "weight": 0.1}})
    assert prepared_tables.catalogue.select(["item_id", "events", "users", "available"]).to_pylist() == [
        {"item_id": "a", "events": 1, "users": 1, "available": True},
        {"item_id": "z", "events": 0, "users": 0, "available": True},
    ]
    row = histories_of(prepared_tables)["v"]
    assert (row["items"], row["input_items"], row["input_events"]) == ([], ["z"], ["view"])
    assert prepared_tables.statistics["sources"]["events.view"]["accepted"] == 1
    assert prepared_tables.statistics["events"] == 1
    assert prepared_tables.statistics["event_types"]["view"]["before"] == 1


def test_the_last_purchase_is_held_out_with_all_that_its_user_did_from_then_on():
    tables = {
        "purchases": of([("u", "a", day(-9), 1.0), ("u", "b", day(-4), 1.0)], P),
        "events.view": of([("u", "b", day(-5), 1.0), ("u", "b", day(-4), 1.0), ("u", "c", day(-3), 1.0)], P),
    }
    prepared_tables = prepared(tables, events={"view": {"path": "v"}}, prepare={"split": "last"})
    assert histories_of(prepared_tables)["u"]["input_times"] == [day(-9), day(-5)]
    assert prepared_tables.heldout["item_id"].to_pylist() == ["b"]


def test_weights_without_times_stand_at_the_positions_of_their_purchases():
    rows = [("u", "a", None, 2.0), ("u", "b", None, 3.0), ("v", "a", None, 1.0), ("u", "c", None, 1.0)]
    how = {"path": "p", "order": "row", "weight": "n"}
    tables = prepared({"purchases": of(rows, P)}, purchases=how, prepare={"split": "last"})
    assert tables.heldout["item_id"].to_pylist() == ["c"]
    for row in histories_of(tables).values():
        assert (row["input_items"], row["input_times"]) == (row["items"], row["times"])
    assert histories_of(tables)["u"]["input_weights"] == [2.0, 3.0]


def test_a_view_equal_to_a_purchase_is_no_duplicate_of_it():
    rows = [("u", "a", day(-2), 1.0)]
    tables = prepared({"purchases": of(rows, P), "events.view": of(rows * 2, P)}, events={"view": {"path": "v"}})
    assert histories_of(tables)["u"]["input_events"] == ["purchase", "view"]
    assert tables.statistics["sources"]["events.view"]["duplicates"] == 1


def test_rows_of_unknown_types_are_rejected_and_told_with_the_nearest():
    rows = [("u", "a", day(-2), 1.0, t) for t in ("buy", "vieww", "vieww", "xyz", "qqq", None)]
    mixed = {
        "path": "p",
        "event_type": "type",
        "event_weights": {"buy": 1, "view": 0.1},
        "event_roles": {"buy": "both"},
    }
    tables = prepared({"purchases": of(rows, MIXED)}, purchases=mixed)
    assert tables.statistics["sources"]["purchases"]["rejected"] == {
        "type is 'vieww', no type of purchases.event_weights: 'view'?": 2,
        "type is no type of purchases.event_weights": 2,
        "type is null": 1,
    }


def test_weights_that_are_no_numbers_are_rejected_and_a_text_is_refused():
    rows = [("u", "a", day(-2), n) for n in (1.0, None, float("nan"), -1.0, 3e38)]
    tables = prepared({"purchases": of(rows, P)}, purchases={"path": "p", "weight": "n"})
    assert tables.statistics["sources"]["purchases"]["rejected"] == {"purchases.weight is not from 0 to 1e6": 4}
    with pytest.raises(InputError, match=r"purchases\.weight must be a number, got string"):
        prepared({"purchases": of(rows, P)}, purchases={"path": "p", "weight": "item_id"})


@pytest.mark.parametrize("weight", ["n", "ln(1 + greatest(n, 0))"])
def test_a_return_in_a_mixed_log_has_no_weight_of_its_own(weight):
    rows = [("u", item, day(-3), 2.0, "purchase") for item in "abc"]
    rows += [("u", "a", day(-2), -1.0, "return"), ("u", "b", day(-2), None, "return")]
    mixed = {"path": "p", "weight": weight, "event_type": "type", "event_weights": {"purchase": 1, "return": 1}}
    tables = prepared({"purchases": of(rows, MIXED)}, purchases=mixed)
    assert histories_of(tables)["u"]["input_items"] == tables.events["item_id"].to_pylist() == ["c"]
    assert tables.statistics["sources"]["purchases"]["rejected"] == {}
    assert tables.statistics["event_types"]["return"]["netted_before"] == 2


def test_of_a_held_out_log_of_several_types_targets_alone_judge_and_returns_take_back():
    before = [("u", "a", day(-3), 1.0, "buy"), ("u", "b", day(-2), 1.0, "view")]
    after = [("u", "b", day(1), 1.0, "buy"), ("u", "c", day(2), 1.0, "view"), ("u", "d", day(2), 1.0, "like")]
    after += [("u", "e", day(3), 1.0, "buy"), ("u", "e", day(4), 1.0, "return"), ("u", "f", day(4), 1.0, "bye")]
    mixed = {"path": "p", "event_type": "type", "event_weights": WEIGHTS, "event_roles": ROLES}
    tables = {"purchases": of(before, MIXED), "heldout": of(after, MIXED)}
    prepared_tables = prepared(tables, purchases=mixed, heldout={"path": "h", "event_type": "type"})
    assert prepared_tables.heldout["item_id"].to_pylist() == ["b", "d"]
    assert prepared_tables.heldout.schema == prepared_tables.events.schema
    counts = prepared_tables.statistics["sources"]["heldout"]
    assert (counts["accepted"], sum(counts["rejected"].values()), prepared_tables.statistics["heldout_events"]) == (
        5,
        1,
        2,
    )


def test_returns_by_order_take_back_that_order_and_are_told():
    schema = pa.schema([*P, pa.field("order", pa.string())])
    tables = {
        "purchases": of([("u", "a", day(-9), 1.0, "1"), ("u", "a", day(-8), 1.0, "2")], schema),
        "events.return": of([("u", "a", day(-7), 1.0, "1"), ("u", "b", day(-7), 1.0, "2")], schema),
    }
    purchases = {"path": "p", "order_id": "order"}
    returns = {"path": "r", "role": "return", "order_id": "order"}
    prepared_tables = prepared(tables, purchases=purchases, events={"return": returns})
    assert prepared_tables.events["timestamp"].to_pylist() == [day(-8)]
    assert lines_of_types(prepared_tables.statistics["event_types"]) == [
        "purchase: 2 events, 1 of them taken back, input and target of weight 1",
        "return: 2 events, 1 took a purchase back, 1 found none",
    ]


@settings(max_examples=30)
@given(st.lists(ROW_OF, max_size=25), st.integers(-5, 0))
def test_a_folder_as_of_an_earlier_date_has_the_inputs_of_that_date(rows, days):
    rows = [("u", "a", day(-6), 1.0, "buy"), *(r for r in rows if r[4] != "return")]
    mixed = {"path": "p", "event_type": "type", "event_weights": WEIGHTS, "event_roles": ROLES}
    now, then = (prepared({"purchases": of(rows, MIXED)}, d, purchases=mixed) for d in (AS_OF, day(days)))
    cut = part_at_cut(now.events, day(days), 7).histories
    earlier = with_earlier_inputs(cut, now.histories.select(["user_id", *INPUTS]), day(days))
    bought = then.histories.filter(pc.greater(pc.list_value_length(then.histories["items"]), 0))
    assert earlier.equals(bought)
    assert with_earlier_inputs(cut, now.events.select(["user_id"]), day(days)) is cut
