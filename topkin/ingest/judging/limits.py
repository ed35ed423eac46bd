"""Which share of an input's rows may be rejected, in all and for one reason, and the words for what was."""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.config.reference import as_toml
from topkin.config.section import RejectLimits
from topkin.errors import ConfigError
from topkin.ingest.cleaning import LISTED_TWICE, OTHER_FORM, TWO_ORDERS, UNREADABLE
from topkin.ingest.contract import InputSource
from topkin.ingest.sql import nearest
from topkin.ingest.values.time_faults import form_of_text, or_as_it_is
from topkin.ingest.values.type_cures import normalise_key, setting
from topkin.privacy.forgotten import REASON as FORGOTTEN

KEY, BY_REASON = "prepare.max_reject_share", "prepare.max_reject_share_by_reason"
MOST = 0.5
"""Share of rows above which most of an input is gone, whoever meant it."""
UNJUDGED = (*LISTED_TWICE.values(), FORGOTTEN)
"""Reasons that lose nothing that anybody misses."""
_CURES = (
    ("is null", "a row without it cannot be used: name another column, or fill it with {key}", ""),
    ("largest int64", "keep such ids as text: {setting}", "CAST({} AS VARCHAR)"),
    ("in the future", "ask where the times come from, or correct them with {key}", ""),
    ("UTF-8", "write the file again from text in its own encoding", ""),
)
"""Words of a reason, the cure in words, and the expression that it sets, ``{}`` for the column."""


def rejects_in_words(rejected: Mapping[str, int], rows: int, reasons: int = 4) -> str:
    """``rejected 1,234 (2.1 %): timestamp is in the future 1,000, …``: the most frequent first; "" for none."""
    ordered = sorted(((reason, n) for reason, n in rejected.items() if n), key=lambda r: (-r[1], r[0]))
    if not ordered:
        return ""
    total, left = sum(n for _, n in ordered), ordered[reasons:]
    shown = [f"{reason} {n:,}" for reason, n in ordered[:reasons]]
    shown += [f"{len(left)} other reason{'s' if len(left) > 1 else ''} {sum(n for _, n in left):,}"] if left else []
    return f"rejected {total:,} ({percent(total, rows)}): {', '.join(shown)}"


def rejects_of_inputs(counts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What was rejected of each input, in words, from the ``sources`` of statistics.json; inputs without are left out.

    ``purchases rejected 1,234 (2.1 %): …``
    """
    words = {name: rejects_in_words(c["rejected"], rows_judged(c)) for name, c in counts.items()}
    return [f"{name} {text}" for name, text in words.items() if text]


def rows_judged(counts: Mapping[str, Any]) -> int:
    """The rows that an input's entry of statistics.json tells of: those of files, and those that lists added."""
    return int(counts["rows"]) + int(counts.get("unnested", 0))


def percent(part: float, whole: float) -> str:
    """``2.1 %``; what is not nothing and not all is not shown as 0 or 100."""
    share = part / whole if whole else 0.0
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{share:.1%}".replace("%", " %")


def faults_of_rejects(
    source: InputSource,
    rejected: Mapping[str, int],
    rows: int,
    limits: RejectLimits,
    examples: Mapping[str, str],
) -> list[str]:
    """What is wrong where more of an input's rows are rejected than the limits allow.

    A reason with a limit of its own is judged by that alone. Of the others those that nobody meant are held to
    ``max_reject_share``; together with rows that a rule takes away and purchases of no user they may be half of all,
    or ``max_reject_share`` if that is more. That an item or user is listed twice loses none.

    Args:
        source: the input.
        rejected: reason -> rows, of all rows or of a sample.
        rows: how many rows these are of.
        limits: the keys of ``[prepare]``.
        examples: reason -> a value that was rejected, in words.

    Returns:
        A message for each limit that is passed: rule, what came, cure.
    """
    own = limits.max_reject_share_by_reason
    every = {r: n for r, n in rejected.items() if n and r not in own and r not in UNJUDGED}
    meant = {*source.rules.rejection_reasons, _no_user(source)}
    unmeant = {r: n for r, n in every.items() if r not in meant}
    most, by_key = limits.max_reject_share, f"({KEY} = {_number(limits.max_reject_share)})"
    faults: list[str] = []
    for some, limit, rule in (
        (unmeant, most, f"at most {percent(most, 1)} of the rows may be rejected {by_key}"),
        (every, max(most, MOST), f"at most {percent(max(most, MOST), 1)} of the rows may be rejected in all"),
    ):
        total = sum(some.values())
        if rows and total / rows > limit and not faults:
            first = max(sorted(some), key=lambda r: some[r])
            faults.append(
                f"{source.name}: {rule}, got {percent(total, rows)} of {rows:,}: {_reasons(some, examples)}; "
                f"{_cure(source, first, examples)}"
                + (
                    f"; where it is meant, set {_limit_key(first)} = {_room(some[first] / rows)}"
                    if total < rows
                    else ""
                )
            )
    for reason, limit in own.items():
        n = rejected.get(reason, 0)
        if rows and n / rows > limit:
            faults.append(
                f"{source.name}: at most {percent(limit, 1)} of the rows may be rejected by {_limit_key(reason)}, got "
                f"{percent(n, rows)} of {rows:,}{_such_as(reason, examples)}; {_cure(source, reason, examples)}; where "
                "it is meant, raise the key"
            )
    return faults


def _no_user(source: InputSource) -> str:
    """The reason of purchases that guests made."""
    return f"{source.columns['user_id']} is null" if "item_id" in source.columns and "user_id" in source.columns else ""


def check_limited_reasons(limits: RejectLimits, sources: Mapping[str, InputSource]) -> None:
    """Raises ConfigError where a limit names a reason for which nothing is ever rejected."""
    rules = [reason for source in sources.values() for reason in source.rules.rejection_reasons]
    columns = {column for source in sources.values() for column in source.columns.values()}
    for reason in limits.max_reject_share_by_reason:
        built_in = reason in LISTED_TWICE.values() or any(reason.startswith(f"{c} ") for c in columns)
        if reason not in rules and not built_in:
            raise ConfigError(
                f"{BY_REASON} must name reasons of the rules or of topkin, such as "
                f"{', '.join(map(repr, rules[:3] or ['timestamp is in the future']))}, got {reason!r}"
                f"{nearest(reason, rules)}: name it as the rule is named"
            )


def examples_of(rejects: pa.Table, source: InputSource) -> dict[str, str]:
    """Reason -> a rejected value in words, of ``schemas.REJECTS``: one row is read for each reason."""
    first = rejects.append_column("at", pa.array(np.arange(len(rejects))))
    first = first.group_by("reason", use_threads=False).aggregate([("at", "min")])
    examples = {}
    for reason, at in zip(first["reason"].to_pylist(), first["at_min"].to_pylist(), strict=True):
        row = {c: rejects[c][at].as_py() for c in ("file", "row", "record")}
        values = _values(reason, row["record"], source)
        examples[reason] = f"{values and f'{values} in '}row {row['row']:,} of {_from_here(row['file'])}"
    return examples


def _from_here(path: str) -> str:
    """A path as it is typed in the current folder, where it lies below it."""
    return path.removeprefix(os.getcwd().rstrip("/") + "/")


def count_by_reason(rejects: pa.Table) -> dict[str, int]:
    """Reason -> rows, the most frequent first."""
    counts = pc.value_counts(rejects["reason"]).to_pylist()
    return {c["values"]: c["counts"] for c in sorted(counts, key=lambda c: (-c["counts"], c["values"]))}


def _values(reason: str, record: str, source: InputSource) -> str:
    """The values of a rejected row that its reason is about."""
    values: dict[str, Any] = json.loads(record)
    expression = dict(source.rules.rules).get(reason)
    if expression is not None:
        about = [c for c in values if c.lower() in expression.names()]
    else:
        about = [c for c in (_column_of(reason, values),) if c is not None]
    shown = [f"{c} = {_shown(values[c])}" for c in (about or list(values))[:3]]
    return ", ".join(shown)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False) if value is not None else "null"
    return text if len(text) <= 60 else text[:57] + "…"


def _reasons(rejected: Mapping[str, int], examples: Mapping[str, str]) -> str:
    ordered: Sequence[tuple[str, int]] = sorted(rejected.items(), key=lambda r: (-r[1], r[0]))
    shown = [f"{reason} {n:,}" for reason, n in ordered[:4]]
    shown[0] += _such_as(ordered[0][0], examples)
    return ", ".join(shown) + (", …" if len(ordered) > len(shown) else "")


def _such_as(reason: str, examples: Mapping[str, str]) -> str:
    return f" (such as {examples[reason]})" if reason in examples else ""


def _column_of(reason: str, columns: Iterable[str]) -> str | None:
    """The column that a reason of topkin's own begins with."""
    return max((c for c in columns if reason.startswith(f"{c} ")), key=len, default=None)


def cure_of_times(source: InputSource, reason: str, examples: Mapping[str, str]) -> str:
    """What reads rows that were rejected for a text that should be a time, in words; "" for other reasons."""
    column = source.column("timestamp")
    if column is None or not reason.startswith(f"{column} "):
        return ""
    written = re.search(r' = "(.*)" in row ', examples.get(reason, ""))
    what, expressions = reason.removeprefix(f"{column} "), dict(source.rules.normalise)
    if what == OTHER_FORM:
        form = or_as_it_is(expressions[column].text) if written else ""
        text = setting(source.name, column, form) if written else normalise_key(source.name, column)
        return f"read both forms with {text}" if written else f"correct {text}"
    if what not in (UNREADABLE, TWO_ORDERS):
        return ""
    fault = form_of_text(written[1] if written else "")
    cures = []
    for when, form in fault.cures:
        text = setting(source.name, column, form)
        cures.append(f"{text}, {when}" if when.startswith("with ") else f"{text} where {when}" if when else text)
    return f"read such texts too with {'; or '.join(cures)}"


def _cure(source: InputSource, reason: str, examples: Mapping[str, str]) -> str:
    if times := cure_of_times(source, reason, examples):
        return times
    if (rule := dict(source.rules.rules).get(reason)) is not None:
        return f"look at {rule.key}"
    if reason in LISTED_TWICE.values():
        return "list each once"
    column = _column_of(reason, source.columns.values())
    if column is None:
        return "mend the data"
    key = normalise_key(source.name, column)
    for words, cure, form in _CURES:
        if words in reason.removeprefix(column):
            return cure.format(key=key, setting=setting(source.name, column, form))
    return f"mend the data, or read them with {key}"


def _number(share: float) -> str:
    return f"{share:.3g}"


def _limit_key(reason: str) -> str:
    return f"{BY_REASON}.{as_toml(reason)}"


def _room(share: float) -> str:
    """A limit that a share stays under on other days: half as much again, or half of what is left."""
    return f"{math.ceil(100 * min(1.5 * share, (1 + share) / 2)) / 100:g}"


def limits_to_propose(source: InputSource, shares: Mapping[str, float], above: float = 0.3) -> dict[str, str]:
    """``max_reject_share_by_reason`` for what is meant or in the nature of the shop and takes many rows, by shares.

    None for what takes all of them, which no shop means.
    """
    meant = {*source.rules.rejection_reasons, _no_user(source)}
    return {reason: _room(share) for reason, share in shares.items() if reason in meant and above < share < 1}
