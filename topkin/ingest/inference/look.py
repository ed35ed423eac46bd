"""A look at a shop: samples of its tables, which column is which, the rules they need, what the purchases say."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from topkin.config.purchases import ROW_ORDER
from topkin.config.sections import PrepareSettings
from topkin.errors import ConfigError, InputError, TopkinError
from topkin.ingest.cleaning import clean_purchases
from topkin.ingest.contract import Inspection, inspect
from topkin.ingest.files import ArrowFiles, Files
from topkin.ingest.inference.columns import (
    ITEM_KEYS,
    PURCHASE_KEYS,
    USER_KEYS,
    ColumnProfile,
    InferredColumn,
    SuggestedRule,
    chained,
    infer_columns,
    is_time_name,
    name_words,
    profile_columns,
    suggest_normalising,
    suggest_rules,
)
from topkin.ingest.inference.joined import join_tables
from topkin.ingest.inference.nested import flatten_structs, list_of_items, nested_advice, unnest_list
from topkin.ingest.inference.passed import PassedOver, passed_over
from topkin.ingest.inference.sampling import SampledUsers, TableSample, sample_table, sample_users, time_spans
from topkin.ingest.inference.shop import Calendar, Proposal, calendar, propose_bought, repurchases
from topkin.ingest.inference.states import suggest_states
from topkin.ingest.inference.tables import TableLook
from topkin.ingest.inference.undated import chosen_order, has_time, infer_order, time_of_parts
from topkin.ingest.inference.values import infer_price, suggest_fields, suggest_values
from topkin.ingest.judging.limits import examples_of, faults_of_rejects, limits_to_propose
from topkin.ingest.positions import with_times
from topkin.ingest.rules import Rules
from topkin.ingest.values.baskets import list_path, unnest
from topkin.ingest.values.findings import value_findings
from topkin.ingest.values.type_cures import is_list

KEYS = {"purchases": (*PURCHASE_KEYS, "order"), "items": (*ITEM_KEYS, "vector"), "users": (*USER_KEYS, "vector")}
"""The keys that name a column, by section."""


@dataclass(frozen=True)
class PurchasesLook:
    """What the purchases of a sample of users say, read as ``prepare`` reads them.

    rejected: share of the sample's rows by reason. first, last: as the files' statistics say, None where they do not.
    order: the column, or ``row``, by which they go where they have no times. faults: what ``check`` will refuse, where
    more is rejected than it allows.
    """

    users: SampledUsers
    bought: Proposal | None = None
    calendar: Calendar | None = None
    rejected: Mapping[str, float] = field(default_factory=dict)
    first: datetime | None = None
    last: datetime | None = None
    order: str | None = None
    faults: Sequence[str] = ()


@dataclass(frozen=True)
class ShopLook:
    """All tables, purchases first, what the purchases say, how tables meet, and what ``check`` will refuse.

    Without purchases the items and the users.
    """

    tables: Sequence[TableLook]
    purchases: PurchasesLook | None
    joins: Sequence[str] = ()
    findings: Sequence[TopkinError] = ()


def look(
    purchases: str | None,
    items: str | None,
    users: str | None,
    columns: Sequence[str],
    clock: datetime,
    files: Files | None = None,
) -> ShopLook:
    """Look at the tables.

    Args:
        purchases, items, users: their paths; without purchases items and users are known by a column of vectors.
        columns: ``user_id=NAME`` or ``items.title=NAME``, which a guess may not change.
        clock: now, naive UTC.
        files: where they lie.

    Raises:
        ConfigError: where a named column is not there.
        InputError: where a table cannot be read or a required column cannot be told.
    """
    files = files or ArrowFiles()
    chosen = chosen_columns(columns)
    if purchases is None:
        return _of_vectors({"items": items, "users": users}, chosen, files)
    bought = _Sampled(sample_table("purchases", purchases, files))
    bought.unnest(chosen["purchases"])
    catalogue = _Sampled(sample_table("items", items, files)) if items else None
    customers = _Sampled(sample_table("users", users, files)) if users else None
    item_columns = None
    if catalogue:
        partner = _values(
            bought.rows, chosen["purchases"].get("item_id") or _likely_item(bought.profiles, chosen["purchases"])
        )
        item_columns = _columns(catalogue, chosen["items"], partner)
    partner = _values(catalogue.rows, _column(item_columns, "item_id")) if catalogue and item_columns else None
    first = _purchases(bought, chosen["purchases"], partner)
    tables = [first]
    if catalogue and item_columns:
        tables.append(_other(catalogue, item_columns, first, "item_id"))
    if customers:
        partner = _values(bought.rows, first.column("user_id"))
        user_columns = _columns(customers, chosen["users"], partner)
        tables.append(_other(customers, user_columns, first, "user_id"))
    joined = join_tables(tables, files)
    repurchase, findings = None, list(joined.findings)
    if not findings:
        try:
            inspection = inspect(joined.tables[0].source(), files, joined.tables[0].sample.read)
            findings = list(value_findings(inspection, _read(joined.tables[0].sample.rows, inspection), clock))
            repurchase = None if findings else _read_purchases(joined.tables[0], inspection, clock, files)
            findings += [InputError(fault) for fault in repurchase.faults] if repurchase else []
        except TopkinError as e:
            findings = [e]
    return ShopLook(joined.tables, repurchase, joined.lines, findings)


def _of_vectors(paths: Mapping[str, str | None], chosen: Mapping[str, Mapping[str, str]], files: Files) -> ShopLook:
    """Items and users of which nothing is known but vectors."""
    tables = []
    for section, path in paths.items():
        if path is None:
            raise ConfigError(
                f"without purchases lists are of the nearest vectors of items and users: name the {section} with "
                f"--{section} PATH, or the purchases"
            )
        sampled = _Sampled(sample_table(section, path, files))
        columns = _columns(sampled, chosen[section], vectors=True)
        rules = [*suggest_fields(sampled.expressions, columns), *suggest_normalising(sampled.rows, columns)]
        normalise = chained([*rules, *suggest_values(sampled.profiles, columns)])
        tables.append(TableLook(sampled.sample, columns, normalise, (), sampled.passed(columns, normalise)))
    joined = join_tables(tables, files)
    return ShopLook(joined.tables, None, joined.lines, joined.findings)


def _columns(
    sampled: "_Sampled",
    chosen: Mapping[str, str],
    partner: pa.ChunkedArray | None = None,
    *,
    vectors: bool = False,
) -> list[InferredColumn]:
    """The columns of items or users; that of vectors where the user names it, or it is all that is known."""
    section = sampled.sample.section
    wanted, named = (
        [key for key in KEYS[section] if key != "vector"],
        {key: name for key, name in chosen.items() if key != "vector"},
    )
    columns = infer_columns(sampled.profiles, wanted, chosen=named, partner=partner, section=section)
    return [*columns, _vector(sampled, chosen.get("vector"))] if vectors or "vector" in chosen else columns


_VECTOR_WORDS = {"vector", "vec", "embedding", "embeddings", "emb"}


def _vector(sampled: "_Sampled", chosen: str | None) -> InferredColumn:
    """The column of vectors: that said, the only list of floats, or the only such list of that name."""
    section, every = sampled.sample.section, sampled.rows.column_names
    lists = [f.name for f in sampled.rows.schema if is_list(f.type) and pa.types.is_floating(f.type.value_type)]
    named = [name for name in lists if _VECTOR_WORDS & {*name_words(name)}]
    some = named if len(named) == 1 else lists
    if chosen in every:
        return InferredColumn("vector", str(chosen), "you said so", "said")
    if chosen is not None or len(some) != 1:
        came = f"there is no {chosen!r}" if chosen else f"got {' and '.join(lists) or 'none'}"
        raise InputError(
            f"without purchases {section} are known by a column of vectors, lists of floats, {came}: say which with "
            f"--column {section}.vector=NAME, or name the purchases; the columns are {', '.join(every)}"
        )
    why = f"the only list of {'floats' if some == lists else 'floats with such a name'}"
    return InferredColumn("vector", some[0], why)


def chosen_columns(columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """The columns that the user named, by section and key. Raises ConfigError for another form."""
    chosen: dict[str, dict[str, str]] = {section: {} for section in KEYS}
    for text in columns:
        name, equals, column = text.partition("=")
        section, _, key = name.rpartition(".")
        section = section or "purchases"
        if not equals or not column or key not in KEYS.get(section, ()):
            raise ConfigError(
                f"--column must be KEY=COLUMN with a key of {', '.join(PURCHASE_KEYS)}, or items.KEY=COLUMN with one "
                f"of {', '.join(ITEM_KEYS)}, or users.KEY=COLUMN with one of {', '.join(USER_KEYS)}, got {text!r}"
            )
        chosen[section][key] = column
    return chosen


class _Sampled:
    """A sample with the fields of structs as columns, and the profiles of all."""

    def __init__(self, sample: TableSample) -> None:
        self.sample = sample
        self.rows, self.expressions = flatten_structs(sample.rows)
        self.profiles: list[ColumnProfile] = profile_columns(self.rows)
        self.items_list: str | None = None

    def unnest(self, chosen: Mapping[str, str]) -> None:
        """Make rows of the elements of a list, where the user says that its elements are the items, or nothing else is.

        Raises ConfigError where the list that the user names is none.
        """
        path = list_path(chosen.get("item_id", ""))
        if path is not None and not (path.column in self.rows.column_names and is_list(self.rows[path.column].type)):
            raise ConfigError(
                f"--column item_id={chosen['item_id']}: there is no list {path.column!r}, the columns are "
                f"{', '.join(f'{f.name} ({f.type})' for f in self.sample.rows.schema)}"
            )
        if path is None and ("item_id" in chosen or _likely_item(self.profiles, chosen)):
            return
        self.items_list = path.column if path else list_of_items(self.rows)
        if self.items_list is not None:
            self.rows = unnest_list(self.rows, self.items_list)
            self.profiles = profile_columns(self.rows)

    def has_time(self) -> bool:
        """Whether some column is a time, or some together make one, which is then a column."""
        timed = has_time(self.profiles) or any(map(is_time_name, self.nested()))
        if not timed and (time := time_of_parts(self.rows)):
            self.rows, self.expressions = (
                self.rows.append_column("timestamp", time.values),
                {
                    **self.expressions,
                    "timestamp": time.expression,
                },
            )
            self.profiles = profile_columns(self.rows)
            return True
        return timed

    def nested(self) -> dict[str, pa.DataType]:
        """The columns that no profile is of."""
        known = {profile.name for profile in self.profiles}
        return {field.name: field.type for field in self.rows.schema if field.name not in known}

    def states(self, column: str) -> list[SuggestedRule]:
        """The rules of a column that says what became of a row."""
        return suggest_states([p for p in self.profiles if p.name == column], self.rows, ())

    def passed(self, columns: Sequence[InferredColumn], rules: Sequence[SuggestedRule]) -> list[PassedOver]:
        """The columns of the files that neither a key nor a rule reads."""
        source = Rules.of("", {}, {str(n): rule.expression for n, rule in enumerate(rules)})
        used = {c.column for c in columns} | set(source.columns(self.sample.rows.column_names))
        used |= {self.items_list} if self.items_list else set()
        return passed_over(self.sample.rows.schema, self.profiles, columns, used)


def _purchases(sampled: _Sampled, chosen: Mapping[str, str], partner: pa.ChunkedArray | None) -> TableLook:
    by_order = "timestamp" not in chosen and ("order" in chosen or not sampled.has_time())
    wanted = [key for key in PURCHASE_KEYS if not (by_order and key == "timestamp")]
    named = {key: name for key, name in chosen.items() if key != "order"}
    nested = sampled.nested()
    try:
        columns = infer_columns(sampled.profiles, wanted, chosen=named, partner=partner, nested=nested)
    except InputError as e:
        nested_columns = "; ".join(f"{name}, {nested_advice(name, kind)}" for name, kind in nested.items())
        raise InputError(f"{e}; nested ones are {nested_columns}" if nested_columns else str(e)) from e
    columns = [c for c in columns if c.key != "segment" or c.sure == "said" or not sampled.states(c.column)]
    numbers: list[SuggestedRule] = []
    if by_order:
        order = chosen_order(chosen["order"], sampled.rows) if "order" in chosen else infer_order(sampled.rows, columns)
        columns, numbers = [*columns, order.column], [order.rule] if order.rule else []
    normalising = suggest_normalising(sampled.rows, _of_rows(columns))
    columns, prices = infer_price(sampled.profiles, _normalised(sampled.rows, normalising), columns)
    normalise = chained([*suggest_fields(sampled.expressions, columns), *normalising, *prices, *numbers])
    states = suggest_states(sampled.profiles, sampled.rows, {c.column for c in columns} | set(sampled.expressions))
    rows = _normalised(sampled.rows, [*normalising, *prices])
    rules = [*states, *suggest_rules(_kept(rows, states), _of_rows(columns))]
    return TableLook(sampled.sample, columns, normalise, rules, sampled.passed(columns, [*normalise, *rules]))


def _normalised(rows: pa.Table, rules: Sequence[SuggestedRule]) -> pa.Table:
    """Rows with what expressions make of them."""
    return Rules.of("purchases", {r.key: r.expression for r in chained(rules)}, {}).normalised(rows)


def _kept(rows: pa.Table, rules: Sequence[SuggestedRule]) -> pa.Table:
    """The rows that rules keep."""
    broken = Rules.of("purchases", {}, {r.key: r.expression for r in rules}).broken(rows)
    return rows.filter(pa.array(broken < 0)) if (broken >= 0).any() else rows


def _of_rows(columns: Sequence[InferredColumn]) -> list[InferredColumn]:
    """The columns without an order of rows, which is none."""
    return [c for c in columns if (c.key, c.column) != ("order", ROW_ORDER)]


def _other(sampled: _Sampled, columns: Sequence[InferredColumn], purchases: TableLook, key: str) -> TableLook:
    """The items or the users: their id made equal in the way in which the purchases' is."""
    mine, theirs = _column(columns, key), purchases.column(key)
    normalise = [
        *suggest_fields(sampled.expressions, columns),
        *(r for r in suggest_normalising(sampled.rows, columns) if r.key != mine),
        *suggest_values(sampled.profiles, columns),
    ]
    for rule in purchases.normalise:
        if rule.key == theirs and mine is not None and rule.form:
            normalise.insert(0, SuggestedRule.of(mine, rule.form, f"as {key} of the purchases"))
    normalise = chained(normalise)
    return TableLook(sampled.sample, columns, normalise, (), sampled.passed(columns, normalise))


def _read_purchases(table: TableLook, inspection: Inspection, clock: datetime, files: Files) -> PurchasesLook:
    """What the purchases say, read by the functions and rules of ``prepare``."""
    source = inspection.source
    users = sample_users(source, table.sample.footers, inspection.columns, files)
    events, rejects = clean_purchases(users.rows, source, clock, row_hashes=False)
    reasons = Counter(rejects["reason"].to_pylist())
    shares = {reason: n / len(users.rows) for reason, n in reasons.most_common()} if len(users.rows) else {}
    own = {reason: float(limit) for reason, limit in limits_to_propose(source, shares).items()}
    limits, examples = PrepareSettings(max_reject_share_by_reason=own), examples_of(rejects, source)
    faults = faults_of_rejects(source, reasons, len(users.rows), limits, examples)
    every = users.read == users.total
    if not source.timed:
        events = with_times(events, clock)
    bought = propose_bought(repurchases(events), whole=every, timed=source.timed) if len(events) else None
    if not source.timed:
        return PurchasesLook(users, bought, None, shares, order=source.column("order") or ROW_ORDER, faults=faults)
    column = source.columns["timestamp"]
    normalised = column in {rule.key for rule in table.normalise}
    days = calendar(events["timestamp"], None if every or normalised else time_spans(table.sample.footers, column))
    return PurchasesLook(users, bought, days, shares, inspection.earliest, inspection.latest, faults=faults)


def _read(rows: pa.Table, inspection: Inspection) -> pa.Table:
    """The columns of a sample that are read, a row for each element of a list."""
    return unnest(rows, [c for c in inspection.columns if c in rows.column_names or list_path(c) is not None])


def _likely_item(table: Sequence[ColumnProfile], chosen: Mapping[str, str]) -> str | None:
    """The column of purchases that is the item by name and content, before a catalogue is asked; None for none."""
    user = {key: name for key, name in chosen.items() if key == "user_id" and name in {c.name for c in table}}
    try:
        return _column(infer_columns(table, ("user_id", "item_id"), chosen=user), "item_id")
    except InputError:
        return None


def _column(inferred: Sequence[InferredColumn] | None, key: str) -> str | None:
    return next((c.column for c in inferred or () if c.key == key), None)


def _values(sample: pa.Table, column: str | None) -> pa.ChunkedArray | None:
    return None if column is None or column not in sample.column_names else sample[column].drop_null()
