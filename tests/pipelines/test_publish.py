"""The gate on its own: what the figures of a run must be before it is published."""

from datetime import datetime
from pathlib import Path

import pytest

from topkin.artifacts import runs, storage
from topkin.baselines.registry import BASELINES
from topkin.config.sections import Settings
from topkin.evaluation.summary import MIN_USERS
from topkin.pipelines.engine.registry import ORDER
from topkin.pipelines.publish import refusals


def run_with(root: Path, *, users: int, model: float, baseline: float) -> runs.Run:
    """A run of which the gate's files alone are there."""
    folders = {stage: str(root / stage) for stage in ORDER}
    source = {"rows": 100, "rejected": {"no price": 5}}
    storage.write_json({"sources": {"purchases": source}}, f"{folders['prepare']}/statistics.json")
    storage.write_json({"users_with_list": 50}, f"{folders['recommend']}/lists.json")
    novel = {name: {"ndcg@10": baseline} for name in BASELINES} | {"model": {"ndcg@10": model}} if users else {}
    storage.write_json({"heldout": {"novel_users": users}, "novel": novel}, f"{folders['evaluate']}/metrics.json")
    return runs.Run(str(root), "r", datetime(2024, 5, 1), folders)


@pytest.mark.parametrize(
    ("users", "model", "baseline", "refused"),
    [
        (MIN_USERS, 0.1, 0.2, True),
        (MIN_USERS, 0.2, 0.2, True),
        (MIN_USERS, 0.3, 0.2, False),
        (MIN_USERS - 1, 0.0, 0.0, False),  # three purchases between midnight and the start of the night's job
        (0, 0.0, 0.0, False),
    ],
)
def test_the_model_must_beat_the_baselines_where_enough_users_tell(tmp_path, users, model, baseline, refused):
    settings = Settings.model_validate({"purchases": {"path": "x"}})
    found = refusals(run_with(tmp_path, users=users, model=model, baseline=baseline), settings)
    assert [("is not above popularity's" in reason) for reason in found] == [True] * refused
    assert str(MIN_USERS) in (type(settings.publish).model_fields["must_beat"].description or "")


def test_a_baseline_that_made_the_lists_need_not_beat_itself(tmp_path):
    run = run_with(tmp_path, users=MIN_USERS, model=0.2, baseline=0.2)
    gate = {"must_beat": ["popularity", "user_knn"]}
    settings = Settings.model_validate({"purchases": {"path": "x"}, "publish": gate})
    metrics = storage.read_json(f"{run.folder('evaluate')}/metrics.json")
    storage.write_json(metrics | {"made_by": "popularity"}, f"{run.folder('evaluate')}/metrics.json")
    [reason] = refusals(run, settings)
    assert "is not above user_knn's" in reason
