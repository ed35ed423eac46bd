"""``topkin init``: look at the user's Parquet, say what each column seems to be, write a configuration."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from topkin.config.reference import Key, as_toml, bare_or_quoted, keys, sections
from topkin.errors import ConfigError, InputError
from topkin.ingest.files import ArrowFiles, Footer, batches, find, read_footers
from topkin.ingest.readers import escape_invalid_utf8
from topkin.ingest.schema_inference import (
    ITEM_KEYS,
    PURCHASE_KEYS,
    USER_KEYS,
    InferredColumn,
    SuggestedRule,
    infer_columns,
    profile_columns,
    suggest_normalising,
    suggest_rules,
)

LOOKED_AT = 200_000  # rows of a table
SHOWN = ("run", "train", "recommend", "evaluate", "publish")  # sections written as comments


@dataclass(frozen=True)
class InputTable:
    """What is known of one of the user's tables."""

    section: str
    path: str
    files: int
    rows: int
    sample: pa.Table
    columns: Sequence[InferredColumn]
    normalise: Sequence[SuggestedRule]
    rules: Sequence[SuggestedRule]


def main(
    purchases: str,
    *,
    items: str | None,
    users: str | None,
    output: Path,
    columns: Sequence[str] = (),
    force: bool = False,
    as_json: bool = False,
) -> None:
    """Write a configuration for the tables and say what was guessed.

    columns: ``user_id=NAME`` or ``items.title=NAME``, which a guess may not change.
    Raises ConfigError where ``output`` exists and ``force`` is not set, InputError where a table cannot be
    read or a required column cannot be told.
    """
    if output.exists() and not force:
        raise ConfigError(f"{output} exists already: --force replaces it, --output FILE writes another")
    tables = look(purchases, items, users, columns)
    text = configuration(tables, output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as e:
        raise ConfigError(f"{output} cannot be written: {e.strerror or e}") from e
    if as_json:
        print(json.dumps({"config": str(output), "tables": [_as_value(t) for t in tables]}))
    else:
        _tell(tables, output)


def look(purchases: str, items: str | None, users: str | None, columns: Sequence[str] = ()) -> list[InputTable]:
    """Read a sample of each table and guess."""
    chosen = _chosen(columns)
    bought, n_bought, sizes = _sample("purchases", purchases)
    catalogue = _sample("items", items) if items else None
    customers = _sample("users", users) if users else None
    found = []
    item_columns = None
    if catalogue:
        partner = _values(bought, chosen["purchases"].get("item_id"))
        item_columns = infer_columns(profile_columns(catalogue[0]), ITEM_KEYS, chosen=chosen["items"], partner=partner)
    partner = _values(catalogue[0], _column(item_columns, "item_id")) if catalogue and item_columns else None
    purchase_columns = infer_columns(
        profile_columns(bought), PURCHASE_KEYS, chosen=chosen["purchases"], partner=partner
    )
    normalise, rules = suggest_normalising(bought, purchase_columns), suggest_rules(bought, purchase_columns)
    found.append(InputTable("purchases", purchases, n_bought, sizes, bought, purchase_columns, normalise, rules))
    if items and catalogue and item_columns:
        sample, n, rows = catalogue
        rules = suggest_normalising(sample, item_columns)
        rules = _as_in_purchases("item_id", found[0], item_columns, rules)
        found.append(InputTable("items", items, n, rows, sample, item_columns, rules, ()))
    if users and customers:
        sample, n, rows = customers
        partner = _values(bought, _column(purchase_columns, "user_id"))
        user_columns = infer_columns(profile_columns(sample), USER_KEYS, chosen=chosen["users"], partner=partner)
        rules = _as_in_purchases("user_id", found[0], user_columns, suggest_normalising(sample, user_columns))
        found.append(InputTable("users", users, n, rows, sample, user_columns, rules, ()))
    return found


def _as_in_purchases(
    key: str, purchases: InputTable, inferred: Sequence[InferredColumn], rules: Sequence[SuggestedRule]
) -> list[SuggestedRule]:
    """The expressions of a table, its id made equal in the way in which the purchases' is."""
    theirs, mine = _column(purchases.columns, key), _column(inferred, key)
    kept = [c for c in rules if c.key != mine]
    for rule in purchases.normalise:
        if rule.key == theirs and mine is not None:
            kept.insert(0, SuggestedRule.of(mine, rule.form, f"as {key} of the purchases"))
    return kept


def _column(inferred: Sequence[InferredColumn] | None, key: str) -> str | None:
    return next((g.column for g in inferred or () if g.key == key), None)


def _values(sample: pa.Table, column: str | None) -> pa.ChunkedArray | None:
    return None if column is None or column not in sample.column_names else sample[column].drop_null()


def _chosen(columns: Sequence[str]) -> dict[str, dict[str, str]]:
    wanted = {"purchases": PURCHASE_KEYS, "items": ITEM_KEYS, "users": USER_KEYS}
    chosen: dict[str, dict[str, str]] = {section: {} for section in wanted}
    for text in columns:
        name, equals, column = text.partition("=")
        section, _, key = name.rpartition(".")
        section = section or "purchases"
        if not equals or not column or key not in wanted.get(section, ()):
            raise ConfigError(
                f"--column must be KEY=COLUMN with a key of {', '.join(PURCHASE_KEYS)}, or items.KEY=COLUMN with one "
                f"of {', '.join(ITEM_KEYS)}, or users.KEY=COLUMN with one of {', '.join(USER_KEYS)}, got {text!r}"
            )
        chosen[section][key] = column
    return chosen


def _sample(section: str, path: str) -> tuple[pa.Table, int, int]:
    """Rows from the beginning, the middle and the end of a table; its files and rows."""
    files = ArrowFiles()
    listing = find(f"{section}.path", path, files)
    footers = read_footers(section, listing, files, lambda parquet, _: parquet.num_row_groups)
    for footer in footers:
        if isinstance(footer, InputError):
            raise footer
    read = [f for f in footers if isinstance(f, Footer) and f.file.rows]
    if not read:
        raise InputError(f"{section}: {path} holds no rows, so there is nothing to look at")
    for footer in read:
        columns = footer.schema.names
        if twice := sorted({c for c in columns if columns.count(c) > 1}):
            raise InputError(
                f"{footer.file.path} has several columns called {', '.join(map(repr, twice))}: rename all but one"
            )
    picked = sorted({0, len(read) // 2, len(read) - 1})
    tables = [_rows(section, read[n], LOOKED_AT // len(picked)) for n in picked]
    sample = pa.concat_tables([t for t in tables if t.schema.equals(tables[0].schema)])
    return escape_invalid_utf8(sample).rows, len(footers), sum(f.file.rows for f in read)


def _rows(section: str, footer: Footer[int], most: int) -> pa.Table:
    """Rows of the first, the middle and the last row group of a file."""
    columns, groups = footer.schema.names, footer.look
    picked = sorted({0, groups // 2, groups - 1})
    tables = []
    for group in picked:
        left = most // len(picked)
        for table in batches(section, footer.file, ArrowFiles(), columns, groups=[group], rows=min(left, 65_536)):
            tables.append(table.select(columns).slice(0, left))
            left -= len(tables[-1])
            if left <= 0:
                break
    return pa.concat_tables(tables)


def configuration(tables: Sequence[InputTable], output: Path) -> str:
    """The text of the configuration: every guessed key with a comment, the other keys with their defaults."""
    known = keys()
    lines = [
        "# Written by topkin init from a look at the data: read what it guessed, then run topkin check.",
        "# Paths are relative to this file. Every key is described in docs/configuration.md.",
    ]
    for table in tables:
        looked = f"{min(len(table.sample), table.rows):,} of " if len(table.sample) < table.rows else ""
        lines += ["", f"[{table.section}]", f"# {table.files:,} file(s), {table.rows:,} rows; looked at {looked}them."]
        lines.append(f"path = {as_toml(_path(table.path, output))}")
        for g in table.columns:
            lines += ["", f"# {known[f'{table.section}.{g.key}'].description}", f"# Guessed: {g.why}."]
            lines.append(f"{g.key} = {as_toml(g.column)}")
        guessed = {g.key for g in table.columns}
        for key in known.values():
            if key.section == table.section and key.name not in guessed and not key.required and not key.table:
                lines += ["", *_commented(key)]
        for name, rules in (("normalise", table.normalise), ("rules", table.rules)):
            if rules:
                lines += ["", f"[{table.section}.{name}]"]
                for rule in rules:
                    lines += [f"# {rule.why}.", f"{bare_or_quoted(rule.key)} = {as_toml(rule.expression)}"]
    for section in sections():
        if section.name in SHOWN:
            lines += ["", f"# {section.description}", f"[{section.name}]"]
            for key in section.keys:
                if not key.table:
                    lines += _commented(key)
    return "\n".join(lines) + "\n"


def _commented(key: Key) -> list[str]:
    default = f"…  ({key.takes}; none by default)" if key.default is None else as_toml(key.default)
    return [f"# {key.description}", f"# {key.name} = {default}"]


def _path(path: str, output: Path) -> str:
    """A path as the configuration has it: relative to its folder where it lies below it."""
    if "://" in path:
        return path
    absolute, folder = os.path.abspath(path), os.path.abspath(output.parent)
    relative = os.path.relpath(absolute, folder)
    return absolute if relative.startswith("..") else relative


def _as_value(table: InputTable) -> dict[str, object]:
    return {
        "section": table.section,
        "path": table.path,
        "files": table.files,
        "rows": table.rows,
        "columns": {g.key: {"column": g.column, "why": g.why} for g in table.columns},
        "normalise": {c.key: {"expression": c.expression, "why": c.why} for c in table.normalise},
        "rules": {c.key: {"expression": c.expression, "why": c.why} for c in table.rules},
    }


def _tell(tables: Sequence[InputTable], output: Path) -> None:
    from rich.console import Console
    from rich.table import Table as Drawn
    from rich.text import Text

    console = Console()
    for table in tables:
        drawn = Drawn("key", "guess", "why", title=f"{table.section}: {table.rows:,} rows", title_justify="left")
        for g in table.columns:
            drawn.add_row(g.key, Text(g.column), Text(g.why))
        for kind, rules in (("normalise", table.normalise), ("rule", table.rules)):
            for rule in rules:
                drawn.add_row(Text(f"{kind} {rule.key}"), Text(rule.expression), Text(rule.why))
        console.print(drawn)
    console.print(f"wrote {output}: read the guesses, then: topkin check --config {output}", highlight=False)
