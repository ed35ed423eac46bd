import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("tensorflow")

from topkin.baselines.registry import BASELINES
from topkin.config.sections import EvaluateSettings, TrainSettings
from topkin.errors import InputError
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.pipelines.benchmarks import pairs
from topkin.pipelines.cli.app import main
from topkin.recommend.second.stage import SecondStage

SMALL = [
    "--set",
    "train.epochs=1",
    "--set",
    "train.dim=4",
    "--set",
    "train.svd_dim=6",
    "--set",
    "train.next_item_dim=2",
]


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Path:
    """Two kinds of users and of items: what one bought of their kind is in train, the rest in test."""
    folder, rng = tmp_path_factory.mktemp("split"), np.random.default_rng(0)
    rows = {"train": [], "test": []}
    for user in range(60):
        items = rng.permutation(20) + 20 * (user % 2)
        rows["train"] += [(user, item) for item in items[:14]]
        rows["test"] += [(user, item) for item in items[14:]]
    rows["test"].append((999, 3))
    for name, result in rows.items():
        table = pa.table({"user_id": pa.array([u for u, _ in result], pa.int32()), "item_id": [i for _, i in result]})
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def test_a_checkerboard_is_solved_and_told_beside_baselines_and_nothing_published(split, capsys):
    assert main(["benchmark", "gowalla", "--data", str(split), *SMALL]) == 0
    printed = capsys.readouterr().out
    assert "published" not in printed  # on other data than these, whatever it is called
    assert {"Popularity", "Own frequency", "Item-kNN", "User-kNN"} <= {
        line[2:].split("  ")[0].strip() for line in printed.splitlines()
    }
    ours = next(line for line in printed.splitlines() if line.startswith("> topkin small"))
    recall, ndcg = map(float, ours.split()[-2:])
    assert recall > 0.95  # six items of a kind are left, twenty are listed
    assert ndcg > 0.8


def test_one_line_of_json_holds_the_result(split, capsys):
    assert main(["benchmark", "gowalla", "--data", str(split), "--json", "--seed", "3", "--index", *SMALL]) == 0
    (line,) = capsys.readouterr().out.strip().splitlines()
    printed = json.loads(line)
    assert {"recall@20", "ndcg@20", "seconds", "peak_mb", "seed", "preset", "dim", "index"} <= set(printed)
    assert (printed["seed"], printed["preset"], printed["users"], printed["test_pairs_unknown"]) == (3, "small", 60, 1)
    assert printed["index"]["queries"] == 60


def test_a_closed_form_alone_is_made_at_once_for_there_is_nothing_to_choose(split):
    train, evaluate = TrainSettings(epochs=0, svd_dim=6, next_item_dim=2), EvaluateSettings(baselines=("popularity",))
    figures = pairs.measure_split(str(split), train, 1, evaluate=evaluate)
    assert list(figures["blocks"]) == ["svd"]
    assert figures["blocks"]["svd"]["dim"] == 8
    assert figures["validation"] is None
    assert figures["recall@20"] > 0.95
    low, difference, high = figures["differences"]["popularity"]["recall@20"]
    assert low <= difference <= high
    means = [figures["metrics"][name]["recall@20"] for name in ("model", "popularity")]
    assert difference == pytest.approx(means[0] - means[1])
    kept = pairs.measure_split(str(split), train, 1, evaluate=evaluate, keep_bought=True)
    assert kept["ndcg@20"] < figures["ndcg@20"] - 0.1  # fourteen of a kind's twenty are bought, and compete


def test_the_judgement_is_that_of_a_loop():
    rng = np.random.default_rng(1)
    users, vectors = rng.normal(size=(12, 5)).astype(np.float32), rng.normal(size=(50, 5)).astype(np.float32)
    known = [rng.choice(50, 6, replace=False) for _ in range(12)]
    true = [np.setdiff1d(rng.choice(50, 8, replace=False), k)[: u % 5] for u, k in enumerate(known)]
    recalls, ndcgs = [], []
    for u in range(12):
        if not len(true[u]):
            continue
        scores = vectors @ users[u]
        scores[known[u]] = -np.inf
        best = np.argsort(-scores)[:20]
        hit = np.isin(best, true[u])
        recalls.append(hit.sum() / len(true[u]))
        gains = 1 / np.log2(np.arange(2, 22))
        ndcgs.append((hit * gains).sum() / gains[: len(true[u])].sum())

    part = interactions(known)
    got = pairs.judged(users, vectors, part, csr([np.sort(t) for t in true]), keep_bought=False, second=None)
    np.testing.assert_allclose(got["recall@20"], recalls)
    np.testing.assert_allclose(got["ndcg@20"], ndcgs)


def csr(lists):
    return Csr(np.cumsum([0, *map(len, lists)]), np.concatenate(lists).astype(np.int32))


def interactions(known):
    whole = csr([np.sort(one) for one in known])
    ones = np.ones(len(whole.indices), np.float32)
    return Interactions(whole.indptr, whole.indices, ones, ones, 50)


def test_a_second_stage_ranks_where_validation_chose_one():
    rng = np.random.default_rng(2)
    users, vectors = rng.normal(size=(30, 5)).astype(np.float32), rng.normal(size=(50, 5)).astype(np.float32)
    known = [rng.choice(50, 9, replace=False) for _ in range(30)]
    true = [np.setdiff1d(rng.choice(50, 20, replace=False), k)[:4] for k in known]
    part, weights = interactions(known), {"encoder": 1.0, "random_walk": 0.7, "popularity": 0.0}
    second = SecondStage.fitted(weights, part, 100)
    assert list(second.sources) == ["random_walk"]
    got = pairs.judged(users, vectors, part, csr([np.sort(t) for t in true]), keep_bought=False, second=second)
    walks = BASELINES["random_walk"].make().fit(part).scores(part)
    recalls = []
    for u in range(30):
        new = np.setdiff1d(np.arange(50), known[u])
        own, walk = vectors[new] @ users[u], walks[u, new]
        scores = own / np.abs(own).max() + 0.7 * walk / np.abs(walk).max()
        recalls.append(np.isin(new[np.argsort(-scores)[:20]], true[u]).mean() * 20 / 4)
    np.testing.assert_allclose(got["recall@20"], recalls)


def test_what_is_missing_is_said(split, tmp_path):
    with pytest.raises(InputError, match=r"train\.parquet is not there"):
        pairs.read_split(str(tmp_path))
    pq.write_table(pa.table({"user": [1], "item_id": [2]}), tmp_path / "train.parquet")
    with pytest.raises(InputError, match="it lacks user_id: it has user, item_id"):
        pairs.read_split(str(tmp_path))
    pq.write_table(pa.table({"user_id": ["a"], "item_id": [2]}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"user_id": [1], "item_id": [2]}), tmp_path / "test.parquet")
    with pytest.raises(InputError, match="user_id must be of one type in both files, got string and int64"):
        pairs.read_split(str(tmp_path))


def test_a_name_or_a_folder_or_a_date_that_lacks_is_asked_for(capsys):
    for name in ("netflix", "gowalla"):
        assert main(["benchmark", name]) == 2
        assert "--data must name the folder" in capsys.readouterr().err
    assert main(["benchmark", "retail"]) == 2
    assert "--cut must be the date" in capsys.readouterr().err
