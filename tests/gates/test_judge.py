"""Both kinds of run, asked from their folders."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.gates.conftest import Version, some_rows
from topkin.artifacts import manifest, storage
from topkin.config.items_run import ItemsRunSettings
from topkin.config.sections import Settings
from topkin.gates.judge import judge

Write = Callable[[Version], dict[str, str]]
SETTINGS = Settings.model_validate({"purchases": {"path": "x"}})


def test_a_run_over_purchases_is_asked_beside_the_live_one(folders: Write) -> None:
    live = folders(Version(some_rows()))
    half = folders(Version(some_rows()[::2]))
    verdict = judge(SETTINGS, half, live)
    assert "rows of purchases" in {gate.name for gate in verdict.of("refused")}
    assert sum(verdict.counts.values()) == len(verdict.gates)
    written = verdict.to_json()
    assert written["gates"][0].keys() == {"name", "key", "verdict", "sentence", "figure", "limit", "live"}
    assert written["figures"]["counts"]["purchases"] == len(some_rows()[::2])


def test_a_live_version_that_is_damaged_is_compared_with_nothing_and_said(folders: Write) -> None:
    now, live = folders(Version(some_rows()[::2])), folders(Version(some_rows()))
    for stage, folder in live.items():
        manifest.seal(folder, stage=stage, key="k", summary={})
    assert judge(SETTINGS, now, live).of("refused")
    Path(live["index"], "index.json").write_text("{}")
    verdict = judge(SETTINGS, now, live)
    assert (verdict.live, verdict.of("refused")) == ({}, [])
    assert "the live version cannot be read: " in verdict.unasked[-1]
    assert verdict.unasked[-1].endswith("--force: live version")


def test_gates_not_asked_are_a_line_for_each_reason(folders: Write) -> None:
    first = judge(SETTINGS, folders(Version(some_rows())), {}).unasked
    assert first[0].startswith(
        "gates not asked, nothing is live: rows of purchases, items, purchases, purchases a day and "
    )
    assert "gates not asked, fewer than 10 users have held-out purchases: above popularity, best baseline" in first


def items_run(folder: Path, **changes: Any) -> dict[str, str]:
    now = Version(some_rows()).write(folder)
    statistics = {"sources": {"items": {"rows": 130, "rejected": {}}}, "items": 120}
    storage.write_json(statistics, f"{now['prepare']}/statistics.json")
    metrics = {"indexed": 118, "prepared": 120, "retrieval": {"recall_any@1": 0.8}, "unjudged": "no label"}
    storage.write_json(metrics | changes, str(folder / "evaluate/metrics.json"))
    return {**now, "evaluate": str(folder / "evaluate")}


@pytest.mark.parametrize(
    ("keys", "changes", "refused"),
    [
        ({}, {}, []),
        ({"min_items": 1000}, {}, ["118 items are in the index; publish.min_items asks for 1,000"]),
        (
            {},
            {"indexed": 60},
            ["60 of 120 items have a vector in the index, 50 %; publish.min_embedded asks for 80 %"],
        ),
        ({"min_embedded": False}, {"indexed": 60}, []),
        ({"min_label_recall": 0.9}, {}, ["Recall@1 0.8000; publish.min_label_recall asks for 0.9"]),
        (
            {"min_label_recall": 0.5},
            {"retrieval": None},
            ["Recall@1 was not measured: no label (publish.min_label_recall)"],
        ),
    ],
)
def test_a_run_over_items_alone_has_gates_of_its_own(
    tmp_path: Path, keys: dict[str, Any], changes: dict[str, Any], refused: list[str]
) -> None:
    settings = ItemsRunSettings.model_validate(
        {"items": {"path": "x", "vector": "v", "label": "class"}, "publish": keys}
    )
    now = items_run(tmp_path / "now", **changes)
    live = items_run(tmp_path / "live")
    for before in ({}, live):
        assert [gate.sentence for gate in judge(settings, now, before).of("refused")] == refused


def test_items_that_the_live_version_does_not_know_are_refused(tmp_path: Path, folders: Write) -> None:
    settings = ItemsRunSettings.model_validate({"items": {"path": "x", "vector": "v"}})
    live = items_run(tmp_path / "live")
    other = folders(replace(Version(some_rows()), rows=[(u, f"x{i}", d) for u, i, d in some_rows()]))
    now = {**items_run(tmp_path / "now"), "prepare": other["prepare"]}
    storage.write_json(storage.read_json(f"{live['prepare']}/statistics.json"), f"{now['prepare']}/statistics.json")
    assert [gate.name for gate in judge(settings, now, live).of("refused")] == ["unknown items"]


def test_a_live_version_of_the_other_kind_is_no_live_version(tmp_path: Path, folders: Write) -> None:
    verdict = judge(SETTINGS, folders(Version(some_rows())), items_run(tmp_path / "items"))
    assert verdict.live == {}
    assert verdict.of("refused") == []
