"""What is in ``deploy/``, by the parsers of who would read it, with the commands and versions of this checkout."""

import ast
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import typer

from topkin.config.sections import Settings
from topkin.pipelines.cli import app
from topkin.pipelines.engine.runner import beam_options

DEPLOY = Path(__file__).parents[2] / "deploy"
yaml = pytest.importorskip("yaml")


def locked(path: Path) -> dict[str, str]:
    """The versions of a lock by name."""
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[\S+\])?==([^\s;]+)", path.read_text(), re.MULTILINE))


def accept(words: list[str]) -> None:
    """Parse a command as the command line would, with its flags for Beam. Raises a usage error or ConfigError."""
    group: Any = typer.main.get_command(app.app)
    context = group.commands[words[0]].make_context(words[0], list(words[1:]))
    beam_options(context.params["beam"] or []) if "beam" in context.params else None


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def test_the_images_are_those_of_the_locked_beam_and_tensorflow() -> None:
    parser = pytest.importorskip("dockerfile_parse").DockerfileParser(path=str(DEPLOY / "Dockerfile"))
    versions = locked(DEPLOY.parent / "requirements.lock")
    stages = {i["value"].split()[-1]: i["value"].split()[0] for i in parser.structure if i["instruction"] == "FROM"}
    image = f"apache/beam_python3.11_sdk:{versions['apache-beam']}"
    assert stages == {"build": image, "worker": image, "gpu": "worker", "launcher": "worker"}
    text = parser.content
    assert f"tensorflow[and-cuda]=={versions['tensorflow']}" in text
    for step in (i for i in parser.structure if i["instruction"] == "COPY" and "--from" not in i["value"]):
        assert (DEPLOY.parent / step["value"].split()[0]).exists()
    assert parser.structure[-1]["value"] == '["topkin"]'


def test_workers_get_the_locked_versions_with_hashes() -> None:
    ours, all_of_them = locked(DEPLOY / "requirements.lock"), locked(DEPLOY.parent / "requirements.lock")
    assert {"apache-beam", "obstore", "tensorflow", "pyarrow", "nmslib"} <= set(ours)
    assert {name: all_of_them[name] for name in ours} == ours
    assert "pytest" not in ours
    entries = re.split(r"\n(?=[a-z0-9])", (DEPLOY / "requirements.lock").read_text())
    assert all("--hash=sha256:" in entry for entry in entries if "==" in entry)


def test_kubernetes_takes_the_night_and_topkin_takes_its_configuration() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    config, night = documents("kubernetes.yaml")
    for resource in (config, night):
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)
    Settings.model_validate(tomllib.loads(config["data"]["topkin.toml"]))
    job = night["spec"]["jobTemplate"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    accept(container["args"])
    refused = job["podFailurePolicy"]["rules"][0]["onExitCodes"]
    assert refused["containerName"] == container["name"]
    assert set(refused["values"]) <= set(app.EXIT_CODES)


def test_the_demo_is_built_from_a_stage_of_the_dockerfile() -> None:
    (composed,) = documents("compose.yaml")
    (demo,) = composed["services"].values()
    assert f" AS {demo['build']['target']}\n" in (DEPLOY / "Dockerfile").read_text()
    assert (DEPLOY / demo["build"]["context"] / demo["build"]["dockerfile"]).is_file()
    accept(demo["command"])
    (volume,) = demo["volumes"]
    assert not volume["bind"]["create_host_path"]  # it would be root's, and the demo is not
    assert f"mkdir -p {Path(volume['source']).name} " in (DEPLOY / "compose.yaml").read_text()


def test_the_dag_is_python_and_its_commands_are_topkins() -> None:
    tree = ast.parse((DEPLOY / "airflow_dag.py").read_text())
    typed = []
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "bash_command":
            assert isinstance(node.value, ast.JoinedStr)
            parts = [p.value if isinstance(p, ast.Constant) else "x.toml" for p in node.value.values]
            typed.append("".join(map(str, parts)).replace("{{ data_interval_end | ds }}", "2026-01-01"))
    assert len(typed) == 2
    for command in typed:
        words = shlex.split(command.removeprefix("exec "))
        assert words[0] == "topkin"
        accept(words[1:])


class SkipError(Exception):
    pass


class FailError(Exception):
    pass


class Bash(MagicMock):
    """Airflow's operator, of a command that ended with a code to skip on."""

    def execute(self, context: object) -> None:
        raise SkipError


def test_the_dag_does_not_try_again_what_comes_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    airflow = MagicMock()
    monkeypatch.setitem(sys.modules, "airflow.sdk", airflow)
    monkeypatch.setitem(sys.modules, "airflow.providers.standard.operators.bash", SimpleNamespace(BashOperator=Bash))
    exceptions = SimpleNamespace(AirflowFailException=FailError, AirflowSkipException=SkipError)
    monkeypatch.setitem(sys.modules, "airflow.sdk.exceptions", exceptions)
    names = runpy.run_path(str(DEPLOY / "airflow_dag.py"))
    for task in ("check", "run"):
        with pytest.raises(FailError):
            names[task].execute({})
    night = documents("kubernetes.yaml")[1]["spec"]["jobTemplate"]["spec"]
    codes = night["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
    assert airflow.DAG.call_args.kwargs["default_args"]["skip_on_exit_code"] == codes


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_takes_the_service_and_its_timer(tmp_path: Path) -> None:
    for name in ("topkin.service", "topkin.timer"):
        shutil.copy(DEPLOY / name, tmp_path)
    units = [str(tmp_path / "topkin.service"), str(tmp_path / "topkin.timer")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_service_runs_a_command_of_topkin() -> None:
    text = (DEPLOY / "topkin.service").read_text()
    (command,) = re.findall(r"^ExecStart=/usr/bin/env topkin (.*)$", text, re.MULTILINE)
    accept(shlex.split(command))
    (state,) = re.findall(r"^StateDirectory=(.*)$", text, re.MULTILINE)
    assert f"--set run.output=/var/lib/{state}/" in command  # all else is read-only
    codes = re.findall(r"^RestartPreventExitStatus=(.*)$", text, re.MULTILINE)[0].split()
    assert set(map(int, codes)) <= set(app.EXIT_CODES)
