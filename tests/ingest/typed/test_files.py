"""What is wrong with files of events, said before any work."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.config.load import settings_of
from topkin.ingest.files import ArrowFiles
from topkin.ingest.judging.inputs import look_at_inputs

SHOP = {"user_id": [1, 2, 3], "item_id": ["a", "b", "c"], "timestamp": ["2024-05-01", "2024-05-02", "2024-05-03"]}


def messages(folder: Path, views: dict[str, Any], **section: Any) -> list[str]:
    pq.write_table(pa.table(SHOP), folder / "p.parquet")
    pq.write_table(pa.table(views), folder / "v.parquet")
    view = {"path": str(folder / "v.parquet"), **section}
    bought = {"path": str(folder / "p.parquet"), "order_id": "item_id"}
    settings = settings_of({"purchases": bought, "events": {"view": view}}, "here")
    look = look_at_inputs(settings, None, datetime(2024, 6, 1), lambda path: ArrowFiles())
    return [str(f) for f in look.findings]


def test_good_ones_are_looked_at_by_their_own_name(tmp_path):
    assert messages(tmp_path, {**SHOP, "seconds": [1, 2, 3]}, weight="ln(seconds)") == []


def test_a_night_without_views_is_no_fault_whatever_types_the_empty_file_has(tmp_path):
    assert messages(tmp_path, dict.fromkeys(SHOP, pa.array([], pa.null()))) == []


@pytest.mark.parametrize(
    ("views", "section", "message"),
    [
        ({**SHOP, "user_id": ["1", "2", "3"]}, {}, "(events.view.user_id) is string, but purchases have int64"),
        ({**SHOP, "who": [1, 2, 3]}, {"user_id": "whom"}, "no column 'whom' (events.view.user_id), did you mean 'who'"),
        ({**SHOP, "item_id": ["A", "B", "C"]}, {}, "they differ in"),
        ({**SHOP, "secs": ["1", "2", "3"]}, {"weight": "secs"}, "events.view.weight must be a number, got string"),
        (SHOP, {"weight": "secs"}, "'secs', which is not there; the columns are user_id, item_id, timestamp"),
        ({k: SHOP[k] for k in ("user_id", "item_id")}, {}, "set events.view.timestamp to one of them"),
        ({**SHOP, "o": [5.0, None, 6.0]}, {"role": "return", "order_id": "o"}, 'normalise.o = "TRY_CAST(o AS BIGINT)"'),
        (SHOP, {"path": "nowhere.parquet"}, "events.view.path: there is no file nowhere.parquet"),
        (SHOP, {"rules": {"new": "item.price > 1"}}, "events.view.rules"),
    ],
)  # fmt: skip
def test_each_fault_is_one_message_with_its_key(tmp_path, views, section, message):
    (findings,) = messages(tmp_path, views, **section)
    assert message in findings
    assert "__weight" not in findings
    assert "events.view.order =" not in findings
