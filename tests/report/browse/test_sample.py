from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts import schemas, storage
from topkin.artifacts.partition import hash_ids, split_by_partition
from topkin.report.browse.sample import People, read_people, sample_items


def people(n: int) -> People:
    users = pa.array(range(n), pa.int64())
    return People(
        histories=pa.table({"user_id": users}),
        listed=pa.table({"user_id": pa.concat_arrays([users, users]).sort()}),
        heldout=pa.table({"user_id": users}),
        near=pa.table({"user_id": users}),
    )


@given(st.integers(1, 60), st.integers(1, 80), st.integers(1, 80))
def test_a_smaller_sample_is_a_part_of_a_larger_one(n: int, one: int, other: int) -> None:
    few, many = (set(people(n).least(most).histories["user_id"].to_pylist()) for most in sorted((one, other)))
    assert few <= many
    assert len(many) == min(n, max(one, other))
    least = np.argsort(hash_ids(pa.array(range(n), pa.int64())))[: len(few)]
    assert few == set(least.tolist())


def test_a_sample_keeps_the_rows_of_its_users_in_every_table() -> None:
    sample = people(30).least(7)
    users = set(sample.histories["user_id"].to_pylist())
    assert len(sample.listed) == 14
    assert sample.near is not None
    for table in (sample.listed, sample.heldout, sample.near):
        assert set(table["user_id"].to_pylist()) == users


@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.integers(1, 50))
def test_items_are_the_best_sold_and_some_that_the_ids_draw(events: list[int], most: int) -> None:
    ids = pa.array(range(len(events)), pa.int64())
    rows = sample_items(pa.table({"item_id": ids, "events": events}), most)
    sold = np.array(events)[rows]
    assert len(set(rows.tolist())) == len(rows) == min(most, len(events))
    assert (np.diff(sold) <= 0).all()
    best = np.sort(np.argsort(-np.array(events), kind="stable")[: most - round(0.2 * most)])
    if any(events) or len(events) <= most:
        assert set(best.tolist()) <= set(rows.tolist())


def test_items_without_sales_are_drawn_by_their_ids_alone() -> None:
    ids = pa.array(range(1000), pa.int64())
    rows = sample_items(pa.table({"item_id": ids}), 100)
    assert set(rows.tolist()) == set(np.argsort(hash_ids(ids))[:100].tolist())


def test_users_are_read_off_no_more_parts_than_hold_them(small_run: Any) -> None:
    folders = {stage: small_run.folder(stage) for stage in ("prepare", "recommend", "similar")}
    kind = storage.read_parts(storage.join(folders["prepare"], "histories"))["user_id"].type
    item = storage.read_parquet(storage.join(folders["prepare"], "catalogue.parquet"))["item_id"].type
    schema = schemas.events(kind, item)
    for part in range(3):
        rows = split_by_partition(schema.empty_table(), "user_id", 3).get(part, schema.empty_table())
        storage.write_parquet(rows, storage.join(folders["prepare"], "heldout", storage.part_name(part, 3)))
    all_users = read_people(folders)
    assert all_users is not None
    assert len(all_users.histories) == 20
    assert len(all_users.listed) == 40
    few = read_people(folders, 3)
    assert few is not None
    assert len(few.histories) == 3
    first = storage.read_parquet(storage.join(folders["prepare"], "histories", storage.part_name(0, 3)))
    assert set(few.histories["user_id"].to_pylist()) <= set(first["user_id"].to_pylist())
