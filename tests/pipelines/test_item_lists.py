"""Another allow-list or deny-list at the same path is other work; what does not read it is not."""

from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from topkin.config import Settings
from topkin.pipelines.stages import keys


def test_a_changed_deny_list_changes_the_keys_of_the_stages_that_keep_it(tmp_path):
    pq.write_table(pa.table({"user_id": ["u"], "item_id": ["a"]}), tmp_path / "purchases.parquet")
    settings = Settings(
        purchases={"path": str(tmp_path / "purchases.parquet")}, recommend={"deny": str(tmp_path / "deny.parquet")}
    )
    found = []
    for denied in ("a", "b"):
        pq.write_table(pa.table({"item_id": [denied]}), tmp_path / "deny.parquet")
        found.append(keys(settings, datetime(2020, 1, 1)))
    assert {stage for stage in found[0] if found[0][stage] != found[1][stage]} == {"recommend", "similar", "evaluate"}
