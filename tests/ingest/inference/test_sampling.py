"""Samples: of bounded size, from all over the input, users whole, and a share of re-purchases that is the log's."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.errors import InputError
from topkin.ingest.contract import InputSource, inspect
from topkin.ingest.files import FILE, ArrowFiles, Files
from topkin.ingest.inference import sampling
from topkin.ingest.inference.sampling import SampledUsers, TableSample, sample_table, sample_users, time_spans
from topkin.ingest.inference.shop import repurchases

DAY = 86_400_000_000
COLUMNS = {"user_id": "user", "item_id": "item", "timestamp": "time"}


def write(folder: Path, files: int, rows: int, *, users: int = 50, groups: int = 1, ids: type = int) -> pa.Table:
    """Files by time, as exports are, and all rows of them."""
    rng = np.random.default_rng(files)
    n = files * rows
    table = pa.table(
        {
            "n": np.arange(n),
            "user": pa.array([ids(u) for u in rng.integers(0, users, n)]),
            "item": rng.integers(0, 8, n),
            "time": pa.array(np.sort(rng.integers(0, 120 * DAY, n)) + 20_000 * DAY, pa.timestamp("us")),
        }
    )
    folder.mkdir()
    for number in range(files):
        part = table.slice(number * rows, rows)
        pq.write_table(part, folder / f"{number:04d}.parquet", row_group_size=max(-(-rows // groups), 1))
    return table


def users_of(sample: TableSample) -> SampledUsers:
    source = InputSource(name="purchases", path=sample.path, columns=COLUMNS)
    return sample_users(source, sample.footers, ["user", "item", "time"], ArrowFiles())


@pytest.mark.parametrize(("files", "rows", "groups"), [(1, 4000, 1), (1, 4000, 9), (30, 400, 2), (3, 50, 1)])
def test_rows_are_few_and_from_beginning_middle_and_end(
    files: int, rows: int, groups: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "LOOKED_AT", 600)
    whole = write(tmp_path / "in", files, rows, groups=groups)
    sample = sample_table("purchases", str(tmp_path / "in"), ArrowFiles())
    assert sample.total == len(whole)
    assert min(600, len(whole)) * 0.9 <= len(sample.rows) <= 600
    numbers = np.asarray(sample.rows["n"])
    assert len(np.unique(numbers)) == len(numbers)
    assert set(np.unique(numbers * 3 // len(whole))) == {0, 1, 2}
    assert (numbers[0], sample.rows.take([len(numbers) - 1])["n"][0].as_py()) == (0, numbers.max())
    assert sample.rows.equals(whole.take(pa.array(numbers)).select(sample.rows.column_names))


def test_a_small_input_is_looked_at_whole(tmp_path: Path) -> None:
    whole = write(tmp_path / "in", 4, 100)
    sample = sample_table("purchases", str(tmp_path / "in"), ArrowFiles())
    assert sample.rows.combine_chunks().equals(whole)
    users = users_of(sample)
    assert users.whole
    assert (users.share, users.read, users.total, len(users.rows)) == (1, 400, 400, 400)


@pytest.mark.parametrize("ids", [int, str])
def test_users_that_are_drawn_are_whole(ids: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "LOOKED_AT", 1500)
    whole = write(tmp_path / "in", 6, 1000, users=300, ids=ids)
    users = users_of(sample_table("purchases", str(tmp_path / "in"), ArrowFiles()))
    assert (users.share, users.read, users.total) == (0.25, 6000, 6000)
    drawn = set(users.rows["user"].to_pylist())
    assert 0.15 * 300 <= len(drawn) <= 0.35 * 300
    assert len(users.rows) == sum(u in drawn for u in whole["user"].to_pylist())
    assert len(set(users.rows[FILE].to_pylist())) == 6


def test_the_share_of_repurchases_is_the_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "LOOKED_AT", 4000)
    whole = write(tmp_path / "in", 8, 2000, users=2000)
    sample = sample_table("purchases", str(tmp_path / "in"), ArrowFiles())
    names = ["user_id", "item_id", "timestamp"]
    every = repurchases(whole.select(["user", "item", "time"]).rename_columns(names))
    drawn = repurchases(users_of(sample).rows.select(["user", "item", "time"]).rename_columns(names))
    near = repurchases(sample.rows.select(["user", "item", "time"]).rename_columns(names))
    assert every.share > 0.3
    assert drawn.share == pytest.approx(every.share, abs=0.03)
    assert near.share < every.share - 0.1  # rows that stand together do not tell it


def test_of_much_the_last_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "READ_SECONDS", 1e-9)
    whole = write(tmp_path / "in", 5, 100)
    users = users_of(sample_table("purchases", str(tmp_path / "in"), ArrowFiles()))
    assert (users.read, users.total, users.whole) == (100, 500, False)
    assert users.rows["time"].to_pylist() == whole["time"].to_pylist()[-100:]


def test_spans_are_those_of_the_row_groups(tmp_path: Path) -> None:
    whole = write(tmp_path / "in", 2, 100, groups=2)
    spans = time_spans(sample_table("purchases", str(tmp_path / "in"), ArrowFiles()).footers, "time")
    micros = np.asarray(whole["time"].cast(pa.int64())).reshape(4, 50)
    assert spans is not None
    assert spans.tolist() == np.c_[micros[:, 0], micros[:, -1]].tolist()
    assert time_spans(sample_table("purchases", str(tmp_path / "in"), ArrowFiles()).footers, "user") is None


class Counted(ArrowFiles):
    """Files that count how often each is opened."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def open(self, path: str) -> Any:
        self.opened.append(path)
        return super().open(path)


def test_what_was_read_of_footers_is_not_read_again(tmp_path: Path) -> None:
    write(tmp_path / "in", 3, 100)
    files = Counted()
    checked: Files = files
    sample = sample_table("purchases", str(tmp_path / "in"), checked)
    source = InputSource(name="purchases", path=sample.path, columns=COLUMNS)
    files.opened.clear()
    known = inspect(source, checked, sample.read)
    assert files.opened == []
    assert known == inspect(source, checked)
    assert known.earliest is not None


def test_nothing_to_look_at_is_said(tmp_path: Path) -> None:
    write(tmp_path / "in", 1, 0)
    with pytest.raises(InputError, match=r"purchases: .*in holds no rows, so there is nothing to look at"):
        sample_table("purchases", str(tmp_path / "in"), ArrowFiles())
