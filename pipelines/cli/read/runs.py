"""Which run a command reads: by its name, its folder, or the published one."""

import os

from topkin.artifacts import runs
from topkin.artifacts.runs import Run
from topkin.errors import ArtifactError
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.upkeep import versions


def run_of(options: CommandOptions, name: str | None) -> Run:
    """The run of a folder, else :func:`shown_run` in the output folder of the configuration."""
    if name is not None and ("://" in name or os.path.isdir(name)):
        return runs.run_at(name)
    return shown_run(options.run_settings().run.output, name)


def shown_run(root: str, name: str | None) -> Run:
    """The run of an output folder by the beginning of its name, or ``live``.

    Without a name the published one, else the newest that has prepared tables. Raises ConfigError or ArtifactError
    where there is none.
    """
    if name is not None:
        return runs.read_run(root, versions.named(root, name))
    if (current := runs.published(root)) is not None:
        return current
    for run_id in reversed(runs.run_ids(root)):
        if "prepare" in (run := runs.read_run(root, run_id)).folders:
            return run
    raise ArtifactError(f"{root} has no finished run to show: topkin run makes one")
