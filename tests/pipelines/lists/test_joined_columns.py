"""Columns that the published tables have on request."""

from pathlib import Path

import pytest

from tests.pipelines.lists.test_serving_jobs import ITEMS, job_of, settings_of, write_prepared
from topkin.artifacts import storage
from topkin.pipelines import embed, recommend, similar


@pytest.fixture(scope="module")
def shop(tmp_path_factory, write_model) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_prepared(str(folder / "prepared"), "string")
    write_model(str(folder / "model"), ITEMS - 2, storage.read_parquet(str(folder / "prepared/catalogue.parquet")))
    embed.STAGE.execute(job_of(folder, "embeddings"))
    return folder


def test_columns_of_items_and_scores_stand_beside_the_lists(shop):
    columns = ["final", "because_shares", "title", "price"]
    settings = settings_of(
        str(shop),
        items={"path": "i", "title": "t", "price": "p"},
        recommend={"columns": columns},
        similar={"columns": ["title"]},
    )
    for name, stage, settings_of_job in (
        ("wide", recommend, settings),
        ("wide-similar", similar, settings),
        ("plain", recommend, None),
    ):
        stage.STAGE.execute(job_of(shop, name, settings_of_job))
    wide = storage.read_parts(str(shop / "wide/recommendations/date=2021-03-01"))
    plain = storage.read_parts(str(shop / "plain/recommendations/date=2021-03-01"))
    assert wide.column_names == [*plain.column_names, "because_shares", "final", "title", "price"]
    assert wide.select(plain.column_names).equals(plain)
    catalogue = storage.read_parquet(str(shop / "prepared/catalogue.parquet"))
    by_id = {row["item_id"]: row for row in catalogue.to_pylist()}
    for row in wide.to_pylist():
        assert (row["title"], row["price"]) == tuple(by_id[row["item_id"]][n] for n in ("title", "price"))
        assert len(row["because_shares"]) == len(row["because"])
    for name, key in (("similar_items", "neighbour_id"), ("neighbours_bought", "item_id")):
        table = storage.read_parts(str(shop / "wide-similar" / name))
        assert len(table)
        assert table["title"].to_pylist() == [by_id[i]["title"] for i in table[key].to_pylist()]
    assert "title" not in storage.read_parts(str(shop / "wide-similar/similar_users")).column_names
