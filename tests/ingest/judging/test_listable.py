"""Rules that leave no item to recommend are a fault before a run writes lists without one."""

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.pipelines.cli.app import main

CONFIG = """
[purchases]
path = "sales.parquet"
segment = "segment"
[items]
path = "goods.parquet"
available = "there"
missing = "exclude"
[items.features]
sold_in = { column = "countries", learn = false }
stock = { column = "stock", kind = "number", learn = false }
start = { column = "start", kind = "time" }
[users]
path = "people.parquet"
[users.features]
country = { column = "country", learn = false }
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    sales = {
        "user_id": ["a", "b", "a"],
        "item_id": ["x", "y", "old"],
        "timestamp": [datetime(2024, 1, day) for day in (1, 2, 3)],
        "segment": ["home", "home", None],
    }
    goods = {
        "item_id": ["x", "y", "z"],
        "there": [True, True, False],
        "countries": [["de", "home"], ["at"], ["fr"]],
        "stock": [0.0, 2.0, 5.0],
        "start": [datetime(2024, 1, 1), datetime(2030, 1, 1), None],
    }
    people = {"user_id": ["a", "b"], "country": ["fr", "de"]}
    lists = {"x": ["x"], "xy": ["x", "y"], "none": []}
    for name, columns in {"sales": sales, "goods": goods, "people": people}.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    for name, ids in lists.items():
        pq.write_table(pa.table({"item_id": pa.array(ids, pa.string())}), tmp_path / f"{name}.parquet")
    (tmp_path / "topkin.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checked(capsys: pytest.CaptureFixture[str], *sets: str) -> tuple[int, str]:
    code = main(["check", "--as-of", "2024-06-01", *(word for text in sets for word in ("--set", text))])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("sets", "key"),
    [
        (["recommend.deny=xy.parquet"], "recommend.deny"),
        (["recommend.allow=none.parquet"], "recommend.allow"),
        (["lists.mail.deny=xy.parquet"], "lists.mail.deny"),
        (["recommend.capacity=0"], "recommend.capacity"),
        (["recommend.capacity=stock", "recommend.valid_from=start"], "recommend.capacity"),
        (["recommend.deny=x.parquet", "recommend.valid_from=start"], "recommend.valid_from"),
        (
            ["recommend.deny=x.parquet", 'recommend.eligible.land={user="country", item="sold_in"}'],
            "recommend.eligible.land",
        ),
        (
            ["recommend.deny=x.parquet", 'recommend.eligible.part={user="segment", item="sold_in"}'],
            "recommend.eligible.part",
        ),
    ],
)
def test_rules_that_leave_no_item_are_a_fault_with_their_counts_and_the_cure(
    shop: Path, capsys: pytest.CaptureFixture[str], sets: list[str], key: str
) -> None:
    code, err = checked(capsys, *sets)
    assert code == 3
    assert f"{key}: some item of the shop must be left to recommend, got 4 items of which none is" in err
    assert "2 by items.available" in err
    assert f"let {key} leave some, or drop it" in err


@pytest.mark.parametrize(
    "sets",
    [
        ["recommend.deny=x.parquet"],
        ["recommend.allow=x.parquet"],
        ["recommend.capacity=stock"],
        ["recommend.valid_from=start"],
        ['recommend.eligible.land={user="country", item="sold_in"}'],
        ['recommend.eligible.part={user="segment", item="sold_in"}'],
    ],
)
def test_rules_that_leave_an_item_are_well(shop: Path, capsys: pytest.CaptureFixture[str], sets: list[str]) -> None:
    assert checked(capsys, *sets) == (0, "")
