"""A kept encoder counts the items' sales as of its own night."""

from datetime import datetime

import pyarrow as pa

from topkin.artifacts import schemas
from topkin.encoding.reference import Reference


def _catalogue(ids: list[str], events: list[int]) -> pa.Table:
    return pa.table(
        {
            "item_id": ids,
            "title": ["t"] * len(ids),
            "events": pa.array(events, pa.int64()),
            "users": pa.array([e // 2 for e in events], pa.int64()),
            "recent": pa.array([0] * len(ids), pa.int64()),
        }
    )


def test_items_have_the_sales_of_that_night_and_new_ones_have_none(tmp_path):
    night = datetime(2024, 5, 1, 6)
    Reference.of(_catalogue(["a", "c"], [4, 8]), _catalogue(["a"], [4]).schema, night).write(str(tmp_path), "e1")
    reference = Reference.read(str(tmp_path))
    assert reference is not None
    assert reference.as_of == night
    assert reference.columns == "item_id: string; title: string; events: int64; users: int64; recent: int64"
    assert schemas.encoder_of(reference.sales.schema) == "e1"
    tonight = _catalogue(["a", "b", "c"], [5, 1, 9])
    counted = reference.counted(tonight)
    assert counted["events"].to_pylist() == [4, 0, 8]
    assert counted["users"].to_pylist() == [2, 0, 4]
    assert counted.schema == tonight.schema
    assert counted["title"].equals(tonight["title"])
    assert reference.buyers(tonight["item_id"]).tolist() == [2, 0, 4]
    assert reference.counted(tonight.select(["item_id", "users"])).column_names == ["item_id", "users"]


def test_an_encoder_that_is_not_kept_has_none(tmp_path):
    assert Reference.read(str(tmp_path)) is None
