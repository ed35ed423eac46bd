"""The page on adding a stage: its two files, put into a copy of the source, are a stage like all others."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from topkin.synthetic.shop import Shop

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source with the page's module and its line in the registry."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("topkin", "models", "transforms", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    page = (ROOT / "docs" / "contributing" / "stage.md").read_text(encoding="utf-8")
    module, entry = re.findall(r"^   ```python\n(.*?)^   ```$", page, re.MULTILINE | re.DOTALL)
    (folder / "pipelines" / "count.py").write_text(textwrap.dedent(module))
    registry = folder / "pipelines" / "engine" / "registry.py"
    before, last, rest = registry.read_text().partition('    "evaluate": ')
    registry.write_text(before + textwrap.indent(textwrap.dedent(entry), "    ") + last + rest)
    shop = Shop(users=60, items=30, purchases=600, seed=1)
    shop.write(str(folder / "shop"))
    (folder / "topkin.toml").write_text(shop.config_toml("shop"))
    return folder


def topkin(source: Path, *args: str) -> str:
    command = [sys.executable, "-m", "topkin", *args]
    env = {**os.environ, "PYTHONPATH": str(source), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=source, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_stage_of_the_page_is_a_command_is_planned_and_runs(source: Path) -> None:
    assert "Count the users by their purchases." in topkin(source, "--help")
    planned = json.loads(topkin(source, "run", "--dry-run", "--json"))
    assert [stage["stage"] for stage in planned["stages"]][-3:] == ["count", "evaluate", "report"]
    topkin(source, "prepare", "--quiet")
    folder = json.loads(topkin(source, "count", "--json"))["folders"]["count"]
    assert folder.endswith("/counts")
    counts = json.loads(Path(folder, "counts.json").read_text())
    assert sum(counts.values()) == json.loads(Path(folder, "manifest.json").read_text())["summary"]["users"] > 0
