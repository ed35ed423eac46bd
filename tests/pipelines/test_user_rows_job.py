"""Rows of users' own from training to published vectors, on a generated shop."""

import os

import numpy as np
import pytest

from topkin.artifacts import storage
from topkin.artifacts.embeddings import read_items, read_users
from topkin.config.load import load_settings
from topkin.interactions import Interactions
from topkin.pipelines import embed, prepare, recommend, train
from topkin.pipelines.engine.job import Job
from topkin.synthetic.shop import Shop

pytest.importorskip("tensorflow")

PARTS = 3
SETS = [
    "train.epochs=2",
    "train.dim=16",
    "train.svd_dim=8",
    "train.user_rows=true",
    "train.validation_days=0.001",
    f"run.parts={PARTS}",
    "recommend.k=5",
]


def job_of(root, out, settings, as_of, beam=()):
    folders = {"prepare": "prepared", "train": "model", "embed": "embeddings"}
    folders = {stage: str(root / name) for stage, name in folders.items()}
    os.makedirs(root / out)
    scratch = str(root / f"{out}-scratch")
    return Job(settings=settings, as_of=as_of, out=str(root / out), scratch=scratch, folders=folders, beam=beam)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the stages up to the vectors, and what its jobs are made of."""
    root = tmp_path_factory.mktemp("rows")
    shop = Shop(users=120, items=50, purchases=2_500, seed=2)
    shop.write(str(root / "shop"))
    (root / "topkin.toml").write_text(shop.config_toml("shop"))
    settings = load_settings(str(root / "topkin.toml"), sets=SETS)
    for stage, out in ((prepare, "prepared"), (train, "model"), (embed, "embeddings")):
        stage.STAGE.execute(job_of(root, out, settings, shop.as_of))
    return root, settings, shop.as_of


def test_the_vectors_of_users_are_the_encoders_with_their_rows(made):
    from topkin.models.two_tower.serialization import load

    root, settings, as_of = made
    encoder = load(str(root / "model"))
    assert 0 < len(encoder.users.ids) <= 120
    catalogue = storage.read_parquet(str(root / "prepared" / "catalogue.parquet"))
    in_vectors = read_items(str(root / "embeddings"), encoder.hash).in_vectors
    buyers, moved = np.asarray(catalogue["users"]), 0
    for part in range(PARTS):
        name = storage.part_name(part, PARTS)
        histories = storage.read_parquet(str(root / "prepared" / "histories" / name))
        history = Interactions.from_histories(histories, catalogue["item_id"], as_of)
        ids, got = read_users(str(root / "embeddings"), part, PARTS, encoder.hash)
        how = {"length": settings.embed.history_length}
        want = encoder.encode_users(history, in_vectors, buyers, **how, users=histories["user_id"])
        assert ids.equals(histories["user_id"])
        assert np.array_equal(got, want)
        moved += int((got != encoder.encode_users(history, in_vectors, buyers, **how)).any(axis=1).sum())
    assert moved == len(encoder.users.ids)


def test_any_number_of_workers_gives_the_same_files(made):
    root, settings, as_of = made
    beam = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    embed.STAGE.execute(job_of(root, "again", settings, as_of, beam))
    names = storage.files(str(root / "embeddings"))
    assert names == storage.files(str(root / "again"))
    assert all((root / "embeddings" / n).read_bytes() == (root / "again" / n).read_bytes() for n in names)


def test_reasons_are_bought_items(made):
    root, settings, as_of = made
    recommend.STAGE.execute(job_of(root, "recommendations", settings, as_of))
    histories = storage.read_parts(str(root / "prepared" / "histories"))
    bought = dict(zip(histories["user_id"].to_pylist(), map(set, histories["items"].to_pylist()), strict=True))
    (folder,) = (root / "recommendations" / "recommendations").iterdir()
    lists = storage.read_parts(str(folder)).to_pylist()
    named = [(row["user_id"], reason) for row in lists for reason in row["because"] or ()]
    assert len(named) > 300
    assert all(item in bought[user] for user, item in named)
