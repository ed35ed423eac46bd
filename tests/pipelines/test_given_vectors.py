"""Vectors of users and items that were made elsewhere: lists are the nearest by cosine, and nothing is trained."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import runs, storage
from topkin.config.load import load_settings
from topkin.config.sections import Settings
from topkin.errors import ConfigError, TopkinError
from topkin.linalg.cosine import cosine_matrix
from topkin.pipelines.engine import stages
from topkin.pipelines.prepare import check_inputs

AS_OF, DAY = datetime(2024, 6, 1), timedelta(days=1)
USERS, ITEMS, DIM, K = 60, 40, 6, 5
NO_VECTOR, ONLY_BOUGHT, NO_PURCHASES = 3, "stranger", 7
"""A user of the table without a vector; one of purchases alone; and one of the table who bought nothing."""


def shop(folder: Path, **changes: Any) -> dict[str, Any]:
    """The sections of a shop whose users and items have random vectors of any length; changes: of the vectors."""
    rng = np.random.default_rng(3)
    users, items = (rng.normal(size=(n, DIM)) * rng.uniform(0.1, 9, (n, 1)) for n in (USERS, ITEMS))
    vectors: dict[str, Any] = {"users": list(users), "items": list(items)} | changes
    vectors["users"][NO_VECTOR] = None
    bought = [(u, i, d) for u in range(USERS) if u != NO_PURCHASES for i, d in rng.integers(0, ITEMS, (4, 2))]
    rows = [(f"u{u}", f"i{i}", AS_OF - int(d % 28 + 1) * DAY) for u, i, d in bought]
    rows += [(ONLY_BOUGHT, "i1", AS_OF - DAY)] + [(f"u{u}", f"i{u % ITEMS}", AS_OF + DAY) for u in range(30)]
    names = ("user_id", "item_id", "timestamp")
    pq.write_table(pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))), folder / "purchases.parquet")
    for side, table in vectors.items():
        ids = [f"{side[0]}{n}" for n in range(len(table))]
        column = pa.array([None if v is None else list(v) for v in table], pa.list_(pa.float32()))
        pq.write_table(pa.table({f"{side[:-1]}_id": ids, "emb": column}), folder / f"{side}.parquet")
    return {
        "run": {"output": str(folder / "out"), "parts": 3},
        "purchases": {"path": str(folder / "purchases.parquet")},
        "items": {"path": str(folder / "items.parquet"), "vector": "emb"},
        "users": {"path": str(folder / "users.parquet"), "vector": "emb"},
        "recommend": {"k": K},
        "index": {"sample": 20},
        "evaluate": {"k": [5], "bootstrap": 20, "baselines": ["popularity"]},
        "publish": {"metric": "ndcg@5"},
    }


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[runs.Run, dict[str, dict[str, Any]], Settings]:
    """A whole run, what its stages tell, and its settings."""
    asked = Settings.model_validate(shop(tmp_path_factory.mktemp("given")))
    summaries: dict[str, dict[str, Any]] = {}
    run = stages.run_stages(asked, as_of=AS_OF, tell=lambda e: summaries.update({e.stage: dict(e.summary or {})}))
    return run, summaries, asked


def lists_of(run: runs.Run, folder: str = "recommendations/date=2024-06-01") -> dict[str, list[dict[str, Any]]]:
    rows = storage.read_parts(storage.join(run.folder("recommend"), folder)).to_pylist()
    return {user: [r for r in rows if r["user_id"] == user] for user in sorted({r["user_id"] for r in rows})}


def test_lists_are_the_nearest_items_by_cosine_that_the_user_has_not_bought(published: Any) -> None:
    run, *_ = published
    histories = storage.read_parts(storage.join(run.folder("prepare"), "histories")).to_pylist()
    catalogue = storage.read_parquet(storage.join(run.folder("prepare"), "catalogue.parquet"))
    ids, items = catalogue["item_id"].to_pylist(), np.array(catalogue["vector"].to_pylist())
    lists, judged = lists_of(run), 0
    for user in histories:
        if not any(user["vector"]):
            continue
        cosine = cosine_matrix(np.array([user["vector"]]), items)[0]
        left = [n for n in np.argsort(-cosine, kind="stable") if ids[n] not in user["items"]][:K]
        assert [r["item_id"] for r in lists[user["user_id"]]] == [ids[n] for n in left]
        assert [r["score"] for r in lists[user["user_id"]]] == pytest.approx(cosine[left], abs=1e-5)
        assert {r["source"] for r in lists[user["user_id"]]} == {"model"}
        assert all(r["because"] == [] for r in lists[user["user_id"]])
        judged += 1
    assert judged == USERS - 1
    assert not next(h for h in histories if h["user_id"] == f"u{NO_PURCHASES}")["items"]


def test_a_user_without_a_vector_gets_what_sells(published: Any) -> None:
    lists = lists_of(published[0])
    for user in (f"u{NO_VECTOR}", ONLY_BOUGHT):
        assert {r["source"] for r in lists[user]} <= {"recent_popularity", "popularity"}


def test_nothing_is_trained_and_what_judges_may_have_been_seen(published: Any) -> None:
    run, result, _ = published
    assert result["train"]["notes"] == [
        "nothing is trained: 40 of 40 items and 59 of 61 users have a vector of 6 numbers, made elsewhere"
    ]
    assert result["embed"]["users_without_vector"] == 2
    assert (
        "the vectors were made elsewhere; where they have seen what judges them, the figures are too good"
        in (result["evaluate"]["notes"])
    )
    page = Path(run.folder("report"), "report.html").read_text()
    assert "where they have seen what judges them" in page
    assert "The vectors of users and items were made elsewhere, and nothing was trained." in page
    assert storage.files(run.folder("train")) == ["manifest.json", "repurchase.json", "signature.json", "training.json"]


def test_a_benchmark_judges_given_vectors_too(tmp_path: Path) -> None:
    from topkin.pipelines.benchmarks.staged import measure_sequence
    from topkin.pipelines.benchmarks.table import table

    asked = Settings.model_validate(shop(tmp_path))
    figures = measure_sequence(asked, keep_bought=False, tell=lambda event: None)
    assert (figures["epochs"], figures["left_out"], figures["dim"]) == (0, "", DIM)
    assert f"> topkin {asked.train.preset}, {DIM} dims" in [row[0] for row in table(figures)]


def test_neighbours_are_the_nearest_by_cosine(published: Any) -> None:
    run, *_ = published
    catalogue = storage.read_parquet(storage.join(run.folder("prepare"), "catalogue.parquet"))
    ids, items = catalogue["item_id"].to_pylist(), np.array(catalogue["vector"].to_pylist())
    near = storage.read_parts(storage.join(run.folder("similar"), "similar_items")).to_pylist()
    cosine = cosine_matrix(items)
    np.fill_diagonal(cosine, -2)
    for row in near:
        at = ids.index(row["item_id"])
        assert row["neighbour_id"] == ids[np.argsort(-cosine[at])[row["rank"] - 1]]
        assert row["score"] == pytest.approx(np.sort(-cosine[at])[row["rank"] - 1] * -1, abs=1e-5)


def test_lists_by_the_index_and_of_other_parts_are_the_same(published: Any, tmp_path: Path) -> None:
    sections = shop(tmp_path)
    sections["run"]["parts"] = 5
    sections["recommend"]["search"] = "index"
    run = published[0]
    for stage in ("prepare", "train", "embed", "index", "recommend"):
        other = stages.run_stages(Settings.model_validate(sections), as_of=AS_OF, only=stage)
    assert lists_of(other) == lists_of(run)
    signatures = [storage.read_json(storage.join(r.folder("train"), "signature.json")) for r in (run, other)]
    assert signatures[0] == signatures[1]


def test_another_vector_of_one_user_is_another_encoder(published: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    users = list(rng.normal(size=(USERS, DIM)))
    sections = shop(tmp_path, users=users)
    for stage in ("prepare", "train"):
        other = stages.run_stages(Settings.model_validate(sections), as_of=AS_OF, only=stage)
    signatures = [storage.read_json(storage.join(r.folder("train"), "signature.json")) for r in (published[0], other)]
    assert signatures[0]["encoder"] != signatures[1]["encoder"]
    assert signatures[0]["blocks"] == signatures[1]["blocks"]


def test_a_night_without_later_purchases_is_not_judged_and_says_why(published: Any) -> None:
    asked = Settings.model_validate_json(published[2].model_dump_json())  # as run.json keeps them
    summaries: dict[str, Any] = {}
    night = AS_OF + 20 * DAY
    for stage in stages.needed("evaluate", asked):
        stages.run_stages(asked, as_of=night, only=stage, tell=lambda e: summaries.update({e.stage: e.summary}))
    note = " ".join(summaries["evaluate"]["notes"])
    assert "no days could be held out once more: the vectors were made elsewhere, and have seen these days" in note
    assert "too good" not in note


ROWS = [[1.0] * DIM, [float("nan")] * DIM, [0.0] * DIM, [1.0] * 3, [2.0] * DIM]


def test_vectors_of_another_length_or_no_numbers_are_rejected_and_zeros_are_none(tmp_path: Path) -> None:
    sections = shop(tmp_path, users=[*ROWS])
    sections["prepare"] = {"max_reject_share": 1}
    run = stages.run_stages(Settings.model_validate(sections), as_of=AS_OF, only="prepare")
    rejects = storage.read_parts(storage.join(run.folder("prepare"), "rejects")).to_pylist()
    assert [(json.loads(r["record"])["user_id"], r["reason"]) for r in rejects] == [
        ("u1", "emb has a number that is null or not finite"),
    ]
    histories = storage.read_parts(storage.join(run.folder("prepare"), "histories")).to_pylist()
    with_vector = {h["user_id"] for h in histories if any(h["vector"])}
    assert with_vector == {"u0", "u4"}  # u3, of another length, was made null by the shop


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"users": [[1.0] * 4] * USERS},
            "vectors of users and items must have one length, to have a cosine: items.vector, 'emb', has 6 numbers, "
            "users.vector, 'emb', 4: take both from one model",
        ),
        (
            {"users": [None] * USERS},
            "column 'emb' (users.vector) must hold a vector in some row, got none: write the vectors, or drop "
            "users.vector",
        ),
        (
            {"users": [[1.0] * DIM] + [[1.0] * 3] * 20},
            "has not 6 numbers",
        ),
    ],
)
def test_vectors_that_do_not_fit_are_refused_before_the_work(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    asked = Settings.model_validate(shop(tmp_path, **changes))
    with pytest.raises(TopkinError) as caught:
        stages.run_stages(asked, as_of=AS_OF, only="prepare")
    assert message in str(caught.value)


def test_a_column_that_holds_no_lists_and_ids_of_another_type_are_refused(tmp_path: Path) -> None:
    sections = shop(tmp_path)
    sections["users"]["vector"] = "user_id"
    (settings,) = check_inputs(Settings.model_validate(sections), AS_OF)
    assert "column 'user_id' (users.vector) must be a list of floats, got string: name a column of lists" in str(
        settings
    )
    rows = pa.table({"user_id": [1, 2], "emb": [[1.0] * DIM] * 2})
    pq.write_table(rows, tmp_path / "users.parquet")
    sections["users"]["vector"] = "emb"
    (settings,) = check_inputs(Settings.model_validate(sections), AS_OF)
    assert "users.user_id" in str(settings)
    assert "int64" in str(settings)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ("[items]\npath = 'i'", "users.vector goes with items.vector, made by the same model"),
        ("[items]\npath = 'i'\nvector = 'e'\n[train]\nepochs = 1", "users.vector leaves nothing to train, got"),
        ("[items]\npath = 'i'\nvector = 'e'\nfeatures = {a = 'a'}", "features are what training learns from, got"),
        ("[items]\npath = 'i'\nvector = 'e'\n[recommend]\nbecause = 2", "recommend.because names the purchases"),
        ("[items]\npath = 'i'\nvector = 'e'\n[recommend]\nsources = ['item_knn']", "recommend.sources are weighed by"),
    ],
)
def test_settings_that_do_not_go_with_vectors_of_users_are_refused(tmp_path: Path, sections: str, message: str) -> None:
    path = tmp_path / "topkin.toml"
    path.write_text(f"[purchases]\npath = 'p'\n[users]\npath = 'u'\nvector = 'e'\n{sections}\n")
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        load_settings(path)


def test_a_baseline_beside_vectors_of_users_lists_by_purchases_as_ever(tmp_path: Path) -> None:
    """A user who bought nothing has no scores there, but what sells."""
    asked = Settings.model_validate({**shop(tmp_path), "recommend": {"k": K, "model": "item_knn"}})
    assert (asked.recommend.min_history, asked.recommend.because) == (1, 3)
    again = Settings.model_validate_json(asked.model_dump_json())
    for stage in stages.needed("recommend", again):
        run = stages.run_stages(again, as_of=AS_OF, only=stage)
    lists = lists_of(run)
    assert {r["source"] for r in lists[f"u{NO_PURCHASES}"]} == {"recent_popularity"}
    assert any(r["because"] for rows in lists.values() for r in rows)
