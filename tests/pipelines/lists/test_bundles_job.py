"""What is bought together, from histories of several parts to a table of the run."""

from collections import Counter
from itertools import permutations
from pathlib import Path

from tests.pipelines.lists.test_shop_rules import job_of
from topkin.artifacts import schemas, storage
from topkin.pipelines import similar


def test_the_table_has_pairs_of_enough_baskets_by_lift(shop: Path) -> None:
    sets = ("similar.users=0", "similar.items=0", "similar.bought=0", "similar.bundles=2", "similar.bundle_support=2")
    job = job_of(shop, "similar", *sets)
    summary = similar.STAGE.execute(job)
    table = storage.read_parquet(f"{job.out}/bundles.parquet")
    assert summary["bundles"] == len(table) > 0
    encoder = storage.read_json(str(shop / "model/signature.json"))["encoder"]
    assert schemas.encoder_of(table.schema) == encoder
    rows = storage.read_parts(str(shop / "prepared/histories")).to_pylist()
    baskets = Counter((r["user_id"], t, i) for r in rows for i, t in zip(r["items"], r["times"], strict=True))
    together: dict[tuple[str, object], set[str]] = {}
    for user, time, item in baskets:
        together.setdefault((user, time), set()).add(item)
    pairs = Counter(pair for own in together.values() for pair in permutations(own, 2))
    for row in table.to_pylist():
        assert row["support"] == pairs[row["item_id"], row["neighbour_id"]] >= 2
    assert max(table["rank"].to_pylist()) <= 2
    job = job_of(shop, "none", *sets, "similar.bundles=0")
    similar.STAGE.execute(job)
    assert not Path(job.out, "bundles.parquet").exists()
