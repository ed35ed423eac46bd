"""What is said of each reason, against a loop over the user's events."""

from datetime import datetime, timedelta

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts import schemas
from topkin.recommend.because_events import with_event_names

START = datetime(2024, 1, 1)
event = st.tuples(
    st.sampled_from("abc"), st.integers(0, 3), st.sampled_from([0.25, 1.0]), st.sampled_from(["view", "cart"])
)
users = st.lists(st.tuples(st.lists(event, max_size=6), st.lists(st.sampled_from("abcd"), max_size=3)), max_size=4)


@given(users)
def test_of_several_events_the_strongest_then_the_latest_is_named(people):
    histories, lists = [], []
    for n, (events, because) in enumerate(people):
        events = sorted(events, key=lambda e: e[1])
        items, days, weights, kinds = (list(x) for x in zip(*events, strict=True)) if events else ([], [], [], [])
        row = {"user_id": f"u{n}", "items": [], "times": [], "weights": [], "input_items": items}
        row |= {"input_times": [START + timedelta(days=d) for d in days]}
        histories.append(row | {"input_weights": weights, "input_events": kinds, "segment": None})
        lists.append(
            {"user_id": f"u{n}", "rank": 1, "item_id": "z", "score": 1.0, "source": "model", "times_bought": 0}
            | {"because": because}
        )
    schema = pa.schema([*schemas.histories(pa.string(), pa.string()), *schemas.inputs(pa.string())])
    recommended = pa.Table.from_pylist(lists[::-1], schemas.recommendations(pa.string(), pa.string()))
    named = with_event_names(recommended, pa.Table.from_pylist(histories, schema))
    assert named.schema == recommended.schema.append(schemas.BECAUSE_EVENTS)
    for result, (events, because) in zip(named["because_events"].to_pylist()[::-1], people, strict=True):
        ordered = [
            (weight, day, place, kind)
            for place, (_, day, weight, kind) in enumerate(sorted(events, key=lambda e: e[1]))
        ]
        items = [e[0] for e in sorted(events, key=lambda e: e[1])]
        want = [
            max([o for o, i in zip(ordered, items, strict=True) if i == b], default=(0, 0, 0, None))[3] for b in because
        ]
        assert result == want


def test_lists_of_purchases_alone_have_no_such_column():
    recommended = schemas.recommendations(pa.string(), pa.string()).empty_table()
    assert with_event_names(recommended, schemas.histories(pa.string(), pa.string()).empty_table()) is recommended
