"""The list of runs, and the names by which commands know them."""

import shutil
from pathlib import Path

import pytest

from topkin.artifacts import storage
from topkin.errors import ArtifactError, ConfigError
from topkin.pipelines.upkeep import versions


def test_a_run_is_listed_with_its_size_and_what_its_stages_counted(tmp_path, night):
    root = str(tmp_path)
    first = night(1)
    night(2, reuse={"train": first})
    storage.write_json({}, f"{first.path}/profile.json")
    second, one = versions.entries(root, 14)
    assert (second.version.state, one.version.state) == ("live", "kept")
    assert one.to_json() | {"bytes": 0, "made_at": ""} == {
        "run_id": "2024-05-01-n",
        "state": "kept",
        "as_of": "2024-05-01T00:00:00",
        "made_at": "",
        "stages": ["prepare", "recommend", "train"],
        "bytes": 0,
        "users": 10,
        "items": 1,
        "lists": None,
        "metric": None,
        "value": None,
        "anyway": None,
    }
    assert one.figures.bytes == sum(path.stat().st_size for path in Path(first.path).rglob("*") if path.is_file())
    assert second.figures.bytes < one.figures.bytes  # what it reuses lies in the other


def test_what_cannot_be_read_is_listed_and_named(tmp_path, night, caplog):
    first, second = night(1), night(2)
    Path(first.path, "run.json").write_text("{")
    Path(second.folder("prepare"), "manifest.json").write_text("[")
    two, one = versions.entries(str(tmp_path), 14)
    assert (one.version.run_id, one.version.run, one.to_json()["as_of"]) == ("2024-05-01-n", None, None)
    assert two.figures.users is None
    assert "the run 2024-05-01-n is passed over" in caplog.text
    assert "2024-05-02-n/prepared/manifest.json cannot be read" in caplog.text


def test_a_run_is_named_by_the_beginning_of_its_name(tmp_path, night):
    root = str(tmp_path)
    for day in (1, 2, 12):
        night(day)
    assert versions.named(root, "live") == "2024-05-12-n"
    assert versions.named(root, "2024-05-02") == "2024-05-02-n"
    with pytest.raises(ConfigError, match="2024-05-0 begins 2024-05-01-n, 2024-05-02-n"):
        versions.named(root, "2024-05-0")
    with pytest.raises(ConfigError, match=r"there is no run 2024-05-03-n in .*, did you mean 2024-05-"):
        versions.named(root, "2024-05-03-n")
    with pytest.raises(ArtifactError, match="has no published run"):
        versions.named(f"{root}/empty", "live")


def test_the_live_run_is_gone_in_the_same_words_however_it_is_named(tmp_path, night):
    run = night(1)
    shutil.rmtree(run.path)
    with pytest.raises(ArtifactError, match=f"the run {run.run_id} is gone"):
        versions.named(str(tmp_path), "live")
