"""The documentation is generated, builds, and every configuration and command in it is right."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from docs import generate
from topkin.config.items_run import ItemsRunSettings, kind_of
from topkin.config.sections import Settings
from topkin.pipelines.cli import app

ROOT = Path(__file__).resolve().parents[2]
# Recipes name commands and keys that a reader is about to add.
WRITTEN = [page for page in (ROOT / "docs").rglob("*.md") if not {"_build", "contributing"} & set(page.parts)]
PAGES = sorted([*WRITTEN, *(ROOT / "examples").glob("*.md"), *ROOT.glob("*.md")])
CONFIGS = sorted((ROOT / "examples").glob("*.toml"))


NOT_TYPED = {
    **{name: ["x"] for name in ("show", "init", "match", "query", "export")},
    "explain": ["x", "y"],
    "forget": ["--users", "x"],
}
"""What a command takes, which a page that names the command alone leaves out."""


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in some languages."""
    matches = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for language, text in matches if language in languages]


def commands(page: Path) -> list[str]:
    """Every ``topkin …`` on a page: in console blocks (after $) and in inline code."""
    lines = "\n".join(blocks(page, "console", "bash", "sh")).replace("\\\n", " ").splitlines()
    typed = [line.removeprefix("$ ").strip() for line in lines if line.startswith(("$ ", "topkin "))]
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    typed += re.findall(r"`(topkin [a-z][^`]*)`", text)
    return [command for line in typed if (command := re.sub(r"^([A-Z_0-9]+=\S+ +)+", "", line)).startswith("topkin ")]


def parse(command: str) -> None:
    """Parse a command as the command line would, and do nothing. Raises SystemExit or a usage error."""
    words = [w for w in shlex.split(command, comments=True)[1:] if w not in ("COMMAND", "…", "<stage>")]
    group: Any = typer.main.get_command(app.app)
    if not words or words[0].startswith("-"):
        assert set(words) <= {"--help", "--version", "-h", "--install-completion"}, command
        return
    assert words[0] in group.commands, command
    if not {"--help", "-h"} & set(words):
        required = NOT_TYPED.get(words[0], []) if len(words) == 1 else []
        group.commands[words[0]].make_context(words[0], [*words[1:], *required])


@pytest.mark.parametrize("name", generate.PAGES)
def test_generated_pages_are_up_to_date(name: str) -> None:
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert page == generate.PAGES[name](page), "run: python -m docs.generate"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_configuration_on_a_page_is_valid(page: Path) -> None:
    for text in blocks(page, "toml"):
        values = tomllib.loads(text)
        if "purchases" not in values and ("queries" in values or "method" in values.get("train", {})):
            ItemsRunSettings.model_validate(
                {"items": {"path": "x", "label": "x"}, "encoder": {"inputs": {"x": "x"}}, **values}
            )
            continue
        values.setdefault("purchases", {}).setdefault("path", "x")
        for section in ("items", "users"):
            values.get(section, {}).setdefault("path", "x")
        Settings.model_validate(values)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_example_configuration_is_valid(path: Path) -> None:
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    kind_of(values).model_validate(values)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_is_accepted(page: Path) -> None:
    for command in commands(page):
        parse(command)


def test_the_checks_find_commands_and_refuse_wrong_ones() -> None:
    assert "topkin train" in commands(ROOT / "docs" / "getting_started.md")
    assert len(commands(ROOT / "docs" / "cli.md")) >= 13
    for wrong in ("topkin nonsense", "topkin train --epochs 3", "topkin demo --users many", "topkin --nonsense"):
        with pytest.raises(Exception, match=r"nonsense|epochs|whole number"):
            parse(wrong)


def test_the_example_in_each_commands_help_is_accepted() -> None:
    group: Any = typer.main.get_command(app.app)
    for command in group.commands.values():
        parse(command.epilog.removeprefix("Example: "))


def test_the_codes_on_the_page_of_errors_are_those_of_the_command() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)] == list(app.EXIT_CODES)


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="needs the extra docs")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "-d", str(tmp_path / "trees")]
    done = subprocess.run(
        [*command, "docs", str(tmp_path / "html")], cwd=ROOT, capture_output=True, text=True, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "cli.html").exists()
