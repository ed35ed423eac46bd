"""Counts survive their table, and sum whatever the grouping."""

from topkin.telemetry.counters import SCHEMA, tally_of, tally_table


def test_counts_of_several_workers_are_summed_by_kind_and_name():
    a = tally_table({"users": {"all": 3}, "reason": {"short": 1}})
    b = tally_table({"users": {"all": 4, "new": 2}, "empty": {}})
    assert a.schema == SCHEMA
    assert tally_of([a, b]) == tally_of([b, a]) == {"users": {"all": 7, "new": 2}, "reason": {"short": 1}}
    assert tally_of([]) == {}
