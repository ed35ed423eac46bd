"""Who only reads needs neither TensorFlow nor Keras nor Beam; what makes a run says that it lacks them."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
HEAVY = {"apache-beam", "keras", "tensorflow"}
WITHOUT = """
import json, sys
from importlib import metadata

class Refused:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras", "apache_beam"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refused)
version = metadata.version
def refused(name):
    if name in ("tensorflow", "keras", "apache-beam"):
        raise metadata.PackageNotFoundError(name)
    return version(name)
metadata.version = refused
from topkin.pipelines.cli.app import main
"""


def alone(script: str, *args: str) -> subprocess.CompletedProcess[str]:
    """A process in which the heavy libraries are not installed."""
    return subprocess.run(
        [sys.executable, "-c", f"{WITHOUT}\n{script}", *args], capture_output=True, text=True, check=False
    )


def test_commands_and_recommender_read_a_run_without_the_heavy_libraries(published: Path) -> None:
    config = f"--config={published}"
    commands = [["show", "100", config], ["explain", "100", "i00", config], ["runs", "verify", config]]
    commands += [["query", "SELECT count(*) FROM recommendations", config], ["check", config], ["runs", config]]
    done = alone(
        "for command in json.loads(sys.argv[1]):\n    assert main(command) == 0, command\n"
        "import topkin\nmade = topkin.Recommender.load(sys.argv[2])\n"
        "assert made.recommend(100).num_rows == 3 and made.recommend(100, k=9).num_rows > 3\n"
        "made.similar_items('i00'), made.why(100, 'i00'), made.explain(100, 'i00')",
        json.dumps(commands),
        str(published.parent / "topkin-out"),
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["run", "train"])
def test_what_makes_a_run_says_what_it_lacks(published: Path, command: str) -> None:
    done = alone("sys.exit(main(json.loads(sys.argv[1])))", json.dumps([command, f"--config={published}"]))
    assert done.returncode == 2
    assert re.fullmatch(r"topkin: (apache-beam|tensorflow|keras) is not installed, .* for readers; .*\n", done.stderr)


def test_the_readers_list_is_the_projects_without_the_heavy_libraries() -> None:
    lines = (ROOT / "deploy" / "readers.txt").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [need for need in project["dependencies"] if re.split(r"[<>=]", need)[0] not in HEAVY]
    assert sorted(line for line in lines if not line.startswith("#")) == sorted(wanted)


@pytest.mark.slow
def test_a_wheel_of_the_checkout_works_outside_of_it(tmp_path: Path) -> None:
    source, target, away = tmp_path / "source", tmp_path / "target", tmp_path / "away"
    for name in ("topkin", "models", "transforms", "pipelines"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", str(target), str(source)], check=True)
    shutil.rmtree(source)
    away.mkdir()
    script = "import sys, topkin; from topkin.pipelines.cli.app import main; print(topkin.__file__)"
    script += "; sys.exit(main(sys.argv[1:]))"
    env = {"PYTHONPATH": str(target), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    demo = ["demo", "--output", "demo", "--users", "200", "--items", "80", "--purchases", "4000", "--quiet", "--json"]
    done = subprocess.run([sys.executable, "-c", script, *demo], cwd=away, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    at, result = done.stdout.splitlines()[0], done.stdout.splitlines()[-1]
    assert at.startswith(str(target))
    assert json.loads(result)["published"]
