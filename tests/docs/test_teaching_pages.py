"""The tutorial and the how-to pages do what they say: every snippet and command is run, in its order, in a folder."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from topkin.pipelines.cli.app import main

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [DOCS / "tutorial.md", *sorted((DOCS / "howto").glob("*.md"))]
NOT_RUN = "# elsewhere"
"""What needs more than a test has, behind a command: it is parsed alone, by the tests of all pages."""


def steps(page: Path) -> list[tuple[str, str]]:
    """Snippets of Python, commands, and files to write, in the page's order."""
    blocks_of = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    done: list[tuple[str, str]] = []
    for language, text in blocks_of:
        if language == "console":
            done += [("command", line[2:]) for line in text.splitlines() if line.startswith("$ topkin ")]
        elif language == "python" or (language == "toml" and text.startswith("# topkin.toml")):
            done.append((language, text))
    return done


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for kind, text in steps(page):
        if kind == "python":
            exec(compile(text, page.name, "exec"), names)
        elif kind == "toml":
            Path("topkin.toml").write_text(text)
        elif NOT_RUN not in text:
            assert main(shlex.split(text, comments=True)[1:]) == 0, (text, capsys.readouterr().err)


def test_every_page_but_the_index_has_something_that_runs() -> None:
    idle = [page.stem for page in PAGES if not steps(page)]
    assert idle == ["index"]
    for page in PAGES:
        for kind, text in steps(page):
            if kind == "python":
                ast.parse(text)
