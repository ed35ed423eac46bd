"""Every key of the configuration as data: what it takes, its default, its meaning.

Read off :class:`topkin.config.sections.Settings`, for messages, for ``topkin init`` and for the generated reference.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from topkin.config.section import Section
from topkin.config.sections import Settings
from topkin.errors import nearest_name


@dataclass(frozen=True)
class Key:
    """One key: its section and name, what it takes in words, its default (None: none), its meaning.

    ``table`` says that the value is a table of the user's own names, such as ``purchases.rules``. ``example``: a value,
    where the meaning alone does not show one.
    """

    section: str
    name: str
    takes: str
    required: bool
    default: Any
    description: str
    table: bool
    example: Any = None

    def meaning(self, came: object) -> str:
        """What helps who gave another value: no quotes, or the key's meaning, which has its unit, and how to set it."""
        of_number = "number" in self.takes and isinstance(came, str)
        if of_number and re.fullmatch(r"[-+]?\d+(\.\d+)?", str(came)):
            return "; write it without quotes"
        if not (of_number or self.takes == "a text"):
            return ""
        words = f"; it means: {re.split(r'(?<=[a-z0-9)])[.;:] ', self.description)[0].rstrip('.')}"
        if self.example is not None:
            words += f", such as {self.name} = {as_toml(self.example)}"
        if came in ("", []) and not self.required:
            words += f"; leave it out for {'none' if self.default is None else as_toml(self.default)}"
        return words

    @property
    def dotted(self) -> str:
        """The name by which ``--set`` knows the key."""
        return f"{self.section}.{self.name}"


@dataclass(frozen=True)
class SectionInfo:
    """One section: its name (dotted where it is inside another), meaning, keys, and whether a file must have it.

    Where the user names the tables of a section, as in ``encoder.inputs``, NAME stands for the name.
    """

    name: str
    description: str
    required: bool
    keys: tuple[Key, ...]


NAME = "NAME"


@cache
def sections(of: type[Section] = Settings) -> tuple[SectionInfo, ...]:
    """All sections of a kind of configuration, in its order."""
    schema = of.model_json_schema()
    return tuple(_sections("", schema, schema["$defs"]))


def _sections(above: str, schema: Mapping[str, Any], bodies: Mapping[str, Any]) -> Iterator[SectionInfo]:
    """The sections among the properties of a schema, each before those inside it."""
    for property_name, spec in schema["properties"].items():
        if (reference := _reference(spec)) is None:
            continue
        name, body = above + property_name, bodies[reference]
        name += f".{NAME}" if "additionalProperties" in spec else ""
        required = set(body.get("required", ()))
        parts = {key: part for key, part in body["properties"].items() if _reference(part) is None}
        keys = tuple(_key(name, key, part, key in required) for key, part in parts.items())
        yield SectionInfo(name, body["description"], property_name in schema.get("required", ()), keys)
        yield from _sections(f"{name}.", body, bodies)


def keys(of: type[Section] = Settings) -> dict[str, Key]:
    """Every key of a kind of configuration by its dotted name."""
    return {key.dotted: key for section in sections(of) for key in section.keys}


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The most similar candidate, or one that begins alike; None where nothing is near."""
    pool = list(candidates)
    if close := nearest_name(name, pool):
        return close
    inside = [c for c in pool if c.startswith(name.lower()) or (len(c) > 2 and c in name.lower())]
    return min(inside, key=len, default=None) if len(name) > 1 else None


def as_toml(value: object) -> str:
    """A value in TOML's spelling, on one line."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{bare_or_quoted(str(k))} = {as_toml(v)}" for k, v in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(as_toml(v) for v in value)}]"
    return str(value)


def in_single_quotes(text: str) -> str:
    """A text in TOML's spelling, in single quotes where it may be: as it is, without escapes."""
    return f"'{text}'" if text.isprintable() and "'" not in text else as_toml(text)


def bare_or_quoted(key: str) -> str:
    """A key in TOML's spelling: bare where it may be, else quoted."""
    bare = key != "" and key.isascii() and key.replace("_", "a").replace("-", "a").isalnum()
    return key if bare else as_toml(key)


def _reference(spec: Mapping[str, Any]) -> str | None:
    """The name of the section that a property is; None for a key."""
    inside = spec.get("additionalProperties")
    options = [spec, *spec.get("anyOf", ()), *([inside] if isinstance(inside, dict) else ())]
    return next((str(option["$ref"]).rpartition("/")[2] for option in options if "$ref" in option), None)


def _key(section: str, name: str, spec: Mapping[str, Any], required: bool) -> Key:
    return Key(
        section=section,
        name=name,
        takes=takes(spec),
        required=required,
        default=spec.get("default", {} if spec.get("type") == "object" else None),
        description=spec.get("description", ""),
        table=spec.get("type") == "object",
        example=next(iter(spec.get("examples", ())), None),
    )


def takes(spec: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in words: "a whole number of at least 1"."""
    if "anyOf" in spec:
        return " or ".join(takes(option) for option in spec["anyOf"] if option.get("type") != "null")
    if "const" in spec:
        return as_toml(spec["const"])
    if "enum" in spec:
        return "one of " + ", ".join(as_toml(value) for value in spec["enum"])
    match spec.get("type"):
        case "integer":
            return "a whole number" + _bounds(spec)
        case "number":
            return "a number" + _bounds(spec)
        case "boolean":
            return "true or false"
        case "array":
            number = f" of {spec['maxItems']}" if "maxItems" in spec else ""
            return f"a list{number}, each {takes(spec['items'])}"
        case "object":
            return f"a table of names, each with {takes(spec['additionalProperties'])}"
        case _:
            return "a text that is not empty" if spec.get("minLength") else "a text"


def _bounds(spec: Mapping[str, Any]) -> str:
    low, high = spec.get("minimum"), spec.get("maximum")
    above, below = spec.get("exclusiveMinimum"), spec.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    parts = []
    if low is not None:
        parts.append(f"of at least {low}")
    if above is not None:
        parts.append(f"above {above}")
    if high is not None:
        parts.append(f"of at most {high}")
    if below is not None:
        parts.append(f"below {below}")
    return "".join(f" {'and ' if i else ''}{part}" for i, part in enumerate(parts))


SYNTAX_CURES = {
    "Invalid value": "a value is a number, true, false, a list, a table or a text in quotes",
    "Expected '=' after a key": 'a line is [section] or key = value; a name with spaces stands in quotes, "a b" =',
    "Unterminated string": "close it with the quote that opened it",
    'Expected "\'"': "close the text with the quote that opened it",
    "Invalid statement": "a line is a section, [name], or key = value",
    "Illegal character": "a text ends on its own line, unless three quotes open and close it",
    "Expected newline or end of document": "a text stands in quotes, quotes inside it are others: \"a = 'b'\"",
    "Unescaped '\\' in a string": "write it twice, or put the text in single quotes",
    "Unclosed array": "close the list with ]",
    "Unclosed inline table": "close the table with }, on its own line",
    "Cannot overwrite a value": "the key stands above already: keep one of them",
    "Expected ']'": "a section stands in brackets, as [recommend]",
}
"""What to do about what the parser says, by how that begins."""


def syntax_error(path: str, text: str, message: str) -> str:
    """What is wrong with a file that is no TOML, by its parser's message: the line, the rule, the cure."""
    at = re.search(r"\(at line (\d+), column (\d+)\)", message)
    rule = re.sub(r" \(at .*\)$", "", message)
    number = int(at[1]) if at else max(1, text.rstrip("\n").count("\n") + 1)
    lines = text.splitlines()
    shown = f"\n    {lines[number - 1].strip()}" if 0 < number <= len(lines) else ""
    return f"{path}:{number}: not TOML: {rule}{_syntax_cure(rule, lines)}{shown}"


def _syntax_cure(rule: str, lines: Sequence[str]) -> str:
    if (twice := re.match(r"Cannot declare \((.*?),?\) twice", rule)) is not None:
        name = ".".join(part.strip(" '\"") for part in twice[1].split(","))
        at = next((n for n, line in enumerate(lines, 1) if line.split("#")[0].strip() == f"[{name}]"), None)
        return f": [{name}] stands in line {at} already, put the keys there" if at else ": keep one of them"
    cure = next((cure for start, cure in SYNTAX_CURES.items() if rule.startswith(start)), "")
    return f": {cure}" if cure else ""
