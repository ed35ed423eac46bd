"""``topkin.models``: its names are importable from one place, cost nothing until used, and their examples run."""

import ast
import doctest
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest

import topkin.models

NAMESPACES = ("distances", "losses", "miners", "reducers", "samplers")
NAMES = [name for name in topkin.models.__all__ if name not in NAMESPACES]
NAMES += [f"{space}.{name}" for space in NAMESPACES for name in getattr(topkin.models, space).__all__]


def named(name: str) -> Any:
    value: Any = topkin.models
    for part in name.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_an_example_that_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples find ``np`` and ``keras``, and write into a folder of their own."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    text = inspect.cleandoc(named(name).__doc__ or "")  # its own: a class inherits none
    examples = doctest.DocTestParser().get_doctest(text, {"np": np, "keras": keras}, name, None, None)
    assert examples.examples, f"{name} must have a docstring with Examples: that run, it has none"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    report: list[str] = []
    runner.run(examples, out=report.append)
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize("space", NAMESPACES)
def test_a_namespace_lists_its_names_in_order(space: str) -> None:
    module = getattr(topkin.models, space)
    assert isinstance(module, ModuleType)
    assert sorted(module.__all__) == sorted(set(module.__all__))
    assert all(hasattr(module, name) for name in module.__all__)


def test_every_name_is_public_lazy_and_known_to_type_checkers() -> None:
    assert len(topkin.models.__all__) >= 40
    assert set(topkin.models.__all__) <= set(dir(topkin.models))
    tree = ast.parse(Path(topkin.models.__file__).read_text(encoding="utf-8"))
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.name: node.module for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    lazy = {name: f"topkin.models.{module}" for name, module in topkin.models._MODULE.items()}
    assert imported == lazy
    assert sorted(topkin.models.__all__) == sorted(lazy)
    with pytest.raises(AttributeError, match="has no attribute 'SimilarityModell'"):
        _ = topkin.models.SimilarityModell


def test_the_package_alone_imports_neither_tensorflow_nor_keras() -> None:
    code = "import sys, topkin.models; print(sorted({'tensorflow', 'keras', 'apache_beam'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
