"""``topkin run --profile``: what each stage and each Beam step cost, into ``profile.json`` and onto the terminal."""

import re
from collections.abc import Mapping

from topkin.artifacts import storage
from topkin.artifacts.runs import Run
from topkin.planning.estimate import size
from topkin.telemetry.profiling import Usage, machine_cores, machine_memory

NAME = "profile.json"


def write(run: Run, usages: Mapping[str, Usage]) -> str:
    """Write the profile of the stages that a run did into its folder; gives the path."""
    path = storage.join(run.path, NAME)
    machine = {"cores": machine_cores(), "memory_bytes": machine_memory()}
    stages = [{"stage": stage, **usage.to_json()} for stage, usage in usages.items()]
    storage.write_json({"machine": machine, "stages": stages}, path)
    return path


def show(usages: Mapping[str, Usage]) -> None:
    """Print a table of the stages, and one of their steps."""
    from rich.console import Console

    from topkin.pipelines.cli.terminal.tables import Sheet

    if not usages:
        print("every stage was done before: nothing to profile; --force does them again")
        return
    table = Sheet("profile", "stage", ">wall s", ">CPU s", ">read", ">written", ">peak memory")
    steps = Sheet("steps", "stage", "step", ">rows", ">tables", ">s")
    for stage, u in usages.items():
        sizes = [size(n) for n in (u.bytes_read, u.bytes_written, u.peak_bytes)]
        table.add(stage, f"{u.seconds:.1f}", f"{u.cpu_seconds:.1f}", *sizes)
        for step in u.steps:
            counted = f"{step['rows']:,}", size(step["bytes"]), f"{step['milliseconds'] / 1000:.1f}"
            steps.add(stage, _short(step["step"]), *counted)
    Console().print(*[sheet for sheet in (table, steps) if sheet.rows], sep="\n")


def _short(step: str) -> str:
    """A step's path without what Beam adds for the class of its worker."""
    return re.sub(r"/ParDo\(\w+\)$", "", step)
