"""The lines of the page on evaluation that fit a baseline by its name run, and give its best items."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topkin.config.sections import Settings
from topkin.interactions import Interactions

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("small_run", ["string"], indirect=True)
def test_the_lines_that_fit_a_baseline_give_its_best_items(
    small_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "topkin-out").symlink_to(small_run.root)
    (lines,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    summaries: dict[str, Any] = {}
    exec(compile(lines, "docs/evaluation.md", "exec"), summaries)
    history: Interactions = summaries["history"]
    rows = summaries["rows"]
    assert rows.shape == (history.n_users, 10) == (20, 10)
    scores = summaries["model"].scores(history)
    for user in range(history.n_users):
        own = history.items[history.indptr[user] : history.indptr[user + 1]]
        left = [i for i in range(4) if i not in own]
        assert rows[user][rows[user] >= 0].tolist() == sorted(left, key=lambda i, u=user: (-scores[u, i], i))
    assert np.isneginf(summaries["scores"][:, 4:]).all()


def test_every_baseline_of_the_page_can_be_the_model() -> None:
    table = PAGE.partition("## Baselines")[2].partition("###")[0]
    names = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert len(names) == 14
    for name in names:
        values = {"purchases": {"path": "x"}, "recommend": {"model": name}}
        assert Settings.model_validate(values).recommend.model == name
