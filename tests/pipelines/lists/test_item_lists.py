"""Another allow-list or deny-list at the same path is other work; what does not read it is not."""

from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from topkin.config.sections import Settings
from topkin.pipelines.engine.stages import keys


def test_a_changed_deny_list_changes_the_keys_of_the_stages_that_keep_it(tmp_path):
    pq.write_table(pa.table({"user_id": ["u"], "item_id": ["a"]}), tmp_path / "purchases.parquet")
    settings = Settings(
        purchases={"path": str(tmp_path / "purchases.parquet")}, recommend={"deny": str(tmp_path / "deny.parquet")}
    )
    collected = []
    for denied in ("a", "b"):
        pq.write_table(pa.table({"item_id": [denied]}), tmp_path / "deny.parquet")
        collected.append(keys(settings, datetime(2020, 1, 1)))
    assert changed(*collected) == {"recommend", "similar", "evaluate", "report"}


def test_longer_lists_are_made_without_making_the_neighbours_again(tmp_path):
    pq.write_table(pa.table({"user_id": ["u"], "item_id": ["a"]}), tmp_path / "purchases.parquet")
    pq.write_table(pa.table({"item_id": ["a"]}), tmp_path / "list.parquet")
    collected = [
        Settings(purchases={"path": str(tmp_path / "purchases.parquet")}, recommend=rules)
        for rules in ({"k": 5}, {"k": 50}, {"allow": str(tmp_path / "list.parquet")})
    ]
    short, long, allowed = (keys(settings, datetime(2020, 1, 1)) for settings in collected)
    assert changed(short, long) == {"recommend", "evaluate", "report"}
    assert changed(short, allowed) == {"recommend", "similar", "evaluate", "report"}


def changed(one, other):
    return {stage for stage in one if one[stage] != other[stage]}
