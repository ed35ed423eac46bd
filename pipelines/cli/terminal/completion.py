"""What a shell completes beside commands and options: the names of runs."""

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ACTIONS = ("list", "diff", "verify", "delete", "pin", "unpin")
"""Of ``topkin runs``."""


def answering(group: Any) -> Any:
    """The command, its help as a shell that asks is to show it: typer takes words in brackets for styles there."""
    if "_TOPKIN_COMPLETE" in os.environ:
        for command in group.commands.values():
            command.short_help = command.short_help.replace("[", r"\[")
            for parameter in command.params:
                parameter.help = parameter.help and parameter.help.replace("[", r"\[")
    return group


def run_names(ctx: Any, incomplete: str) -> list[str]:
    """The runs in the output folder of the configuration that a line names; none where it cannot be read."""
    return [name for name in _runs(str(ctx.params["config"])) if name.startswith(incomplete)]


def live_or_run(ctx: Any, incomplete: str) -> list[str]:
    """What stands for a run where a word may be live, too."""
    return [word for word in ("live", *run_names(ctx, "")) if word.startswith(incomplete)]


def run_words(ctx: Any, incomplete: str) -> list[str]:
    """What ``topkin runs`` takes: an action, then runs."""
    if ctx.params.get("words"):
        return live_or_run(ctx, incomplete)
    return [word for word in ACTIONS if word.startswith(incomplete)]


def _runs(config: str) -> Iterator[str]:
    """Without the libraries that read a configuration: a shell waits, and only the output folder's name counts."""
    try:
        values = tomllib.loads(Path(config).read_text(encoding="utf-8"))
        output = os.environ.get("TOPKIN_RUN__OUTPUT") or values.get("run", {}).get("output", "topkin-out")
        folder = Path(config).parent / Path(output).expanduser() / "runs"
        yield from sorted((p.name for p in folder.iterdir() if (p / "run.json").is_file()), reverse=True)
    except (OSError, ValueError, AttributeError, TypeError):
        return  # nothing to complete from, or in an object store


def sets(ctx: Any, incomplete: str) -> list[str]:
    """The keys of the configuration, for ``--set``."""
    from topkin.config.reference import NAME, keys

    return [f"{name}=" for name in keys() if name.startswith(incomplete) and NAME not in name.split(".")]
