"""``run.parts = "auto"``: as many parts as the rows ask for, whatever works on them."""

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.config import section
from topkin.config.section import LEAST_PARTS, ROWS_A_PART, parts_for
from topkin.config.sections import Settings
from topkin.pipelines.engine import parts, stages
from topkin.pipelines.engine.parts import with_parts

AS_OF = datetime(2024, 5, 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3_000_000_000))
def test_no_part_has_more_than_a_million_rows_and_half_as_many_parts_would(rows: int) -> None:
    count = parts_for(rows)
    assert count * ROWS_A_PART >= rows
    assert count == LEAST_PARTS or count // 2 * ROWS_A_PART < rows
    assert count & (count - 1) == 0


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows of a shop where a part has at most ten: 90 baskets of one item, and of two others."""
    monkeypatch.setattr(section, "ROWS_A_PART", 10)
    monkeypatch.setattr(parts, "ROWS_A_PART", 10)
    times = pa.array([datetime(2024, 1, 1)] * 90)
    one = pa.table({"user_id": [f"u{n}" for n in range(90)], "item_id": ["a"] * 90, "timestamp": times})
    pq.write_table(one, tmp_path / "one.parquet")
    pq.write_table(one.set_column(1, "item_id", pa.array([["a", "b"]] * 90)), tmp_path / "two.parquet")
    return tmp_path


def _settings(shop: Path, name: str, **run: object) -> Settings:
    item = "item_id[]" if name == "two.parquet" else "item_id"
    purchases = {"path": str(shop / name), "item_id": item}
    return Settings.model_validate({"purchases": purchases, "run": {"output": str(shop), **run}})


def test_rows_that_lists_add_count_and_a_number_stays(shop: Path) -> None:
    assert Settings.model_validate({"purchases": {"path": "x"}}).run.parts == "auto"
    assert with_parts(_settings(shop, "one.parquet")).run.parts == 16
    assert with_parts(_settings(shop, "two.parquet")).run.parts == 32
    assert with_parts(_settings(shop, "two.parquet", parts=3)).run.parts == 3
    assert with_parts(_settings(shop, "absent.parquet")).run.parts == LEAST_PARTS


def test_a_stage_is_keyed_by_the_number_that_auto_means(shop: Path) -> None:
    auto, eight, sixteen = (
        stages.keys(_settings(shop, "one.parquet", **run), AS_OF) for run in ({}, {"parts": 8}, {"parts": 16})
    )
    assert auto == sixteen
    assert auto["prepare"] != eight["prepare"]


def test_files_too_small_for_more_parts_are_not_opened(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ROWS_A_PART", 1_000_000)
    monkeypatch.setattr(parts, "inspect", None)
    assert with_parts(_settings(shop, "two.parquet")).run.parts == LEAST_PARTS
