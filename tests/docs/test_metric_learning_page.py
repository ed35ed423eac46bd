"""The page on metric learning: its snippets run, its names exist, its table holds every loss."""

import importlib
import re
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "metric_learning.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_snippets_run_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    keras.utils.set_random_seed(0)
    assert len(SNIPPETS) >= 10
    known: dict[str, object] = {"__name__": "page"}
    for snippet in SNIPPETS:
        line = PAGE[: PAGE.index(snippet)].count("\n")
        exec(compile("\n" * line + snippet, "docs/metric_learning.md", "exec"), known)
    said = capsys.readouterr().out
    assert "Neighbour(rank=1" in said
    assert "recall_any@1" in said


def test_every_part_in_the_table_exists_and_none_is_missing() -> None:
    from topkin.models.metric_learning import distances, miners, reducers
    from topkin.models.metric_learning.losses import cross_batch_memory, pair, proxy, ranking, softmax, weighted_sum
    from topkin.models.metric_learning.losses.base import Loss, MetricLoss

    losses = (cross_batch_memory, pair, proxy, ranking, softmax, weighted_sum)
    bases = [*((m, Loss) for m in losses), (distances, distances.Distance), (miners, miners.Miner)]
    abstract = {Loss, MetricLoss, proxy.ProxyLoss, ranking.ListLoss}
    abstract |= {distances.Distance, miners.Miner, reducers.Reducer}
    there = {
        name
        for module, base in [*bases, (reducers, reducers.Reducer)]
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, base) and kind not in abstract
    }
    table = PAGE[PAGE.index("| part | there are |") :].split("\n\n")[0]
    assert set(re.findall(r"`([A-Z]\w+)`", table)) == there


def test_every_module_the_page_names_has_what_it_says() -> None:
    for module, name in set(re.findall(r"`(samplers|parquet_samplers)\.(\w+)", PAGE)):
        assert hasattr(importlib.import_module(f"topkin.models.metric_learning.{module}"), name)
    for name in re.findall(r"`(\w+)`", re.search(r"augmenters of `models.self_supervised.augment`: (.*?)\n", PAGE)[1]):  # type: ignore[index]
        assert hasattr(importlib.import_module("topkin.models.self_supervised.augment"), name)


def test_the_table_of_losses_has_a_row_for_every_case_of_the_example() -> None:
    source = (ROOT / "examples" / "losses_fashion.py").read_text(encoding="utf-8")
    cases = re.findall(r'^    "(\w+)": Case\(', source, re.MULTILINE)
    table = PAGE[PAGE.index("| `--loss` |") :].split("\n\n")[0]
    assert len(cases) >= 21
    assert set(re.findall(r"^\| (\w+) \|", table, re.MULTILINE)) == {*cases, "raw_pixels", "untrained"}
