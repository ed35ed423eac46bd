"""The page on metric learning: its snippets run, its names exist, its table holds every loss."""

import importlib
import re
import textwrap
import tomllib
from pathlib import Path

import keras
import numpy as np
import pytest

from topkin.config.items_train import ItemsTrainSettings
from topkin.models import distances, losses, miners, reducers, samplers

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "metric_learning.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_snippets_run_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    keras.utils.set_random_seed(0)
    assert len(SNIPPETS) >= 10
    names: dict[str, object] = {"__name__": "page"}
    for snippet in SNIPPETS:
        line = PAGE[: PAGE.index(snippet)].count("\n")
        exec(compile("\n" * line + snippet, "docs/metric_learning.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "Neighbour(rank=1" in printed
    assert "recall_any@1" in printed


def test_the_page_imports_from_one_place_only() -> None:
    modules = re.findall(r"^ *(?:from|import) (topkin[\w.]*)", "".join(SNIPPETS), re.MULTILINE)
    # The measures of retrieval and clustering are not of the models: they need no TensorFlow.
    assert {m for m in modules if not m.startswith("topkin.metrics.")} == {"topkin.models"}


def test_every_part_in_the_table_exists_and_none_is_missing() -> None:
    spaces = (distances, losses, miners, reducers)
    abstract = {"Distance", "ListLoss", "Loss", "MetricLoss", "Miner", "ProxyLoss", "Reducer"}
    names = {name for space in spaces for name in space.__all__} - abstract
    table = PAGE[PAGE.index("| part | there are |") :].split("\n\n")[0]
    assert set(re.findall(r"`([A-Z]\w+)`", table)) == names


def test_every_sampler_the_page_names_is_one() -> None:
    named = set(re.findall(r"`samplers\.(\w+)", PAGE))
    assert len(named) >= 6
    assert named <= set(samplers.__all__)


def test_the_loss_of_the_recipe_is_what_its_docstring_says() -> None:
    text = (ROOT / "docs" / "contributing" / "metric_loss.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"^   ```python\n(.*?)^   ```", text, re.MULTILINE | re.DOTALL)
    names = {
        **vars(importlib.import_module("topkin.models.metric_learning.losses.pair")),
        "serializable": lambda kind: kind,
    }
    exec(compile(textwrap.dedent(snippet), "docs/contributing/metric_loss.md", "exec"), names)
    rows = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    # The pair of one class is at 5, the others at 1 and the root of 18.
    expected = (5 - 1.2 + 0.2) + np.mean([1.2 - 1 + 0.2])
    assert float(names["Margin"](0.2, 1.2)(np.array([0, 0, 1]), rows)) == pytest.approx(expected, rel=1e-5)


def test_the_table_of_losses_has_a_row_for_every_case_of_the_example() -> None:
    source = (ROOT / "examples" / "losses_fashion.py").read_text(encoding="utf-8")
    cases = re.findall(r'^    "(\w+)": Case\(', source, re.MULTILINE)
    table = PAGE[PAGE.index("| `--loss` |") :].split("\n\n")[0]
    assert len(cases) >= 21
    assert set(re.findall(r"^\| (\w+) \|", table, re.MULTILINE)) == {*cases, "raw_pixels", "untrained"}


def test_the_section_of_a_run_over_items_is_one_that_the_settings_take() -> None:
    [text] = re.findall(r"^```text\n\[train\]\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    train = ItemsTrainSettings.model_validate(tomllib.loads(text))
    assert train.chosen_loss.arguments == {"alpha": 2.0}
