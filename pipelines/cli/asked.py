"""What a command line asked for, as the jobs behind it are told."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """The options common to the commands."""

    config: Path
    as_of: str | None = None
    sets: Sequence[str] = ()
    force: bool = False
    json: bool = False
    quiet: bool = False
    beam: Sequence[str] = ()
