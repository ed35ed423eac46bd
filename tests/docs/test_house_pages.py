"""The pages for those who carry on name what is there: code, packages, files, and decisions in their form."""

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.md"), *DOCS.rglob("*.md")])


def resolve(name: str) -> Any:
    """The module, class or function of a dotted name. Raises ImportError or AttributeError where there is none."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            value = getattr(value, part)
        return value
    raise ImportError(name)


def glossary() -> dict[str, str]:
    """The dotted name of each term."""
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\*\*(.+)\*\*\n: .+\n  `([\w.]+)`$", text, re.MULTILINE))


def layers(container: str) -> list[set[str]]:
    """The layers of a package by its import contract, the lowest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (names,) = (c["layers"] for c in contracts if c.get("containers") == [container])
    return [set(layer.split(" | ")) for layer in reversed(names)]


def test_the_glossary_is_sorted_and_names_code_for_each_term() -> None:
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    terms = list(glossary())
    assert len(terms) == len(re.findall(r"^: ", text, re.MULTILINE)) >= 50
    assert terms == sorted(terms, key=str.lower)


@pytest.mark.parametrize(("term", "name"), glossary().items())
def test_every_term_of_the_glossary_lives_where_it_says(term: str, name: str) -> None:
    resolve(name)


def test_a_name_that_is_not_there_is_noticed() -> None:
    for wrong in ("topkin.encoding.no_module", "topkin.encoding.blocks.Nothing", "topkin.errors.ConfigError.nothing"):
        with pytest.raises((ImportError, AttributeError)):
            resolve(wrong)


@pytest.mark.parametrize("page", [*DECISIONS, DOCS / "architecture.md"], ids=lambda page: page.stem)
def test_modules_named_on_a_page_are_there(page: Path) -> None:
    if "Status: superseded" in (text := page.read_text(encoding="utf-8")):
        pytest.skip("what it decided is gone")
    for name in re.findall(r"`(topkin(?:\.\w+)+)[`(]", text):
        resolve(name)


def test_the_map_of_packages_is_the_import_contract() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    core = re.findall(r"^\| `topkin\.(\w+)` \| .+ \| (\d+) \|$", text, re.MULTILINE)
    contract = {name: str(n) for n, row in enumerate(layers("topkin"), 1) for name in row if name != "__main__"}
    assert dict(core) == contract
    inner = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| .+ \| (\d+) \|$", text, re.MULTILINE)
    mapped = {name: n for names, n in inner for name in re.findall(r"\w+", names)}
    assert mapped == {name: str(n) for n, row in enumerate(layers("topkin.models"), 1) for name in row}


def test_the_picture_shows_every_package() -> None:
    shown = set(re.findall(r">(\w+)</text>", (DOCS / "architecture.svg").read_text(encoding="utf-8")))
    assert {name for row in layers("topkin") for name in row} - {"__main__"} <= shown


def test_decisions_are_numbered_dated_and_in_the_index() -> None:
    index = (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"^\d{4}-\S+$", index, re.MULTILINE) == [page.stem for page in DECISIONS]
    for number, page in enumerate(DECISIONS, 1):
        text = page.read_text(encoding="utf-8")
        assert page.name.startswith(f"{number:04d}-")
        title, when, status = re.match(r"# (\d+)\. .+\n\n- Date: (\S+)\n- Status: (.+)\n", text).groups()  # type: ignore[union-attr]
        assert int(title) == number
        date.fromisoformat(when)
        assert re.fullmatch(r"proposed|accepted|superseded by \[\]\(\d{4}-[\w-]+\.md\)", status), page.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_on_a_page_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "NNNN" not in target and not re.match(r"\w+:", target):
            assert (page.parent / target).exists(), target


def test_the_citation_has_the_version_of_the_project() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^([\w-]+): \"?([^\"\n]+)\"?$", text, re.MULTILINE))
    assert fields["cff-version"] == "1.2.0"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (fields["title"], fields["version"], fields["license"]) == tuple(
        project[k] for k in ("name", "version", "license")
    )


def test_every_benchmark_that_is_named_is_there() -> None:
    files = sorted((ROOT / "benchmarks").glob("*/*.py"))
    names = [path.stem for path in files if not path.stem.startswith("_")]
    assert len(names) == len(set(names)), "python -m benchmarks NAME finds one"
    pages = [*PAGES, *files, ROOT / "topkin" / "planning" / "costs.py"]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    modules = set(re.findall(r"python -m benchmarks\.([\w.]+\w)", text))
    folders = {path.parent.name for path in files if path.stem == "__main__"}
    assert {f"{path.parent.name}.{path.stem}" for path in files} | folders >= modules
    assert set(re.findall(r"python -m benchmarks (\w+)", text)) - set(names) == set()
    assert len(modules) >= 10


def code() -> Iterator[ast.AST]:
    """All nodes of the package's modules."""
    for folder in ("topkin", "transforms", "models", "pipelines"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def test_a_public_class_name_has_one_meaning() -> None:
    names = Counter(node.name for node in code() if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))
    assert [name for name, times in names.items() if times > 1] == []


def test_few_parameters_are_annotated_with_any() -> None:
    arguments = [node for node in code() if isinstance(node, ast.arg) and node.arg not in ("self", "cls")]
    loose = [a for a in arguments if isinstance(a.annotation, ast.Name) and a.annotation.id == "Any"]
    assert len(arguments) > 5000
    assert len(loose) <= 0.02 * len(arguments)


def test_variables_are_named_for_what_they_hold() -> None:
    names = {n.id for n in code() if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    names |= {node.arg for node in code() if isinstance(node, ast.arg)}
    assert names & {"told", "made", "found", "said", "say"} == set()
