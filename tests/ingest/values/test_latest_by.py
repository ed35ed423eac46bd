"""A column that says which row of an item is the latest must have an order."""

from datetime import datetime

import pyarrow as pa
import pytest

from topkin.ingest.contract import InputSource, inspect_table
from topkin.ingest.values.findings import value_findings


@pytest.mark.parametrize(
    ("values", "is_well"),
    [
        (["2024-01-01", "2024-02-02", "n/a"], True),
        ([1, 2, None], True),
        (["Cup", "Jug", "2024-01-01"], False),
    ],
)
def test_texts_that_are_no_times_cannot_say_which_row_is_the_latest(values: list[object], is_well: bool) -> None:
    rows = pa.table({"item_id": ["a", "b", "c"], "version": pa.array(values)})
    source = InputSource(name="items", path="t", columns={"item_id": "item_id", "latest_by": "version"})
    inspection = inspect_table(source, rows)
    findings = [*inspection.findings, *value_findings(inspection, rows, datetime(2026, 1, 1))] if is_well else []
    if is_well:
        assert [str(f) for f in findings if "null" not in str(f)] == []
        return
    [finding] = value_findings(inspection, rows, datetime(2026, 1, 1))
    assert "column 'version' (items.latest_by) must hold times or numbers, got texts such as 'Cup'" in str(finding)
    assert "items.normalise.version" in str(finding)
