"""Benchmarks by the stages of a run: what is held out, and the table beside the baselines."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("tensorflow")

from topkin.errors import InputError
from topkin.evaluation import published
from topkin.evaluation.published import PublishedSplit
from topkin.pipelines.benchmarks.staged import sequence_settings, split_settings
from topkin.pipelines.cli.app import main

SMALL = ["train.epochs=0", "train.svd_dim=6", "train.next_item_dim=2", "run.parts=2", "evaluate.bootstrap=50"]
SETS = [word for text in SMALL for word in ("--set", text)]


def rows(users: int = 60, length: int = 8) -> list[tuple[str, str, int]]:
    """Users of two kinds who walk along the twenty items of their kind, each item the one after the last."""
    rng, positions = np.random.default_rng(0), []
    for user in range(users):
        start = rng.integers(20)
        positions += [(f"u{user}", f"i{(start + step) % 20 + 20 * (user % 2)}", step) for step in range(length)]
    return positions


def write(path: Path, positions: list[tuple[str, str, int]], *, by: str = "order", unit: int = 1) -> None:
    users, items, order = zip(*positions, strict=True)
    values = pa.array([(1_700_000_000 if by == "timestamp" else 0) + n * unit for n in order], pa.int64())
    if by == "timestamp":
        values = values.cast(pa.timestamp("s"))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"user_id": users, "item_id": items, by: values}), path)


def benchmark(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["benchmark", *words, "--json", *SETS]) == 0
    (line,) = capsys.readouterr().out.strip().splitlines()
    printed: dict[str, Any] = json.loads(line)
    return printed


def test_the_last_position_of_each_user_judges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "purchases.parquet", rows())
    result = benchmark(capsys, "sequence", "--data", str(tmp_path))
    assert (result["users"], result["heldout"]["pairs"], result["published"]) == (60, 60, None)
    assert result["shown"] == ["hit_rate@10", "ndcg@10", "hit_rate@20", "ndcg@20"]
    assert result["metrics"]["model"]["hit_rate@20"] > 0.9  # of the twenty of a kind seven are bought
    assert {"popularity", "own_frequency", "item_knn", "graph_filter"} <= set(result["metrics"])
    assert not any("recent" in name for name in result["metrics"])
    assert set(result["second_stage"]["values"]) >= {"encoder", "item_knn_position", "next_items"}
    low, mean, high = result["differences"]["popularity"]["ndcg@10"]
    assert low <= mean <= high
    assert mean == pytest.approx(result["metrics"]["model"]["ndcg@10"] - result["metrics"]["popularity"]["ndcg@10"])


def test_published_figures_stand_beside_the_rows_that_they_are_of_whatever_else_the_catalogue_lists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "purchases.parquet", rows())
    listed = [f"i{number}" for number in range(40)] + ["never sold"]
    pq.write_table(pa.table({"item_id": listed, "title": listed}), tmp_path / "items.parquet")
    walks = PublishedSplit("walks", 60, 40, 60 * 7, 60, ("hit_rate@10", "ndcg@10"), {"peer": (0.5, 0.25)})
    monkeypatch.setattr(published, "SPLITS", (walks,))
    result = benchmark(capsys, "sequence", "--data", str(tmp_path))
    assert result["items"] == 41
    assert result["published"] == {
        "split": "walks",
        "metrics": ["hit_rate@10", "ndcg@10"],
        "figures": {"peer": [0.5, 0.25]},
    }
    monkeypatch.setattr(published, "SPLITS", (replace(walks, train=60 * 7 - 1),))
    assert benchmark(capsys, "sequence", "--data", str(tmp_path))["published"] is None


def test_what_was_bought_is_ranked_where_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = [(user, item, step) for user, item, step in rows() if step < 6]
    again += [(user, next(i for u, i, s in again if u == user and s == 0), 7) for user in {u for u, *_ in again}]
    write(tmp_path / "purchases.parquet", again)
    result = benchmark(capsys, "sequence", "--data", str(tmp_path), "--keep-bought")
    assert result["users"] == 60
    assert result["metrics"]["own_frequency"]["hit_rate@10"] == 1.0  # every last item was bought before
    assert result["metrics"]["model"]["hit_rate@10"] > 0.9


@pytest.mark.parametrize("by", ["order", pytest.param("timestamp", marks=pytest.mark.slow)])
def test_split_files_are_judged_by_their_test_part(by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unit = 86_400 if by == "timestamp" else 1
    write(tmp_path / "train.parquet", [r for r in rows() if r[2] < 6], by=by, unit=unit)
    write(tmp_path / "test.parquet", [r for r in rows() if r[2] >= 6], by=by, unit=unit)
    result = benchmark(capsys, "walks", "--data", str(tmp_path))
    assert (result["benchmark"], result["users"], result["heldout"]["pairs"]) == ("walks", 60, 120)
    assert result["shown"] == ["recall@10", "ndcg@10", "recall@20", "ndcg@20"]
    assert ("recent_popularity" in result["metrics"]) == (by == "timestamp")
    assert main(["benchmark", "walks", "--data", str(tmp_path), *SETS]) == 0
    printed = capsys.readouterr().out
    assert "> topkin" in printed  # the rest may be on the next line
    assert "60 users, 40 items; what a user bought before is not ranked" in printed


def test_times_that_overlap_are_an_order_and_no_times(tmp_path: Path) -> None:
    late = [(user, item, step + 100 * (int(user[1:]) % 2)) for user, item, step in rows()]
    write(tmp_path / "train.parquet", [r for r in late if r[2] % 100 < 6], by="timestamp", unit=86_400)
    write(tmp_path / "test.parquet", [r for r in late if r[2] % 100 >= 6], by="timestamp", unit=86_400)
    own_settings = split_settings(str(tmp_path), [])
    assert own_settings is not None
    settings, _ = own_settings
    assert settings.purchases.order == "timestamp"
    assert settings.heldout is not None
    assert not settings.heldout.timed


@pytest.mark.parametrize(
    "times",
    [
        pa.array([1_700_000_000, None, 1_700_000_060], pa.timestamp("s")),
        pa.array([1_700_000_000, None, 1_700_000_060], pa.timestamp("us", "Europe/Berlin")),
        pa.array([1_700_000_000, None, 1_700_000_060], pa.int64()),
        pa.array([1_700_000_000.0, None, 1_700_000_060.0]),
        pa.array(["1700000000", "n/a", "1700000060"]),
        pa.array(["2023-11-14 22:13:20", "n/a", "2023-11-14 22:14:20"]),
        pa.array([19_000, None, 19_001], pa.date32()),
    ],
    ids=lambda array: str(array.type),
)
def test_times_of_any_form_order_purchases(times: pa.Array, tmp_path: Path) -> None:
    rows_of = pa.table({"user_id": ["a", "a", "a"], "item_id": ["x", "y", "z"], "timestamp": times})
    pq.write_table(rows_of, tmp_path / "purchases.parquet")
    settings = sequence_settings(str(tmp_path), [])
    column = settings.purchases.normalise.get("timestamp", "timestamp")
    first, none, last = (row[0] for row in duckdb.sql(f"SELECT {column} FROM rows_of").fetchall())
    assert none is None
    assert first < last


def test_a_folder_says_what_it_has(tmp_path: Path) -> None:
    write(tmp_path / "purchases.parquet", rows(), by="timestamp")
    pq.write_table(pa.table({"item_id": ["i1"], "title": ["tea"]}), tmp_path / "items.parquet")
    settings = sequence_settings(str(tmp_path), ["run.seed=7"])
    assert settings.purchases.order == "timestamp"
    assert not settings.timed
    assert settings.items is not None
    assert (settings.items.title, settings.items.category, settings.run.seed) == ("title", None, 7)
    with pytest.raises(InputError, match=r"must be a folder with train\.parquet"):
        split_settings(str(tmp_path), [])
    pq.write_table(pa.table({"user_id": ["a"], "item": ["b"]}), tmp_path / "purchases.parquet")
    with pytest.raises(InputError, match="it lacks item_id: it has user_id, item"):
        sequence_settings(str(tmp_path), [])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sequence", "--index"), "topkin benchmark sequence takes --data, --keep-bought, got --index"),
        (("retail", "--cut", "2024-01-01", "--data", "x"), "topkin benchmark retail takes --cut, got --data"),
        (("gowalla", "--data", "x", "--cut", "2024-01-01"), "takes --data, --index, --keep-bought, got --cut"),
    ],
)
def test_an_option_of_another_benchmark_is_told(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
