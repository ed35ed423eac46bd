"""What a sink is, which there are, and the export of a run into one."""

import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from topkin.artifacts import lock
from topkin.errors import BusyError, ConfigError, TopkinError, nearest_name
from topkin.exports.tables import ExportTable
from topkin.telemetry.secrets import masked

RECORD = "topkin_exports"
"""The table in which a database has the version of each exported table."""
LOCK = "topkin-export.lock.json"
"""In a folder into which one exports."""
_ENCODED = re.compile(r"(?:[\w.~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*")


class Sink(Protocol):
    """A store that takes tables. A version of a table is seen by readers when it is whole, and not before."""

    def alone(self, wait: float) -> AbstractContextManager[object]:
        """Within it no other export writes there: waits for seconds, then raises BusyError.

        Where a store has nothing to lock by, ``write`` raises TopkinError for what another has written meanwhile.
        """

    def version(self, table: str) -> str | None:
        """The version of a table that readers see; None where there is no such table.

        Raises ConfigError where there is one that topkin did not write.
        """

    def write(self, table: ExportTable) -> int:
        """Put a version in the place of the one before, and return its rows. Whoever is stopped leaves that one."""

    def close(self) -> None:
        """Let go of files and connections."""


@dataclass(frozen=True)
class Kind:
    """A kind of sink: its module, which has ``open_sink(target)``, what a target looks like, and the extra it needs.

    local: it is on this machine's disk alone.
    """

    module: str
    example: str
    extra: str | None = None
    local: bool = False


SINKS: Mapping[str, Kind] = {
    "csv": Kind("files", "csv:FOLDER"),
    "jsonl": Kind("files", "jsonl:FOLDER"),
    "sqlite": Kind("sqlite", "sqlite:FILE", local=True),
    "postgresql": Kind("postgresql", "postgresql://HOST/DATABASE", "postgresql"),
    "redis": Kind("redis", "redis://HOST:6379/0", "redis"),
    "rediss": Kind("redis", "rediss://HOST:6379/0", "redis"),
    "qdrant": Kind("qdrant", "qdrant://HOST:6333", "qdrant"),
    "delta": Kind("delta", "delta:FOLDER", "delta"),
    "iceberg": Kind("iceberg", "iceberg:FOLDER", "iceberg", local=True),
}


def open_sink(target: str) -> Sink:
    """The sink that a target names.

    Raises ConfigError for an unknown kind or a missing extra, TopkinError for a server that is not reached.
    """
    name, colon, rest = target.partition(":")
    if rest.startswith("~"):  # which a shell leaves behind a colon
        rest = os.path.expanduser(rest)
        target = f"{name}:{rest}"
    if name not in SINKS or not colon or not rest.strip("/"):
        near = nearest_name(name, SINKS)
        hint = f", did you mean {SINKS[near].example}?" if near else ""
        raise ConfigError(
            f"a target must be one of {', '.join(k.example for k in SINKS.values())}; got {masked(target)!r}{hint}"
        )
    kind = SINKS[name]
    _check(name, kind, rest)
    try:
        opened: Callable[[str], Sink] = importlib.import_module(f"topkin.exports.{kind.module}").open_sink
    except ModuleNotFoundError as e:
        if kind.extra is None:
            raise
        raise ConfigError(f"{kind.example} needs {e.name}: pip install 'topkin[{kind.extra}]'") from e
    return opened(target)


def _check(name: str, kind: Kind, rest: str) -> None:
    """Raises ConfigError for what a library would take for something else, or tell with a part of a password."""
    if kind.local and "://" in rest:
        raise ConfigError(f"{kind.example} is on this machine's disk, got {masked(rest)!r}: name a place on it")
    if name == "sqlite" and rest == ":memory:":
        raise ConfigError("sqlite:FILE must name a file, :memory: ends with the command: name a place on the disk")
    bare = "//" in kind.example and not rest.startswith("//")
    if bare and (name != "qdrant" or re.fullmatch(r"[^/]*:\d+", rest)):  # qdrant:FOLDER and qdrant:https://HOST are
        raise ConfigError(f"a target of {name} must look like {kind.example}, what came has no // after {name}:")
    user, at, _ = rest.partition("://")[2 if "://" in rest else 0].removeprefix("//").rpartition("@")
    if at and "//" in kind.example and not _ENCODED.fullmatch(user):
        raise ConfigError(
            f"user and password of {name}://***@… must be percent-encoded, as is any @ after the host: %40 for @, %2F "
            "for /, %25 for %"
        )


@contextmanager
def explained(
    target: str, unreachable: type[Exception] | tuple[type[Exception], ...], *others: type[Exception]
) -> Iterator[None]:
    """Turn a library's errors inside into one message; unreachable: those of a server that does not answer."""
    try:
        yield
    except unreachable as e:
        raise TopkinError(
            f"{masked(target)} is not reached ({_line(e)}): start the server, or name another target"
        ) from e
    except others as e:
        raise TopkinError(f"{masked(target)} cannot be written ({_line(e)}): what readers see is as before") from e


def _line(error: Exception) -> str:
    lines = masked(str(error)).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


@contextmanager
def in_folder(target: str, folder: str, wait: float, name: str = LOCK) -> Iterator[None]:
    """:meth:`Sink.alone` by a file in a folder, which expires with its process."""
    with ExitStack() as held:
        with explained(target, (), OSError, pa.ArrowInvalid):
            held.enter_context(lock.hold(folder, f"topkin export {masked(target)}", wait=wait, name=name))
        yield


def busy(target: str, why: str = "another export is at work there") -> BusyError:
    """The error for a target that another export writes to."""
    return BusyError(
        f"{masked(target)} takes one export at a time, so that its tables are of one version; {why}: let it end, or "
        "wait for it with --wait SECONDS"
    )


def foreign(where: str, table: str) -> ConfigError:
    """The error for a table of that name which topkin did not write."""
    return ConfigError(
        f"{masked(where)} has {table!r} already, and topkin did not write it: remove it, or name another target"
    )


@dataclass(frozen=True)
class Exported:
    """What became of a table: its rows; None where the target had this version already."""

    table: str
    version: str
    rows: int | None


def export(tables: Sequence[ExportTable], target: str, *, wait: float = 0.0) -> Iterator[Exported]:
    """Export tables one after the other; a version that the target has already is left as it is.

    Args:
        tables: What is exported.
        target: Where to, see :data:`SINKS`.
        wait: Seconds to wait for another export into it.

    Raises:
        BusyError: Another export is at work there still.
        TopkinError: Another has written one of the tables meanwhile.
    """
    with closing(open_sink(target)) as sink, sink.alone(wait):
        there = {table.name: sink.version(table.name) for table in tables}  # nothing is written where one is another's
        for table in tables:
            rows = None if there[table.name] == table.version else sink.write(table)
            yield Exported(table.name, table.version, rows)
        others = [table.name for table in tables if sink.version(table.name) != table.version]
    if others:
        raise TopkinError(
            f"{masked(target)} has another version of {', '.join(others)} by now, which another export wrote "
            "meanwhile: export again, one at a time"
        )
