"""``topkin init``: look at the user's Parquet, say what each column seems to be, write a configuration."""

import json
import shlex
import tomllib
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from topkin.config.load import load_settings
from topkin.config.reference import sections
from topkin.errors import ConfigError
from topkin.ingest.inference.look import ShopLook, look
from topkin.ingest.inference.tables import TableLook
from topkin.ingest.inference.written import configuration, days_in_words
from topkin.pipelines.cli.commands import CONFIG

SHOWN_NAMES = 6
"""Columns passed over that are named on the screen."""


def main(
    purchases: str | None,
    *,
    items: str | None,
    users: str | None,
    output: Path,
    columns: Sequence[str] = (),
    force: bool = False,
    everything: bool = False,
    as_json: bool = False,
) -> None:
    """Write a configuration for the tables and say what was guessed; without purchases, of items and users by vectors.

    columns: ``user_id=NAME`` or ``items.title=NAME``, which a guess may not change. everything: with each column
    passed over, and each key's default in the file.
    Raises ConfigError where ``output`` exists and ``force`` is not set, InputError where a table cannot be
    read or a required column cannot be told; nothing is written then, nor where
    what would be written cannot be loaded.
    """
    if output.exists() and not (force and output.is_file()):
        cure = "--force replaces it, --output FILE writes another" if output.is_file() else "--output FILE names a file"
        raise ConfigError(f"{output} exists already{'' if output.is_file() else ' and is no file'}: {cure}")
    if output.is_file() and not _is_configuration(output):
        raise ConfigError(
            f"{output} is no configuration of topkin, which --force would replace: --output names another"
        )
    clock = datetime.now(UTC).replace(tzinfo=None)
    shop = look(purchases, items, users, columns, clock)
    text = configuration(shop, output, clock, everything=everything)
    _write(text, output)
    if as_json:
        print(json.dumps(_as_value(shop, output), default=str))
    else:
        _tell(shop, output, clock, everything=everything)


def _is_configuration(path: Path) -> bool:
    """Whether a file is one that ``init`` may replace: ours by its name or its sections, whatever they hold."""
    if path.name == CONFIG:
        return True
    try:
        held = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return not held or any(section.name in held for section in sections())


def _write(text: str, output: Path) -> None:
    """The configuration in place of what is there, which stays as it is where the new one cannot be written or loaded.

    Raises ConfigError.
    """
    beside = output.with_name(f".{output.name}.{uuid.uuid4().hex}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        load_settings(beside, env={})
        beside.replace(output)
    except OSError as e:
        raise ConfigError(f"{output} cannot be written: {e.strerror or e}") from e
    except ConfigError as e:
        fault = str(e).replace(str(beside), str(output))
        raise ConfigError(f"{output} is not written, for it would not be a configuration: {fault}") from e
    finally:
        with suppress(OSError):
            beside.unlink()


def _as_value(shop: ShopLook, output: Path) -> dict[str, object]:
    value: dict[str, object] = {"config": str(output), "tables": [_table_value(t) for t in shop.tables]}
    if (seen := shop.purchases) is not None:
        days = seen.calendar
        value["bought"] = None if seen.bought is None else {"value": seen.bought.value, "why": seen.bought.why}
        value["rejected"] = dict(seen.rejected)
        value["sample"] = {"share_of_users": seen.users.share, "rows_read": seen.users.read}
        if days is not None:
            value["days"] = {
                "first": seen.first or days.first,
                "last": seen.last or days.last,
                "without_purchase": days.empty,
                "longest_gap": days.gap,
            }
    value["joins"] = list(shop.joins)
    value["findings"] = [str(f) for f in shop.findings]
    return value


def _table_value(table: TableLook) -> dict[str, object]:
    return {
        "section": table.section,
        "path": table.sample.path,
        "files": len(table.sample.footers),
        "rows": table.sample.total,
        "columns": {c.key: {"column": c.column, "sure": c.sure, "why": c.why} for c in table.columns},
        "normalise": {r.key: {"expression": r.expression, "why": r.why} for r in table.normalise},
        "rules": {r.key: {"expression": r.expression, "why": r.why} for r in table.rules},
        "passed_over": dict(table.passed),
        "files_passed_over": table.sample.passed_over,
        "differences": list(table.sample.differences),
    }


def _tell(shop: ShopLook, output: Path, clock: datetime, *, everything: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    grid = Table.grid(padding=(0, 2))
    for _ in range(2):
        grid.add_column(overflow="fold")
    grid.columns[0].no_wrap = True
    for name, text in _lines(shop, clock, everything=everything):
        grid.add_row(Text(name, style="bold"), Text(text))
    console.print(grid)
    rest = "" if everything else "; --all tells and writes the rest"
    named = [] if output == Path(CONFIG) else ["--config", str(output)]
    for line in (f"wrote {output}{rest}", f"Next: {shlex.join(['topkin', 'check', *named])}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _lines(shop: ShopLook, clock: datetime, *, everything: bool) -> Iterator[tuple[str, str]]:
    """A name and a text for each line of the screen, what matters first."""
    seen = shop.purchases
    for table in shop.tables:
        n, sample = len(table.sample.footers), table.sample
        days = days_in_words(seen, clock) if seen and table.section == "purchases" else []
        yield table.section, "; ".join([f"{sample.total:,} rows in {n:,} file{'s' * (n != 1)}", *days])
        yield from ((" differ", text) for text in sample.differences)
        if sample.passed_over:
            yield " files", sample.passed_over
        if everything:
            for c in table.columns:
                yield f" {c.key}", f"{c.column} ({c.sure}: {c.why})"
        else:
            yield " columns", ", ".join(f"{c.key} {c.column}{_doubt(c.sure)}" for c in table.columns)
        if table.normalise:
            yield " made", ", ".join(r.expression for r in table.normalise)
        for rule in table.rules if everything else ():
            yield " rule", f"{rule.expression} ({rule.why})"
        if table.section == "purchases" and seen:
            if seen.rejected:
                shares = ", ".join(f"{reason} {share:.1%}" for reason, share in list(seen.rejected.items())[:4])
                yield " rejected", f"{sum(seen.rejected.values()):.1%} of the rows: {shares}"
            if seen.bought:
                yield " bought", f'"{seen.bought.value}": {seen.bought.why}'
        yield from _passed_lines(table, everything=everything)
    yield from (("ids", line) for line in shop.joins)
    for finding in shop.findings:
        yield "to mend", str(finding)


def _doubt(sure: str) -> str:
    return "" if sure in ("sure", "said") else f" ({sure})"


def _passed_lines(table: TableLook, *, everything: bool) -> Iterator[tuple[str, str]]:
    if everything:
        yield from ((" passed over", f"{column}: {why}") for column, why in table.passed)
    elif table.passed:
        names = [column for column, _ in table.passed]
        more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
        yield " passed over", ", ".join(names[:SHOWN_NAMES]) + more
