"""Where a job goes: the runner that the flags for Beam name, and what is refused before anything starts."""

import importlib.util
import io
import os
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from topkin.config.items_run import RunSettingsOfAnyKind
from topkin.config.load import PATHS
from topkin.errors import ConfigError, nearest_name

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from apache_beam.options.pipeline_options import PipelineOptions

LOCAL = "FnApiRunner"
PRISM = "PrismRunner"
DATAFLOW = "DataflowRunner"
PACKAGES = ("wheel", "sdist", "none")
_PACKAGE = "--package"
_EXTRAS = {
    DATAFLOW: ("google.cloud.dataflow_v1beta3", "topkin[gcp]"),
    "InteractiveRunner": ("IPython", "apache-beam[interactive]"),
}
_FILES = ("setup_file", "requirements_file", "prism_location")
_JOB_SERVERS = ("FlinkRunner", "PortableRunner", "SparkRunner")
"""They may be given flags that only a job server of somebody's knows."""
_IN_PROCESS = (LOCAL, "BundleBasedDirectRunner", "InteractiveRunner", "SwitchingDirectRunner", "TestDirectRunner")
_HERE = ("", "localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Target:
    """Where a job goes.

    Args:
        runner: Beam's name of the runner.
        remote: Whether workers may have another disk and other packages than this process.
        own: Whether all that works for the job are descendants of this process.
    """

    runner: str
    remote: bool
    own: bool


def beam_options(flags: Sequence[str]) -> "PipelineOptions":
    """Pipeline options from flags for Beam, without ours; the in-process FnApiRunner unless a runner is named.

    ``DirectRunner`` means the FnApiRunner too: Beam 2.77 would first try to download another engine.

    Raises:
        ConfigError: A runner or a flag that Beam does not know, which it would leave out in silence; a wrong value; a
            runner whose extra is not installed; a file that is not there, or is named relative to a folder.
    """
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

    package_of(flags)
    beams = [_from_home(flag) for flag in flags if flag.partition("=")[0] != _PACKAGE]

    def refuse_unknown(parser: "ArgumentParser") -> None:
        named, unknown = parser.parse_known_args(beams)
        if not unknown:
            return
        own = _known_runner(named.runner) in _JOB_SERVERS and named.job_endpoint != "embed"
        name = str(unknown[0]).partition("=")[0]
        options = [_PACKAGE, *(option for action in parser._actions for option in action.option_strings)]
        near = nearest_name(name, options, cutoff=0.9 if own else 0.6)
        if near or not own:
            raise ValueError(f"there is no {name}" + (f", did you mean {near}?" if near else ""))

    usage = io.StringIO()
    try:
        with redirect_stderr(usage):  # of a wrong flag argparse tells the usage of all others
            options = PipelineOptions(beams)
            options.get_all_options(add_extra_args_fn=refuse_unknown)
        standard = options.view_as(StandardOptions)
        standard.runner = _known_runner(standard.runner)
    except (SystemExit, ValueError) as e:
        why = str(e) if isinstance(e, ValueError) else usage.getvalue().rpartition("error: ")[2].strip()
        raise wrong_flags(why, flags) from e
    values = options.get_all_options()
    if values["direct_running_mode"] == "multi_threading":  # its timed flush cuts elements apart
        raise wrong_flags("multi_threading loses data in Beam 2.77, leave it out or take multi_processing", flags)
    module, extra = _EXTRAS.get(standard.runner, ("", ""))
    if module and not _installed(module):
        raise wrong_flags(f"{standard.runner} needs packages that are not installed: pip install '{extra}'", flags)
    for name in _FILES:
        if (path := values.get(name)) and "://" not in path and (fault := _fault(path)):
            raise wrong_flags(f"--{name} must be the absolute path of a file that is there, {path} {fault}", flags)
    if invalid := _invalid(options):
        raise wrong_flags("; ".join(invalid), flags)
    return options


def _known_runner(name: str | None) -> str:
    """Beam's name of a runner in whatever way the flag was written. Raises ValueError where there is none."""
    from apache_beam.options.pipeline_options import StandardOptions

    names = {known.lower(): known for known in StandardOptions.KNOWN_RUNNER_NAMES}
    if "." in (name := name or LOCAL):  # a class by its module
        module, _, own = name.rpartition(".")
        if not (module.startswith("apache_beam.") and own.lower() in names):
            return name
        name = own
    known = names.get(name.lower()) or names.get(f"{name.lower()}runner")
    if known is None:
        near = nearest_name(name, names.values(), cutoff=0.5)
        listed = f", did you mean {near}?" if near else f": {', '.join(sorted(names.values()))}"
        raise ValueError(f"there is no runner {name}{listed}")
    return LOCAL if known == "DirectRunner" else known


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _from_home(flag: str) -> str:
    """A flag for a file with its ``~``, which a shell leaves alone behind an ``=``, written out."""
    name, sign, path = flag.partition("=")
    return f"{name}{sign}{os.path.expanduser(path)}" if name.lstrip("-") in _FILES else flag


def _fault(path: str) -> str:
    if not os.path.isabs(path):
        return f"is relative: write {os.path.abspath(os.path.expanduser(path))}"
    return "" if os.path.isfile(path) else "is not there"


def _invalid(options: "PipelineOptions") -> list[str]:
    """What Beam's own validation says, which it would say only when the first pipeline starts."""
    from apache_beam.options.pipeline_options import StandardOptions
    from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
    from apache_beam.runners.runner import create_runner

    name = options.view_as(StandardOptions).runner
    try:
        runner = create_runner(name)
    except (AttributeError, ImportError) as e:
        return [f"the runner {name} cannot be loaded: {e}"]
    return [" ".join(error.split()) for error in PipelineOptionsValidator(options, runner).validate()]


def wrong_flags(why: str, flags: Sequence[str]) -> ConfigError:
    """The error of flags for Beam."""
    return ConfigError(f"flags for Beam, after --: {why}; got {' '.join(flags) or 'none'}")


def package_of(flags: Sequence[str]) -> str | None:
    """What workers get of topkin by ``--package``, the one flag of ours: wheel, sdist or none; None where not given."""
    kinds = [flag.partition("=")[2] for flag in flags if flag.partition("=")[0] == _PACKAGE]
    if wrong := [kind for kind in kinds if kind not in PACKAGES]:
        near = nearest_name(wrong[0], PACKAGES)
        cure = f", did you mean {near}?" if near else ""
        raise wrong_flags(f"--package must be one of {', '.join(PACKAGES)}, it is {wrong[0] or 'empty'}{cure}", flags)
    return kinds[-1] if kinds else None


def target_of(options: "PipelineOptions") -> Target:
    """Where a job with these options goes, as far as the options tell."""
    values = options.get_all_options()
    runner = values["runner"]
    if runner in _IN_PROCESS:
        return Target(runner, remote=False, own=True)
    embedded = (runner == PRISM and not values["job_endpoint"]) or values["job_endpoint"] == "embed"
    environment = _environment(values)
    server = values["job_endpoint"] or ""
    if runner in ("FlinkRunner", "SparkRunner"):
        server = values["flink_master" if runner == "FlinkRunner" else "spark_master_url"]
    here = embedded or _starts_cluster(values) or _host(server) in _HERE
    if runner == DATAFLOW or environment == "DOCKER":
        remote = True
    elif environment == "EXTERNAL":
        remote = _host(str(values["environment_config"])) not in _HERE
    elif environment == "PROCESS":
        remote = not here
    else:
        remote = False
    return Target(runner, remote=remote, own=embedded and environment in ("LOOPBACK", "PROCESS"))


def _environment(values: dict[str, str]) -> str:
    """The environment that is named, as a word or by its URN, or else the one that Beam takes."""
    if named := values["environment_type"]:
        return re.sub(r"beam:env:(?:embedded_python_)?(\w+):v1", r"\1", named).upper()
    return "LOOPBACK" if values["runner"] == PRISM or _starts_cluster(values) else "DOCKER"


def _starts_cluster(values: dict[str, str]) -> bool:
    """Whether the job server runs Flink or Spark in itself."""
    if values["runner"] == "SparkRunner":
        return re.fullmatch(r"local(\[.+\])?", values["spark_master_url"]) is not None
    return values["runner"] == "FlinkRunner" and values["flink_master"] in ("[local]", "[auto]")


def _host(address: str) -> str:
    try:
        return urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:
        return address


def refuse_template(flags: Sequence[str]) -> None:
    """Raise ConfigError where a template is asked for by who waits for a job: a template starts none."""
    if flags and beam_options(flags).get_all_options().get("template_location"):
        raise wrong_flags(
            "a template starts no job that could be waited for: --no-wait writes one of the next stage that is one "
            "pipeline, or leave out --template_location",
            flags,
        )


def refuse_local_paths(settings: RunSettingsOfAnyKind, flags: Sequence[str]) -> None:
    """Raise ConfigError where workers would look for a file of this machine on their own; names all such keys.

    A path that begins with ``file:///`` is taken at its word: every worker has that disk mounted.
    """
    if not flags or not target_of(beam_options(flags)).remote:
        return
    here = {key: path for key, path in _worker_paths(settings).items() if "://" not in path}
    if here:
        key, path = next(iter(here.items()))
        raise wrong_flags(
            f"{', '.join(here)} must be where every worker finds it, {key} is {path} of this machine: write it as "
            f"s3://…, gs://… or abfs://…, or file://{path} where all workers have that disk mounted",
            flags,
        )


def _worker_paths(settings: RunSettingsOfAnyKind) -> dict[str, str]:
    """The paths of a configuration that workers open, by key; item lists are read here."""
    paths = {f"events.{name}.path": event.path for name, event in getattr(settings, "events", {}).items()}
    for *sections, key in PATHS:
        value: object = settings
        for name in (*sections, key):
            value = getattr(value, name, None)
        if isinstance(value, str) and value and sections != ["recommend"]:
            paths[".".join((*sections, key))] = value
    return paths
