"""Reading the configuration: a TOML file, then the environment, then ``--set``, each over the one before.

A wrong configuration is answered with everything that is wrong, each with its place (file and line,
variable or flag), the key, what came, what is allowed, and the nearest valid name.
"""

import glob
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from topkin.artifacts import storage
from topkin.config.encoder_run import EncoderRunSettings
from topkin.config.items_run import ItemsRunSettings, RunSettingsOfAnyKind, kind_of
from topkin.config.reference import NAME, Key, as_toml, keys, nearest, sections, syntax_error
from topkin.config.sections import Section, Settings
from topkin.config.shop.lists import idle
from topkin.errors import ConfigError

PREFIX = "TOPKIN_"
PATHS = (
    ("run", "output"),
    *((section, "path") for section in ("purchases", "items", "users", "queries", "heldout", "encoder")),
    ("train", "pairs", "path"),
    ("recommend", "allow"),
    ("recommend", "deny"),
)

Loc = tuple[str, ...]


@dataclass(frozen=True)
class _Override:
    """One value from the environment or a flag; an empty text takes the key away."""

    place: str  # as the user wrote it: "--set train.epochs=3"
    loc: Loc
    raw: str


@dataclass
class _Source:
    """The configuration being put together, and where each part of it came from."""

    path: str
    values: dict[str, Any]
    lines: dict[Loc, int]
    overrides: dict[Loc, _Override] = field(default_factory=dict)

    def place(self, loc: Loc) -> str:
        """Where a key was written: an override of it or of what holds it, a line of the file, an override of what it
        holds; else the file where it should be.
        """
        for end in range(len(loc), 0, -1):
            if loc[:end] in self.overrides:
                return self.overrides[loc[:end]].place
        for end in range(len(loc), 0, -1):
            if loc[:end] in self.lines:
                return f"{self.path}:{self.lines[loc[:end]]}"
        for end in range(len(loc), 0, -1):
            inside = [o for other, o in self.overrides.items() if other[:end] == loc[:end]]
            if inside:
                return inside[0].place
        return self.path


def load_settings(
    path: str | os.PathLike[str], sets: Sequence[str] = (), env: Mapping[str, str] = os.environ
) -> Settings:
    """Read and check a configuration: the file, then the environment, then ``sets``, each over the one before.

    Args:
        path: The TOML file, local or a URI. Relative paths in it are relative to it.
        sets: ``section.key=value``, the value in TOML's spelling or a bare text; its paths, and those of the
            environment, are relative to the current folder.
        env: ``TOPKIN_SECTION__KEY=value`` likewise.

    Returns:
        The settings, typed and frozen.

    Raises:
        ConfigError: Lists all that is wrong, each with its place.

    Examples:
        >>> import pathlib, tempfile, topkin
        >>> path = pathlib.Path(tempfile.mkdtemp(), "topkin.toml")
        >>> _ = path.write_text('[purchases]\\npath = "purchases.parquet"\\n[recommend]\\nk = 50')
        >>> topkin.load_settings(path, ["recommend.bought=keep"]).recommend.k
        50
    """
    source, problems = _overridden(path, sets, env)
    kind = kind_of(source.values)
    if not issubclass(kind, Settings):
        raise ConfigError(f"{source.path} is of items alone, without [purchases]: topkin run and its stages take it")
    return _check(source, problems, kind)


def load_run(
    path: str | os.PathLike[str], sets: Sequence[str] = (), env: Mapping[str, str] = os.environ
) -> RunSettingsOfAnyKind:
    """As :func:`load_settings`, of a run of any kind: over items alone too.

    Raises:
        ConfigError: Lists all that is wrong, each with its place.
    """
    source, problems = _overridden(path, sets, env)
    return _check(source, problems, kind_of(source.values))


def _overridden(path: str | os.PathLike[str], sets: Sequence[str], env: Mapping[str, str]) -> tuple[_Source, list[str]]:
    source = _file(os.fspath(path))
    return source, [p for override in _overrides(sets, env) for p in _apply(source, override)]


def load_encoder_run(
    path: str | os.PathLike[str] | None,
    flags: Sequence[tuple[str, Loc, str]] = (),
    sets: Sequence[str] = (),
    env: Mapping[str, str] = os.environ,
) -> EncoderRunSettings | None:
    """The sections for a trained model over a table of items; None where there is no ``[encoder]``.

    Args:
        path: As of :func:`load_settings`; None for flags alone. Its other sections are not looked at.
        flags: What the command line says besides ``sets``, over all else: the flag, the place of the key, the value.
        sets: As of :func:`load_settings`.
        env: As of :func:`load_settings`.

    Raises:
        ConfigError: Lists all that is wrong, each with its place.
    """
    source = _Source("the command line", {}, {}) if path is None else _file(os.fspath(path))
    overrides = [*_overrides(sets, env), *(_Override(*flag) for flag in flags)]
    problems = [p for override in overrides for p in _apply(source, override)]
    if "encoder" not in source.values and not problems:
        return None
    others = {s.name for s in sections()} - set(EncoderRunSettings.model_fields)
    source.values = {name: value for name, value in source.values.items() if name not in others}
    return _check(source, problems, EncoderRunSettings)


def _file(path: str) -> _Source:
    """The configuration of a file, its paths made absolute."""
    path = _local(path)
    text = _read(path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(syntax_error(path, text, str(e))) from e
    except RecursionError as e:
        raise ConfigError(
            f"{path}: tables and lists go three levels deep at most, got some that are nested deeper"
        ) from e
    _make_paths_absolute(values, _folder(path))
    return _Source(path, values, _lines(text))


def settings_without_file(purchases: str, sets: Sequence[str] = (), env: Mapping[str, str] = os.environ) -> Settings:
    """As :func:`load_settings` with a file that names the purchases and nothing else."""
    source = _Source("the defaults", {"purchases": {"path": purchases}}, {})
    problems = [p for override in _overrides(sets, env) for p in _apply(source, override)]
    return _check(source, problems)


def settings_of(values: Mapping[str, Any], place: str) -> Settings:
    """Settings from values by section and key, as a file would hold them; ``place`` names them in messages.

    Raises ConfigError that lists all that is wrong.
    """
    sections = {name: dict(section) if isinstance(section, Mapping) else section for name, section in values.items()}
    return _check(_Source(place, sections, {}), [])


def _local(path: str) -> str:
    """A path on this machine for a URI of one, as it is else. Raises ConfigError for a URI of another host."""
    if not path.startswith("file:"):
        return path
    parts = urlsplit(path)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ConfigError(f"--config must be a path or a URI such as file:///home/me/topkin.toml, got {path}")
    return unquote(parts.path)


def _read(path: str) -> str:
    cure = "topkin init PURCHASES.parquet writes one, --config PATH names another"
    try:
        if "://" in path:
            data = storage.read_bytes(path)
        else:
            with open(path, "rb") as file:
                data = file.read()
    except FileNotFoundError as e:
        others = _near_configurations(path)
        beside = f", as {' or '.join(others)}" if others else ""
        if scheme := re.match(r"(\w+):/+(?=\w)", path):  # not ://, which a file system of that name would have read
            beside = f", as {scheme[1]}://{path[scheme.end() :]}"
        raise ConfigError(f"there is no configuration file {path}: {cure}{beside}") from e
    except IsADirectoryError as e:
        raise ConfigError(f"the configuration must be a file, {path} is a folder: {cure}") from e
    except (OSError, ValueError) as e:  # ValueError: a scheme that pyarrow does not know, a name that no disk takes
        copy = ": copy it to this machine and name the copy" if "://" in path else ""
        why = getattr(e, "strerror", None) or str(e).splitlines()[0]
        raise ConfigError(f"the configuration file {path!r} cannot be read: {why}{copy}") from e
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: a configuration file must be UTF-8, got byte {data[e.start]:#04x}") from e


def _near_configurations(path: str) -> list[str]:
    """At most three configurations in the folders below and above the one where none is."""
    if "://" in path:
        return []
    folder, name = os.path.split(os.path.abspath(path))
    above = [os.path.dirname(folder), os.path.dirname(os.path.dirname(folder))]
    there = [*sorted(glob.glob(os.path.join(glob.escape(folder), "*", name))), *(os.path.join(f, name) for f in above)]
    return [os.path.relpath(p) for p in dict.fromkeys(there) if os.path.isfile(p)][:3]


def _folder(path: str) -> str:
    return storage.canonical(path).rpartition("/")[0] if "://" in path else os.path.dirname(os.path.abspath(path))


def _absolute(path: str, folder: str) -> str:
    if "://" in path or path == "":
        return storage.canonical(path)
    path = os.path.expanduser(path)
    if "://" in folder:
        return path if path.startswith("/") else storage.join(folder, path)
    return os.path.abspath(os.path.join(folder, path))


def _paths(values: Mapping[str, Any]) -> list[Loc]:
    named = {"events": ("path",), "lists": ("allow", "deny")}
    tables = {of: names for of in named if isinstance(names := values.get(of), dict)}
    return [*PATHS, *((of, name, key) for of, names in tables.items() for name in names for key in named[of])]


def _make_paths_absolute(values: dict[str, Any], folder: str) -> None:
    for *sections_of, key in _paths(values):
        table: Any = values
        for section in sections_of:
            table = table.get(section, {} if section == "run" else None) if isinstance(table, dict) else None
        if isinstance(table, dict):
            value = table.get(key)
            if (*sections_of, key) == ("run", "output") and key not in table:
                values.setdefault("run", table)
                value = keys()["run.output"].default
            if isinstance(value, str):
                table[key] = _absolute(value, folder)


def _lines(text: str) -> dict[Loc, int]:
    """The line of each section and key, as far as reading line by line can tell."""
    lines: dict[Loc, int] = {}
    section: Loc = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+([^\[\]]+)\]+\s*(#.*)?$", line):
            section = _split_key(header[1].strip()) or ()
            lines.setdefault(section, number)
        elif assignment := re.match(r"\s*([^=#]+?)\s*=", line):
            name = _split_key(assignment[1])
            for end in range(1, len(name or ()) + 1):
                lines.setdefault(section + (name or ())[:end], number)
    return lines


def _split_key(dotted: str) -> Loc | None:
    """The parts of a TOML key, ``a."b c".d``; None where it is not one."""
    try:
        value: Any = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        return None
    parts = []
    while isinstance(value, dict):
        if len(value) != 1:
            return None
        [(part, value)] = value.items()
        parts.append(part)
    return tuple(parts)


def _overrides(sets: Sequence[str], env: Mapping[str, str]) -> Iterator[_Override]:
    for name in sorted(env):
        if name.startswith(PREFIX) and "__" in name[len(PREFIX) :]:
            _sound(name, env[name])
            yield _Override(name, _named(tuple(name[len(PREFIX) :].split("__"))), env[name])
    for text in sets:
        _sound("--set", text)
        dotted, equals, raw = text.partition("=")
        loc = _split_key(dotted.strip())
        if not equals or loc is None or len(loc) < 2:
            hint = nearest(dotted.strip(), keys())
            raise ConfigError(
                f"--set must be section.key=value, such as --set train.epochs=3, got {text!r}"
                + (f"; did you mean {hint}=…?" if hint else "")
            )
        yield _Override(f"--set {dotted.strip()}", loc, raw.strip())


def _sound(place: str, text: str) -> None:
    if any("\ud800" <= c <= "\udfff" for c in text):  # how Python holds bytes that are not UTF-8
        raise ConfigError(f"{place}: a value must be UTF-8, got {os.fsencode(text)!r}")


def _named(loc: Loc) -> Loc:
    """A variable's parts in the configuration's spelling: lower case, the user's own names as they came."""
    lowered = tuple(part.lower() for part in loc)
    key = keys().get(".".join(lowered[:2]))
    if (depth := _depth(lowered)) > 2:
        return lowered[: depth - 1] + loc[depth - 1 : depth] + lowered[depth:]
    return lowered[:2] + loc[2:] if key is not None and key.table else lowered


def _parsed(raw: str) -> Any:
    """A text as a TOML value, or the text itself where it is none."""
    try:
        value = tomllib.loads(f"value = {raw}")
    except tomllib.TOMLDecodeError:
        return raw
    return value["value"] if set(value) == {"value"} else raw


def _apply(source: _Source, override: _Override) -> Iterator[str]:
    """Put one override in its place; yields what is wrong with it."""
    table = source.values
    for part in override.loc[:-1]:
        if not isinstance(table.get(part, {}), dict):
            yield f"{override.place}: {part} is not a table in {source.path}"
            return
        table = table.setdefault(part, {})
    for loc in [loc for loc in source.overrides if loc[: len(override.loc)] == override.loc]:
        del source.overrides[loc]
    source.overrides[override.loc] = override
    last = override.loc[-1]
    if override.raw == "":
        table.pop(last, None)
    elif override.loc in _paths(source.values):
        parsed = _parsed(override.raw)
        text = parsed if isinstance(parsed, str) else override.raw
        table[last] = parsed if isinstance(parsed, list | dict) else _absolute(text, os.getcwd())
    else:
        table[last] = _parsed(override.raw)
    if override.loc == ("run", "output") and override.raw == "":
        _make_paths_absolute(source.values, _folder(source.path))


Checked = TypeVar("Checked", bound=Section)


def _check(source: _Source, problems: list[str], model: type[Checked] = Settings) -> Checked:  # type: ignore[assignment]
    """The typed settings; a text that TOML took for a number is tried as the text it was."""
    errors: list[Any] = []
    for _ in range(2):
        try:
            settings = _validated(source.values, model)
        except ValidationError as e:
            errors = e.errors()
        else:
            errors = []
        retried = [loc for error in errors if (loc := _retried_as_text(source, error))]
        if not retried:
            break
    problems = problems + sorted({_problem(source, error, model) for error in errors}, key=_by_line)
    if source.lines and not problems and isinstance(settings, Settings) and (wrong := idle(settings)):  # not of a run
        problems = [f"{source.place(())}: {wrong}"]
    if problems:
        raise ConfigError("\n".join(problems))
    return settings


def _validated(values: dict[str, Any], model: type[Checked]) -> Checked:
    # As JSON, for there a strict check takes a list as a tuple and nothing else for another type.
    return model.model_validate_json(json.dumps(values, default=str), strict=True)


def _retried_as_text(source: _Source, error: Mapping[str, Any]) -> bool:
    loc = tuple(str(part) for part in error["loc"])
    if error["type"] != "string_type" or loc not in source.overrides or isinstance(error["input"], list | dict):
        return False
    table = source.values
    for part in loc[:-1]:
        table = table[part]
    table[loc[-1]] = source.overrides[loc].raw
    return True


def _by_line(problem: str) -> tuple[bool, int, str]:
    """Variables and flags first, then the file from top to bottom."""
    at = re.match(r".*?:(\d+): ", problem)
    return (at is not None, int(at[1]) if at else 0, problem)


def _problem(source: _Source, error: Mapping[str, Any], of: type[Section]) -> str:
    loc = tuple(str(part) for part in error["loc"])
    depth = _depth(loc, of)
    section, dotted = ".".join(loc[:depth]), ".".join(loc[: depth + 1])
    place, came = source.place(loc), error["input"]
    if error["type"] == "extra_forbidden":
        return f"{place}: {_unknown(loc, of)}"
    if error["type"] == "value_error":
        return f"{place}: {error['ctx']['error']}"
    if error["type"] == "missing":
        if len(loc) == depth:
            required = ", ".join(k.name for k in keys(of).values() if k.section == section and k.required)
            return f"{place}: section [{section}] is missing; it needs {required}"
        key = _key(loc[: depth + 1], of)
        return f"{place}: {dotted} is missing; it takes {key.takes}: {key.description}"
    if len(loc) == depth or _depth((*loc, NAME), of) > depth:
        section = ".".join(loc)
        return f"{place}: {section} must be a section [{section}] of keys, got {_shown(came)}"
    key = _key(loc[: depth + 1], of)
    entry = f" in {dotted}" if key.table and len(loc) > depth + 1 else ""
    name = ".".join(loc) if key.table else dotted
    if not key.table and len(loc) > depth + 1:
        came = source.values
        for part in loc[: depth + 1]:
            came = came[part]
    hint = _nearest_value(key.takes, came)
    takes = _entry(key.takes) if entry else key.takes
    takes += " that is not empty" if takes == "a text" and came == "" else ""
    return f"{place}: {name} takes {takes}, got {_shown(came)}{hint or key.meaning(came)}"


def _depth(loc: Loc, of: type[Section] = Settings) -> int:
    """How many parts of a place name its section."""
    every = range(1, len(loc) + 1)
    return max((n for n in every if any(_is_section(loc[:n], s.name) for s in sections(of))), default=1)


def _key(loc: Loc, of: type[Section]) -> Key:
    """The key at a place."""
    return next(key for key in keys(of).values() if key.name == loc[-1] and _is_section(loc[:-1], key.section))


def _is_section(loc: Loc, name: str) -> bool:
    """Whether a place is a section's, in whose name NAME stands for what the user named."""
    parts = name.split(".")
    return len(parts) == len(loc) and all(a in (b, NAME) for a, b in zip(parts, loc, strict=True))


def _entry(takes: str) -> str:
    return takes.removeprefix("a table of names, each with ")


def _shown(value: object) -> str:
    text = as_toml(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _nearest_value(takes: str, came: object) -> str:
    """What the entry that came, or the first wrong one of a list, is most like."""
    choices = [choice.strip('"') for choice in takes.partition("one of ")[2].split(", ")]
    wrong = [str(entry) for entry in (came if isinstance(came, list) else [came]) if entry not in choices]
    return f'; did you mean "{near}"?' if wrong and (near := nearest(wrong[0], choices)) else ""


def _unknown(loc: Loc, of: type[Section]) -> str:
    """What to say of a section or key that there is not."""
    names = [section.name for section in sections(of) if not section.name.endswith(f".{NAME}")]
    if len(loc) == 1 and of is ItemsRunSettings and loc[0] in Settings.model_fields:
        return f"[{loc[0]}] is for a run over purchases: add [purchases], or leave it out"
    if len(loc) == 1:
        if near := nearest(loc[0], names):
            return f"[{loc[0]}] is not a section; did you mean [{near}]?"
        elsewhere = [k.dotted for k in keys(of).values() if k.name == loc[0].lower()]
        return f"{loc[0]} is not a section" + (
            f"; did you mean {' or '.join(elsewhere)}?" if elsewhere else f"; sections are {', '.join(names)}"
        )
    depth = _depth(loc, of)
    section, name = ".".join(loc[:depth]), loc[depth]
    own = [k.name for k in keys(of).values() if _is_section(loc[:depth], k.section)]
    family = {k.name: k.dotted for k in keys(of).values() if k.section.partition(".")[0] == loc[0]}
    tables = [s.name.split(".") for s in sections(of) if s.name.startswith(f"{section}.")]
    family |= {table: f"{section}.{table}" for _, table, *_ in tables}
    if depth > 2 or loc[0] in ("events", "lists"):
        family = {k: f"{section}.{k}" for k in own}
    if near := nearest(name, family):
        return f"{section}.{name} is not a key; did you mean {family[near]}?"
    elsewhere = [k.dotted for k in keys(of).values() if k.name == name.lower()]
    hint = f"; did you mean {' or '.join(elsewhere)}?" if elsewhere else ""
    if of is Settings and f"{section}.{name}" in keys(ItemsRunSettings):
        hint = ", it is one of a run over items alone"
    return f"{section}.{name} is not a key{hint}; [{section}] takes {', '.join(own)}"
