"""How many events of each type there are, for statistics.json, the report and messages."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from topkin.config.shop.events import EventType
from topkin.ingest.typed.rows import EVENT

STATISTICS = "event_types"
"""The key of statistics.json, and the source of the counts that it is made of."""

Count = tuple[str, str, str, int]


def counts_by_source(rows: pa.Table, events: pa.Table, types: Sequence[EventType]) -> list[Count]:
    """How many of each input's accepted rows are events, and how many are duplicates. Both with EVENT."""
    n_rows, n_events = (np.bincount(np.asarray(t[EVENT]), minlength=len(types)) for t in (rows, events))
    counts: list[Count] = []
    for source in dict.fromkeys(t.source for t in types):
        own = [t.source == source for t in types]
        kept = int(n_events[own].sum())
        counts += [(source, "accepted", "", kept), (source, "duplicates", "", int(n_rows[own].sum()) - kept)]
    return counts


def counts_by_type(
    types: Sequence[EventType], before: Sequence[np.ndarray], after: Sequence[np.ndarray]
) -> list[Count]:
    """Events and netted ones of each type, (n_types,) each, before the as-of date and from it on."""
    return [
        (STATISTICS, t.name, kind, int(n[number]))
        for kinds, counts in ((("before", "netted_before"), before), (("after", "netted_after"), after))
        for kind, n in zip(kinds, counts, strict=True)
        for number, t in enumerate(types)
    ]


def counts_of_types(
    types: Sequence[EventType], by_kind: Mapping[tuple[str, str], Mapping[str, int]]
) -> dict[str, dict[str, Any]]:
    """By type its role and weight, its events before and from the as-of date, and how many of these were netted."""
    return {t.name: {"role": t.role, "weight": t.weight, **by_kind.get((STATISTICS, t.name), {})} for t in types}


def nothing_known(statistics: Mapping[str, Any]) -> str | None:
    """What is wrong where no event is an input, by the content of statistics.json; None where some is."""
    if statistics.get("inputs", 1):
        return None
    types = ", ".join(f"{name} ({n['role']}): {n['before']:,}" for name, n in statistics[STATISTICS].items())
    return (
        "some event before the as-of date must be an input of a weight above 0, what users are known by, got none "
        f"among {types}: look at purchases.weight, and at the roles and weights of events"
    )


def lines_of_types(counts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What ``prepare`` says of each type: ``view: 1,234 events before the as-of date, input of weight 0.1``."""
    lines = []
    for name, n in counts.items():
        before, netted = n["before"], n["netted_before"]
        if n["role"] == "return":
            lines.append(f"{name}: {before:,} events, {netted:,} took a purchase back, {before - netted:,} found none")
            continue
        role = {"input": "input", "target": "target", "both": "input and target"}[n["role"]]
        gone = f", {netted:,} of them taken back" if netted else ""
        lines.append(f"{name}: {before:,} events{gone}, {role} of weight {n['weight']:g}")
    return lines
