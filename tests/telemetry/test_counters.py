"""Counts survive their table, and sum whatever the grouping."""

from topkin.telemetry.counters import SCHEMA, counts_table, sum_counts


def test_counts_of_several_workers_are_summed_by_kind_and_name():
    a = counts_table({"users": {"all": 3}, "reason": {"short": 1}})
    b = counts_table({"users": {"all": 4, "new": 2}, "empty": {}})
    assert a.schema == SCHEMA
    assert sum_counts([a, b]) == sum_counts([b, a]) == {"users": {"all": 7, "new": 2}, "reason": {"short": 1}}
    assert sum_counts([]) == {}
