"""What topkin raises for a caller to catch; misuse of a function raises the builtins.

::

    TopkinError                 exit code 1
    ├── ConfigError             2   a key, a type, a value or a flag is wrong
    ├── InputError              3   the data cannot be used as it is
    ├── QualityGateError        4   the tables were made and refused before publishing
    ├── BusyError               5   another process is at work in the same output folder
    ├── ResourceError           6   a disk, the memory, the time or a worker ran out
    └── ArtifactError           1   an artifact is missing, damaged or of another encoder
"""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches


class TopkinError(Exception):
    """A failure that topkin explains: the message says the rule, what came and the cure."""

    exit_code = 1


class ConfigError(TopkinError):
    """The configuration or the command line is wrong."""

    exit_code = 2


class InputError(TopkinError):
    """The input data break a rule that no setting can bend."""

    exit_code = 3


class QualityGateError(TopkinError):
    """The run finished and its results may not be published."""

    exit_code = 4


class BusyError(TopkinError):
    """Another process is at work in the output folder, or took the work over: nothing was changed."""

    exit_code = 5


class ResourceError(TopkinError):
    """A disk, the memory, the time allowed or a worker process ran out; the same command goes on when there is more."""

    exit_code = 6


class ArtifactError(TopkinError):
    """A stage's output is missing, damaged, or made by another encoder."""


def chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what led to it, the last first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def nearest_name(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name most like ``name`` in any case, in its own spelling, to offer in a message; None where none is near."""
    spelling = {n.lower(): n for n in names}
    near = get_close_matches(name.lower(), list(spelling), n=1, cutoff=cutoff)
    return spelling[near[0]] if near else None
