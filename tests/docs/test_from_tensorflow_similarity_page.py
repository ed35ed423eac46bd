"""The page for users of TensorFlow Similarity runs, its names exist, and so does the notebook's every cell."""

import json
import re
from pathlib import Path
from typing import Any

import keras
import pytest

from topkin import models
from topkin.models import SimilarityModel, distances, losses, miners, samplers

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "from_tensorflow_similarity.md").read_text(encoding="utf-8")
SPACES = {"losses": losses, "miners": miners, "samplers": samplers, "distances": distances}


def test_the_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    names: dict[str, Any] = {}
    for code in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(code, "docs/from_tensorflow_similarity.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "Total params" in printed
    assert "mug " in printed
    assert "(precision of at least 0.95): precision" in printed
    assert (tmp_path / "neighbours.png").exists()
    assert names["learner"].encoder is names["again"].encoder
    assert len(names["again"].items) == 80


def test_every_name_on_our_side_exists() -> None:
    table = PAGE[PAGE.index("| TensorFlow Similarity |") :].split("\n\n")[0].splitlines()[2:]
    ours = " ".join(row.split(" | ", 1)[1] for row in table) + PAGE.split("From pytorch-metric-learning:")[1]
    matches = re.findall(r"(losses|miners|samplers|distances)\.(\w+)", ours)
    assert len(matches) > 30
    assert not [f"{space}.{name}" for space, name in matches if not hasattr(SPACES[space], name)]
    for row in table:
        theirs, here, _ = row.strip("|").split(" | ", 2)
        if "the same in `losses`" in here or "the same in `samplers`" in here:
            space = losses if "`losses`" in here else samplers
            assert all(hasattr(space, name) for name in re.findall(r"`(\w+)", theirs)), theirs
        for name in re.findall(r"model\.(\w+)", here):
            assert hasattr(SimilarityModel, name) or name == "encoder", name
        for name in re.findall(r"`([A-Z]\w+)`", here):
            assert name in models.__all__, name


def test_every_cell_of_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    book = json.loads((ROOT / "examples" / "hello_world.ipynb").read_text(encoding="utf-8"))
    assert (book["nbformat"], len({cell["id"] for cell in book["cells"]})) == (4, len(book["cells"]))
    names: dict[str, Any] = {}
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec(compile("".join(cell["source"]), f"hello_world.ipynb {cell['id']}", "exec"), names)
    assert names["figures"]["recall_any@1"] > 0.8
    assert names["again"].match(names["x_test"][:1]) == names["matches"][:1]
