"""Features of purchases from the file to lists: what they say is learned, served and explained."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from topkin.api.answers import Answers
from topkin.api.data import StoredData
from topkin.api.runs import PublishedRun
from topkin.artifacts import runs, storage
from topkin.artifacts.embeddings import read_items, vectors_of
from topkin.config.sections import Settings
from topkin.encoding.blocks import FEATURES, Block, user_vectors
from topkin.evaluation.protocol import lists_of
from topkin.ingest.splits import part_at_cut
from topkin.interactions import Interactions
from topkin.models.data.purchase_weights import PurchaseWeights
from topkin.pipelines import recommend
from topkin.pipelines.cli.read.explain import explain
from topkin.pipelines.engine import stages
from topkin.pipelines.engine.job import Job
from topkin.recommend.explain import ExplainableScores
from topkin.transforms.recommend import ListMaker
from topkin.transforms.unchanged.before import Before

AS_OF, USERS, KINDS, PER_KIND = datetime(2024, 6, 1), 90, 3, 10
UNVALIDATED: dict[str, Any] = {"validation_days": 0.001, "recency_weight": 0.0}
"""Every block stays, with the settings that it starts from."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """A run over users who buy one kind of item, and gifts of any."""
    folder, rng = tmp_path_factory.mktemp("gifts"), np.random.default_rng(1)
    rows = []
    for user in range(USERS):
        for number in range(12):
            gift = bool(number % 2)
            kind = int(rng.integers(0, KINDS)) if gift else user % KINDS
            item = f"i{kind * PER_KIND + int(rng.integers(0, PER_KIND))}"
            day = AS_OF - timedelta(days=float(rng.uniform(1, 90)))
            rows.append((f"u{user}", item, day, ("web", "gift")[gift]))
    names = ("user_id", "item_id", "timestamp", "channel")
    pq.write_table(pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))), folder / "purchases.parquet")
    kinds = [f"kind {item // PER_KIND}" for item in range(KINDS * PER_KIND)]
    items = pa.table({"item_id": [f"i{item}" for item in range(KINDS * PER_KIND)], "kind": kinds})
    pq.write_table(items, folder / "items.parquet")
    asked = Settings.model_validate(
        {
            "run": {"output": str(folder / "out"), "parts": 2},
            "purchases": {"path": str(folder / "purchases.parquet"), "features": {"channel": "channel"}},
            "items": {"path": str(folder / "items.parquet"), "features": {"kind": "kind"}},
            "train": {"svd_dim": 8, "next_item_dim": 0, "dim": 4, "feature_dim": 4, "epochs": 6, **UNVALIDATED},
            "recommend": {"k": 5, "sources": [], "columns": ["because_shares"]},
            "evaluate": {"k": [5]},
            "publish": {"metric": "ndcg@5"},
        }
    )
    for stage in ("prepare", "train", "embed", "recommend"):
        run = stages.run_stages(asked, as_of=AS_OF, only=stage)
    return run


def test_users_are_pooled_and_lists_explained_by_the_weights_that_were_learned(published: runs.Run) -> None:
    run = published
    signature = storage.read_json(storage.join(run.folder("train"), "signature.json"))
    weights = PurchaseWeights.from_signature(signature)
    assert weights is not None
    web, gift = (1 + weights.rows.features[0]["labels"].index(label) for label in ("web", "gift"))
    assert weights.table[gift] < weights.table[web]
    blocks = [Block.from_json(block) for block in signature["blocks"]]
    assert {block.gate for block in blocks if block.name == FEATURES} == {1.0}
    catalogue = storage.read_parquet(storage.join(run.folder("prepare"), "catalogue.parquet"))
    histories = storage.read_parts(storage.join(run.folder("prepare"), "histories"))
    items = read_items(run.folder("embed"), signature["encoder"])
    ids, buyers = catalogue["item_id"], np.asarray(catalogue["users"])
    tables = (weights.added(histories), histories)
    known, plain = (Interactions.from_histories(table, ids, AS_OF) for table in tables)
    embedded = vectors_of(storage.read_parts(storage.join(run.folder("embed"), "users")))
    assert embedded == pytest.approx(user_vectors(known, items.in_vectors, buyers, blocks), abs=1e-6)
    assert np.abs(embedded - user_vectors(plain, items.in_vectors, buyers, blocks)).max() > 0.01
    rows = storage.read_parts(storage.join(run.folder("recommend"), "recommendations/date=2024-06-01"))
    listed = lists_of(rows, histories["user_id"], ids, 5)
    why = ExplainableScores(
        vectors=items.vectors, in_vectors=items.in_vectors, buyers=buyers, blocks=blocks, history_length=512
    )
    names = ids.to_pylist()
    result = {(r["user_id"], r["item_id"]): r["because"] for r in rows.to_pylist()}
    reasons, shares = why.shares(known, listed, 12)
    for user, row in enumerate(histories["user_id"].to_pylist()):
        for place, item in enumerate(listed[user]):
            wanted = [names[n] for n in reasons[user, place][:3] if n >= 0]
            assert result[row, names[item]] == wanted
    scores = np.einsum("nd,nkd->nk", embedded, items.vectors[listed])
    assert (shares.sum(axis=2) >= scores - 1e-4).all()  # what speaks against an item is no reason


def made_settings(run: runs.Run) -> Settings:
    return Settings.model_validate(storage.read_json(storage.join(run.path, "run.json"))["settings"])


def test_a_cut_knows_the_features_of_the_purchases_before_it(published: runs.Run) -> None:
    events = storage.read_parquet(storage.parquet_files(storage.join(published.folder("prepare"), "events"))[0])
    known = part_at_cut(events, AS_OF - timedelta(days=30), 7.0).histories
    before = [row for row in events.to_pylist() if row["timestamp"] < AS_OF - timedelta(days=30)]
    assert [entry for row in known["purchase_features"].to_pylist() for entry in row] == [r["features"] for r in before]


def test_whoever_explains_counts_purchases_as_the_vectors_do(published: runs.Run) -> None:
    row = storage.read_parts(
        storage.join(published.folder("recommend"), "recommendations/date=2024-06-01")
    ).to_pylist()[0]
    user, item, shares = row["user_id"], row["item_id"], row["because_shares"]
    error = explain(published, user, item).place.shares["share"].to_pylist()
    assert error[: len(shares)] == pytest.approx(shares, abs=1e-7)
    data = StoredData(PublishedRun(published))
    why = Answers(data).explanation(pa.array([user]), pa.array([item]))["share"].to_pylist()
    assert why == error
    both = data.histories.filter(pc.equal(data.histories["user_id"], user)), data.histories_of(pa.array([user]))
    assert both[0]["log_weights"].to_pylist() == both[1]["log_weights"].to_pylist()


def test_users_of_a_night_before_are_those_of_the_same_purchases_and_features(published: runs.Run) -> None:
    job = Job(settings=made_settings(published), as_of=AS_OF, out="", folders=published.folders)
    items = ListMaker(recommend.inputs_of(job)).items
    encoder = storage.read_json(storage.join(published.folder("train"), "signature.json"))["encoder"]
    places = {
        "prepared": published.folder("prepare"),
        "embeddings": published.folder("embed"),
        "folder": published.folder("recommend"),
    }
    before = Before(**places, encoder=encoder, parts=2)
    histories, vectors = items.users(0)
    assert before.same_users(0, histories, vectors).all()
