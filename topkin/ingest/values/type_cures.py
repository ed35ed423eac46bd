"""What to do about a column whose type cannot play its role: the expression that reads it, for each type its own."""

from collections.abc import Iterator

import pyarrow as pa

from topkin.artifacts.ids import storage, value_kind
from topkin.config.reference import as_toml, bare_or_quoted
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


def setting(section: str, column: str, form: str) -> str:
    """``normalise`` of a column as it stands in the configuration, from an expression with ``{}`` for the column."""
    expression = form.replace("{}", quoted_if_needed(column))
    text = f"'{expression}'" if '"' in expression and "'" not in expression else as_toml(expression)
    return f"{section}.normalise.{bare_or_quoted(column)} = {text}"


def type_cure(section: str, role: str, column: str, t: pa.DataType) -> str:
    """What to do about a column of a type that its role does not take, in words; for the end of a message."""
    t = storage(t)
    if is_list(t):
        return _list_cure(section, role, column, t)
    if pa.types.is_struct(t):
        forms = _inner_forms(t, quoted(column), role)
        cures = [setting(section, column, form) for form in forms]
        return f"name one of its fields: set {' or '.join(cures)}" if cures else "it has no field: name another column"
    if pa.types.is_map(t):
        key = literal("key") if value_kind(t.key_type) == "text" else "0"
        return f"name the key whose value it is: set {setting(section, column, '{}[' + key + ']')}"
    if pa.types.is_null(t):
        return "it holds nothing: write the column with its type, or name another"
    form, why = _plain_cure(role, t)
    if not form:
        return f"{why}, or set {section}.normalise.{bare_or_quoted(column)} to an SQL expression that gives such values"
    return f"{why}{' ' if why.endswith(' else') else ': ' if why else ''}set {setting(section, column, form)}"


def _inner_forms(t: pa.DataType, form: str, role: str) -> list[str]:
    """Expressions that read flat values inside values of a type, whose own is ``form``: what the role takes first."""
    wanted = _WANTED.get(role, ("text", "integer", "boolean"))
    leaves = sorted(_leaves(storage(t), form), key=lambda leaf: value_kind(leaf[1]) not in wanted)
    return [inner for inner, _ in leaves[:FIELDS_NAMED]]


def _leaves(t: pa.DataType, form: str) -> Iterator[tuple[str, pa.DataType]]:
    if pa.types.is_struct(t):
        for field in t:
            yield from _leaves(storage(field.type), f"{form}.{quoted_if_needed(field.name)}")
    elif is_list(t):
        yield from _leaves(storage(t.value_type), f"{form}[1]")
    elif not pa.types.is_map(t):
        yield form, t


def _list_cure(section: str, role: str, column: str, t: pa.DataType) -> str:
    inner = storage(t.value_type)
    firsts = " or ".join(setting(section, column, form) for form in _inner_forms(t, "{}", role))
    if not firsts:
        return "it holds no value that can be named: name another column"
    names = [name for name in _inner_forms(inner, column + "[]", role) if "[1]" not in name]
    if names and role == "item_id" and section in ("purchases", "heldout") and "[]" not in column:
        baskets = " or ".join(f"{section}.item_id = {as_toml(n.replace(chr(34), ''))}" for n in names)
        first = setting(section, column, _inner_forms(t, "{}", role)[0])
        return f"a basket in a row? set {baskets}, and each element is a purchase; for the first alone, set {first}"
    if role in ("title", "category") and value_kind(inner) == "text":
        return f"set {setting(section, column, 'array_to_string({}, ' + literal(' ') + ')')}"
    return f"name one of its elements: set {firsts}"


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
