"""What to do about a column whose type cannot play its role: the expression that reads it, for each type its own."""

from collections.abc import Iterator

import pyarrow as pa

from topkin.artifacts.ids import storage, value_kind
from topkin.config.reference import as_toml, bare_or_quoted, in_single_quotes
from topkin.ingest.sql import literal, quoted, quoted_if_needed

FIELDS_NAMED = 4
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view,
          pa.types.is_large_list_view)  # fmt: skip
_WANTED = {
    "user_id": ("integer", "text", "binary"),
    "item_id": ("integer", "text", "binary"),
    "timestamp": ("time", "text", "integer", "float"),
    "order": ("integer", "float"),
    "quantity": ("integer", "float"),
    "price": ("float", "integer"),
    "available": ("boolean",),
}
"""Kinds of values that a role takes; any text otherwise."""


def is_list(t: pa.DataType) -> bool:
    """Whether values of the type are lists, of any layout."""
    return any(test(storage(t)) for test in _LISTS)


def normalise_key(section: str, column: str) -> str:
    """The key of a column's expression as it stands in the configuration."""
    return f"{section}.normalise.{bare_or_quoted(column)}"


def setting(section: str, column: str, form: str) -> str:
    """``normalise`` of a column as it stands in the configuration, from an expression with ``{}`` for the column."""
    return _assigned(section, column, form.replace("{}", quoted_if_needed(column)))


def _assigned(section: str, column: str, expression: str) -> str:
    text = in_single_quotes(expression) if '"' in expression else as_toml(expression)
    return f"{normalise_key(section, column)} = {text}"


def type_cure(section: str, role: str, column: str, t: pa.DataType) -> str:
    """What to do about a column of a type that its role does not take, in words; for the end of a message."""
    t = storage(t)
    if is_list(t):
        return _list_cure(section, role, column, t)
    if pa.types.is_struct(t):
        forms = _inner_forms(t, quoted(column), role)
        cures = [_assigned(section, column, form) for form in forms]
        return f"name one of its fields: set {' or '.join(cures)}" if cures else "it has no field: name another column"
    if pa.types.is_map(t):
        key = literal("key") if value_kind(t.key_type) == "text" else "0"
        return f"name the key whose value it is: set {setting(section, column, '{}[' + key + ']')}"
    if pa.types.is_null(t):
        return "it holds nothing: write the column with its type, or name another"
    form, why = _plain_cure(role, t)
    if not form:
        return f"{why}, or set {normalise_key(section, column)} to an SQL expression that gives such values"
    return f"{why}{' ' if why.endswith(' else') else ': ' if why else ''}set {setting(section, column, form)}"


def _inner_forms(t: pa.DataType, form: str, role: str) -> list[str]:
    """Expressions that read flat values inside values of a type, whose own is ``form``: what the role takes first."""
    return _wanted_first(_leaves(storage(t), form), role)


def _paths(t: pa.DataType, name: str, role: str) -> list[str]:
    """As ``_inner_forms``, the names that ``baskets.list_path`` reads, of values that lie in no further list."""
    return _wanted_first(_named(storage(t), name), role)


def _wanted_first(leaves: Iterator[tuple[str, pa.DataType]], role: str) -> list[str]:
    wanted = _WANTED.get(role, ("text", "integer", "boolean"))
    return [name for name, _ in sorted(leaves, key=lambda leaf: value_kind(leaf[1]) not in wanted)[:FIELDS_NAMED]]


def _leaves(t: pa.DataType, form: str) -> Iterator[tuple[str, pa.DataType]]:
    if pa.types.is_struct(t):
        for field in t:
            yield from _leaves(storage(field.type), f"{form}.{quoted_if_needed(field.name)}")
    elif is_list(t):
        yield from _leaves(storage(t.value_type), f"{form}[1]")
    elif not pa.types.is_map(t):
        yield form, t


def _named(t: pa.DataType, name: str) -> Iterator[tuple[str, pa.DataType]]:
    if pa.types.is_struct(t):
        for field in t:
            if "." not in field.name:  # which would part the name there
                yield from _named(storage(field.type), f"{name}.{field.name}")
    elif not is_list(t) and not pa.types.is_map(t):
        yield name, t


def _list_cure(section: str, role: str, column: str, t: pa.DataType) -> str:
    inner = storage(t.value_type)
    firsts = [_assigned(section, column, form) for form in _inner_forms(t, quoted_if_needed(column), role)]
    if not firsts:
        return "it holds no value that can be named: name another column"
    names = _paths(inner, f"{column}[]", role)
    if names and role == "item_id" and section in ("purchases", "heldout") and "[]" not in column:
        baskets = " or ".join(f"{section}.item_id = {as_toml(name)}" for name in names)
        return f"a basket in a row? set {baskets}, and each element is a purchase; for the first alone, set {firsts[0]}"
    if role in ("title", "category") and value_kind(inner) == "text":
        return f"set {setting(section, column, 'array_to_string({}, ' + literal(' ') + ')')}"
    return f"name one of its elements: set {' or '.join(firsts)}"


def _plain_cure(role: str, t: pa.DataType) -> tuple[str, str]:
    """The expression that reads values of a flat type, "" where there is none; and why it is needed."""
    kind = value_kind(t)
    if role in ("user_id", "item_id"):
        return _id_cure(kind, t)
    if role == "timestamp":
        if pa.types.is_time(t):
            return "CAST(order_date AS DATE) + {}", "a time of day needs its day, from a column such as order_date"
        if pa.types.is_duration(t):
            return "TIMESTAMP '1970-01-01' + {}", "a duration needs its beginning, such as 1970"
        if kind == "binary":
            return "decode({})", "if its bytes are text"
        return "", "name the column that holds the time of the sale"
    if role == "order":
        if kind == "text":
            return "TRY_CAST({} AS BIGINT)", "if it is a number written as text"
        if kind == "time":
            return "", "a time is more than an order: name it as timestamp, and leave order out"
        return "", 'name a column of numbers, or "row" for the order of files and rows'
    if role in ("quantity", "price"):
        if kind == "text":
            return "TRY_CAST({} AS DOUBLE)", ""
        if kind == "boolean":
            return "CAST({} AS INTEGER)", ""
        return "", f"name a column of numbers, or leave {role} out"
    if role == "available":
        if kind in ("integer", "float"):
            return "{} > 0", ""
        if kind == "text":
            return "lower(trim({})) IN ('true', 't', 'yes', 'y', '1', 'in stock')", ""
        return "", "name a column of truth values, or leave available out"
    if role == "vector":
        return "", "name a column of lists, or leave vector out"
    if kind == "binary":
        return "decode({})", "if its bytes are text"
    if role == "order_id" and kind == "float":  # integers with nulls, as pandas has them
        return "TRY_CAST({} AS BIGINT)", ""
    return "CAST({} AS VARCHAR)", ""


def _id_cure(kind: str, t: pa.DataType) -> tuple[str, str]:
    if pa.types.is_floating(t):
        limit = {16: 11, 32: 24, 64: 53}[t.bit_width]
        return "TRY_CAST({} AS BIGINT)", (
            "a float cannot hold every id: write the column as integers or strings, or, where all are whole and none "
            f"is above 2**{limit}"
        )
    if pa.types.is_decimal(t):
        fits = t.precision - t.scale <= 18 and t.scale <= 0
        return ("CAST({} AS BIGINT)" if fits else "CAST({} AS VARCHAR)"), ""
    if kind == "boolean":
        return "", "two values tell no more than two apart: name the column that holds the id"
    if kind == "time" or pa.types.is_time(t):
        return "CAST({} AS VARCHAR)", "a time tells no users or items apart: name the column that holds the id; or else"
    return "", "name the column that holds the id"
