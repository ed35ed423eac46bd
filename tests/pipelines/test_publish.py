"""Publishing beside what is live: what is asked, what is said, and what the pointer keeps."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.gates.conftest import AS_OF, Version, some_rows
from topkin.artifacts import manifest, runs, storage
from topkin.config.sections import Settings
from topkin.errors import ConfigError, QualityGateError
from topkin.pipelines.engine.registry import ORDER
from topkin.pipelines.publish import live_folders, publish

SETTINGS = Settings.model_validate({"purchases": {"path": "x"}})
Finished = Callable[..., runs.Run]


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    """A sealed run of some rows: what gates read, and a folder for every other stage."""

    def make(name: str, rows: list[tuple[int, str, float]], as_of: datetime = AS_OF) -> runs.Run:
        run = runs.Run(str(tmp_path), name, as_of)
        written = Version(rows, as_of=as_of).write(Path(run.path))
        storage.write_json({"encoder": "e"}, f"{run.path}/train/signature.json")
        metrics = {"heldout": {"users": 0, "novel_users": 0}, "encoder": "e"}
        storage.write_json(metrics, f"{run.path}/evaluate/metrics.json")
        hindsight = {"reason": "the first night", "verdict": None, "versions": []}
        storage.write_json(hindsight, f"{run.path}/hindsight/hindsight.json")
        for stage in ORDER:
            folder = written.get(stage, f"{run.path}/{stage}")
            storage.make_folder(folder)
            manifest.seal(folder, stage=stage, key=name, summary={})
            run = runs.record_stage(run, stage, {"folder": f"runs/{name}/{stage}"}, {})
        return run

    return make


@pytest.fixture(autouse=True)
def _one_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topkin.pipelines.publish.one_encoder", lambda run, stages: "e")  # its tables say no encoder


def pointer(run: runs.Run) -> dict[str, object]:
    current = runs.pointer(run.root)
    assert current is not None
    return current


def test_a_night_is_refused_with_every_reason_and_the_live_one_stays(finished: Finished) -> None:
    live = finished("good", some_rows())
    assert publish(live, SETTINGS).counts["refused"] == 0
    half = finished("half", some_rows()[::2], AS_OF + timedelta(days=30))
    with pytest.raises(QualityGateError) as raised:
        publish(half, SETTINGS)
    message = str(raised.value)
    for reason in (
        "151 rows of purchases, 50 % fewer",
        "purchases known to the live version are gone",
    ):
        assert reason in message
    assert "--publish-anyway REASON" in message
    assert f"{half.folder('report')}/report.html" in message
    assert pointer(live)["run_id"] == "good"


def test_published_anyway_the_pointer_keeps_the_reason_and_what_was_refused(finished: Finished) -> None:
    publish(finished("good", some_rows()), SETTINGS)
    half = finished("half", some_rows()[::2])
    publish(half, SETTINGS, anyway=" one shop of two was sold ")
    kept = json.loads(Path(half.root, "current.json").read_text())
    assert kept["run_id"] == "half"
    assert kept["anyway"]["reason"] == "one shop of two was sold"
    assert any(line.startswith("rows of purchases: ") for line in kept["anyway"]["refused"])
    assert datetime.fromisoformat(kept["anyway"]["at"]).tzinfo is not None
    publish(finished("next", some_rows()[::2]), SETTINGS)
    assert "anyway" not in pointer(half)


def test_a_reason_is_not_kept_where_nothing_was_refused(finished: Finished) -> None:
    good = finished("good", some_rows())
    publish(good, SETTINGS, anyway="for sure")
    assert "anyway" not in pointer(good)
    with pytest.raises(ConfigError, match="needs the reason"):
        publish(good, SETTINGS, anyway=" ")


def test_what_is_compared_is_what_is_live_now(finished: Finished) -> None:
    """The report asked beside the version of an earlier date; another was published since."""
    half = finished("half", some_rows()[::2])
    publish(half, SETTINGS)
    other = finished("other", some_rows()[::2])
    publish(finished("whole", [*some_rows(), *some_rows(seed=1)]), SETTINGS, anyway="more")
    with pytest.raises(QualityGateError, match=r"publish\.max_drop"):
        publish(other, SETTINGS)


def test_published_again_a_run_is_not_compared_with_itself_nor_with_one_that_is_gone(finished: Finished) -> None:
    good = finished("good", some_rows())
    publish(good, SETTINGS)
    assert live_folders(good, "purchases") == {}
    other = finished("other", some_rows())
    assert set(live_folders(other, "purchases")) == {"prepare", "embed", "index", "recommend"}
    storage.remove_folder(good.folder("recommend"))
    assert live_folders(other, "purchases") == {}
    storage.remove_folder(good.path)
    assert live_folders(other, "purchases") == {}
