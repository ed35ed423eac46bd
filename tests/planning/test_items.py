"""Plans of runs over items alone: more of anything never costs less, and products are counted."""

from dataclasses import replace

import pytest

from topkin.config.items_run import ItemsRunSettings
from topkin.planning.costs import MEASURED
from topkin.planning.estimate import Machine
from topkin.planning.items import ItemsCounts, plan_items

SETTINGS = ItemsRunSettings.model_validate(
    {"items": {"path": "i", "label": "kind"}, "train": {"method": "labels"}, "encoder": {"inputs": {"x": {}}}}
)
COUNTS = ItemsCounts(items=60_000, queries=10_000, input_bytes=10**8, row_bytes=784, row_seconds=1e-3, epochs=20)
MACHINE = Machine(memory=8e9, cores=2)


@pytest.mark.parametrize(
    "more", ["items", "queries", "input_bytes", "row_bytes", "dim", "row_seconds", "epochs", "views"]
)
def test_more_of_anything_costs_no_less(more: str) -> None:
    larger = replace(COUNTS, **{more: 2 * getattr(COUNTS, more)})
    for less, stage in zip(plan_items(COUNTS, SETTINGS, MACHINE), plan_items(larger, SETTINGS, MACHINE), strict=True):
        for name in ("bytes_read", "bytes_written", "cpu_seconds", "memory", "flops"):
            if (stage.stage, more) != ("evaluate", "queries"):  # of more than the sample no more are judged
                assert getattr(stage, name) >= getattr(less, name)


def test_a_step_of_training_is_three_encodings_and_two_cores_halve_it() -> None:
    by_name = {stage.stage: stage for stage in plan_items(COUNTS, SETTINGS, MACHINE)}
    assert by_name["train"].cpu_seconds == pytest.approx(3 * 20 * 60_000 * 1e-3)
    assert by_name["train"].seconds == pytest.approx(MEASURED.start_seconds["train"] + 0.5 * 3 * 20 * 60)
    assert by_name["embed"].cpu_seconds == pytest.approx(70)
    assert by_name["evaluate"].flops == 2 * 64 * 60_000 * 10_000
    twice = {stage.stage: stage for stage in plan_items(replace(COUNTS, passes=2), SETTINGS, MACHINE)}
    assert twice["embed"].cpu_seconds == pytest.approx(140)


def test_a_given_encoder_and_items_without_labels_or_neighbours_cost_nothing_there() -> None:
    bare = ItemsRunSettings.model_validate(
        {"items": {"path": "i"}, "encoder": {"path": "e.keras"}, "similar": {"items": 0}}
    )
    by_name = {stage.stage: stage for stage in plan_items(replace(COUNTS, epochs=0), bare, MACHINE)}
    assert by_name["train"].cpu_seconds == by_name["similar"].cpu_seconds == by_name["evaluate"].flops == 0
