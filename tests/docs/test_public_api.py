"""Every public name has an example that runs, the lines of the README run, and the reference names them all."""

import doctest
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import topkin

ROOT = Path(__file__).resolve().parents[2]
CALLABLES = [name for name in topkin.__all__ if callable(getattr(topkin, name))]


def examples_of(name: str, value: Any) -> list[doctest.DocTest]:
    """The examples in the docstring of a public name, not of what a class inherits."""
    test = doctest.DocTestParser().get_doctest(value.__doc__ or "", {}, name, None, 0)
    return [test] if test.examples else []


@pytest.mark.parametrize("name", CALLABLES)
def test_every_public_name_has_an_example_that_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tests = examples_of(name, getattr(topkin, name))
    assert tests, f"topkin.{name} needs an example: a doctest under Examples: in its docstring"
    assert "Examples:" in getattr(topkin, name).__doc__
    for test in tests:
        failed = doctest.DocTestRunner(verbose=False).run(test).failed
        assert not failed, capsys.readouterr().out


def test_the_reference_has_every_public_name() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    named = set(re.findall(r"(?:auto(?:function|class|module)|data):: topkin\.(\w+)$", pages, re.MULTILINE))
    assert set(topkin.__all__) - {"__version__"} <= named


def test_the_lines_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 7
    pairs = [("17850", "22423"), ("17850", "85123A"), ("13047", "22423"), ("13047", "71053"), ("12583", "71053")]
    users, items = zip(*pairs, strict=True)
    table = pa.table({"user_id": users, "item_id": items, "timestamp": ["2011-11-01"] * len(pairs)})
    pq.write_table(table, tmp_path / "purchases.parquet")
    monkeypatch.chdir(tmp_path)
    values: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), values)
    assert set(values["lists"]["user_id"].to_pylist()) == {"17850", "13047"}
    assert len(values["why"]) >= 1
