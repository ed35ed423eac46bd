"""The configuration that ``topkin init`` writes: what matters first, and short; the rest where it is asked for."""

import os
import textwrap
from datetime import datetime
from pathlib import Path

from topkin.config.purchases import ROW_ORDER
from topkin.config.reference import Key, as_toml, bare_or_quoted, keys, sections
from topkin.ingest.inference.look import PurchasesLook, ShopLook
from topkin.ingest.inference.tables import TableLook
from topkin.ingest.judging.limits import limits_to_propose

SHOWN = ("run", "train", "recommend", "evaluate", "publish")
"""Sections whose defaults are written as comments, where all is asked for."""
_WIDTH = 100


def configuration(shop: ShopLook, output: Path, clock: datetime, *, everything: bool = False) -> str:
    """The text of the configuration.

    Args:
        shop: what was seen.
        output: the file that it is for, to whose folder paths are relative.
        clock: now, naive UTC.
        everything: with the columns passed over and every key's default, as comments.
    """
    lines = [
        "# Written by topkin init from a look at the data. Read the guesses, then: topkin check",
        "# Paths are relative to this file.",
    ]
    lines += [] if everything else ["# Every key: docs/configuration.md, or topkin init --all."]
    for table in shop.tables:
        lines += ["", *_table(table, shop.purchases if table.section == "purchases" else None, output, clock)]
        if everything:
            lines += _rest_of_table(table)
        for name, rules in (("normalise", table.normalise), ("rules", table.rules)):
            if rules:
                lines += ["", f"[{table.section}.{name}]"]
                for rule in rules:
                    lines += [*_comment(rule.why), f"{bare_or_quoted(rule.key)} = {as_toml(rule.expression)}"]
    own = limits_to_propose(shop.tables[0].source(), shop.purchases.rejected) if shop.purchases else {}
    if own:
        why = "These take many of the rows, as they are meant to; more than this share would be a fault."
        lines += ["", "[prepare.max_reject_share_by_reason]", *_comment(why)]
        lines += [f"{bare_or_quoted(reason)} = {limit}" for reason, limit in own.items()]
    bought = shop.purchases.bought if shop.purchases else None
    if bought:
        lines += ["", "[recommend]", *_comment(bought.why), f"bought = {as_toml(bought.value)}"]
    if everything:
        lines += _defaults(bought=bool(bought))
    return "\n".join(lines) + "\n"


def _table(table: TableLook, purchases: PurchasesLook | None, output: Path, clock: datetime) -> list[str]:
    n, sample = len(table.sample.footers), table.sample
    looked = f", {len(sample.rows):,} of them looked at" if len(sample.rows) < sample.total else ""
    days = days_in_words(purchases, clock) if purchases else []
    held = f"{n:,} file{'s' * (n != 1)}, {sample.total:,} rows{looked}"
    lines = [f"[{table.section}]", *_comment("; ".join([held, *days]))]
    for difference in sample.differences:
        lines += _comment(f"The files differ: {difference}")
    lines.append(f"path = {as_toml(relative_path(sample.path, output))}")
    for c in table.columns:
        lines += [*_comment(f"{c.sure}: {c.why}"), f"{c.key} = {as_toml(c.column)}"]
    return lines


def days_in_words(purchases: PurchasesLook, clock: datetime) -> list[str]:
    """From when to when there are purchases, and the days without any."""
    seen = purchases.calendar
    if purchases.order is not None:
        by = "in the order of files and rows" if purchases.order == ROW_ORDER else f"in the order of {purchases.order}"
        return [f"no times, {by}: what goes by time is off"]
    if seen is None:
        return ["no row of the sample would be accepted"]
    whole = purchases.first is not None and purchases.last is not None
    first, last = (purchases.first or seen.first, purchases.last or seen.last) if whole else (seen.first, seen.last)
    if any("stand-in" in reason for reason in purchases.rejected):
        first = max(first, seen.first)
    age = (clock - last).days
    ago = f"{age:,} day{'s' * (age != 1)} ago" if age >= 0 else "in the future"
    of = "" if whole or purchases.users.whole else " in a sample"
    lines = [f"from {first:%Y-%m-%d} to {last:%Y-%m-%d}{of}, the last {ago}"]
    if seen.gap:
        start, end = seen.gap
        lines.append(
            f"{seen.empty:,} of {seen.days:,} days without a purchase, most in a row from {start} to {end}: "
            "is a file missing?"
        )
    return lines


def _rest_of_table(table: TableLook) -> list[str]:
    """What was passed over, and the keys that have no column, as comments."""
    lines = [""] if table.passed else []
    for column, why in table.passed:
        lines += _comment(f"passed over: {column}, {why}")
    named = {c.key for c in table.columns}
    for key in keys().values():
        if key.section == table.section and key.name not in named and not key.required and not key.table:
            lines += ["", *_commented(key)]
    return lines


def _defaults(*, bought: bool) -> list[str]:
    lines = []
    for section in sections():
        if section.name in SHOWN:
            again = bought and section.name == "recommend"
            lines += ["", f"# {section.description}", *([] if again else [f"[{section.name}]"])]
            for key in section.keys:
                if not key.table and not (again and key.name == "bought"):
                    lines += _commented(key)
    return lines


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False)


def _commented(key: Key) -> list[str]:
    default = f"…  ({key.takes}; none by default)" if key.default is None else as_toml(key.default)
    return [f"# {key.description}", f"# {key.name} = {default}"]


def relative_path(path: str, output: Path) -> str:
    """A path as the configuration has it: relative to its folder where it lies below it."""
    if "://" in path:
        return path
    absolute, folder = os.path.abspath(path), os.path.abspath(output.parent)
    relative = os.path.relpath(absolute, folder)
    return absolute if relative.startswith("..") else relative
