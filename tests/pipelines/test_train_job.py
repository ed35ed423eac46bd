import os
from pathlib import Path

import pyarrow.compute as pc
import pytest

from topkin.artifacts import storage
from topkin.config.load import load_settings
from topkin.config.sections import Settings
from topkin.pipelines import train
from topkin.pipelines.engine.job import Job
from topkin.synthetic.shop import Shop

pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Job:
    """A small generated shop, prepared; the job has its folder."""
    from topkin.pipelines import prepare

    root = tmp_path_factory.mktemp("train")
    shop = Shop(users=150, items=60, purchases=3_000, seed=1)
    shop.write(str(root / "shop"))
    (root / "topkin.toml").write_text(shop.config_toml("shop"))
    settings = load_settings(
        str(root / "topkin.toml"), sets=["train.epochs=2", "train.dim=16", "train.svd_dim=8", "run.parts=2"]
    )
    for name in ("prepared", "scratch"):
        os.makedirs(root / name)
    job = Job(settings=settings, as_of=shop.as_of, out=str(root / "prepared"), scratch=str(root / "scratch"))
    prepare.STAGE.execute(job)
    return Job(settings=settings, as_of=shop.as_of, out="", folders={"prepare": str(root / "prepared")})


def test_settings_of_lists_train_again_only_where_a_second_stage_is_chosen_by_them():
    def read(**sections) -> dict:
        settings = Settings.model_validate({"purchases": {"path": "p.parquet"}, **sections})
        return dict(train.reads(settings).settings)

    other, sources, none = {"evaluate": {"neighbours": 7}}, {"sources": ["item_knn"]}, {"sources": []}
    assert read(recommend=none) == read(recommend=none, **other) == read(recommend={"model": "item_knn"})
    assert read(recommend={"model": "item_knn", **sources}) == read(recommend=none)  # nothing stands beside a baseline
    different = (read(recommend=none), read(), read(**other), read(recommend=sources), read(recommend=sources, **other))
    assert len({str(found) for found in different}) == 5


def run(job: Job, folder: Path) -> dict:
    (folder / "out").mkdir()
    return train.STAGE.execute(
        Job(
            settings=job.settings,
            as_of=job.as_of,
            out=str(folder / "out"),
            scratch=str(folder / "scratch"),
            folders=job.folders,
        )
    )


def test_a_prepared_folder_becomes_an_encoder_with_its_record(prepared, tmp_path):
    summary = run(prepared, tmp_path)
    out = str(tmp_path / "out")
    assert set(storage.files(out)) >= {
        "encoder.keras",
        "items.parquet",
        "signature.json",
        "training.json",
        "repurchase.json",
    }
    assert set(storage.read_json(f"{out}/repurchase.json")) <= {"keep", "boost"}
    assert any(name.startswith("logs/validation/") for name in storage.files(out))
    signature, training = (storage.read_json(f"{out}/{name}.json") for name in ("signature", "training"))
    assert signature["encoder"] == storage.sha256(f"{out}/encoder.keras")
    assert signature["validation"]["ndcg@20"] == summary["validation_ndcg@20"] > 0
    assert (
        summary["epochs"]
        == len(training["refit"])
        == (training["best_epoch"] if "trained" in training["blocks"] else 0)
    )
    assert {"epoch", "loss", "seconds", "validation_ndcg@20"} <= set(training["epochs"][0])
    assert ("the trained block did not" in training["left_out"]) == ("trained" not in training["blocks"])
    assert set(summary["blocks"]) == set(training["blocks"])

    from topkin.models.two_tower import serialization

    encoder = serialization.load(out)
    catalogue = storage.read_parquet(storage.join(prepared.folder("prepare"), "catalogue.parquet"))
    vectors, in_vectors = encoder.encode_items(catalogue)
    assert vectors.shape == in_vectors.shape == (len(catalogue), encoder.dim)
    assert encoder.dim == signature["dim"] == sum(b["dim"] for b in signature["blocks"]) + 1
    known = pc.is_in(catalogue["item_id"], encoder.ids).to_numpy(zero_copy_only=False)
    assert known.any()


def test_the_same_job_gives_the_same_encoder(prepared, tmp_path):
    hashes = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(prepared, tmp_path / name)
        hashes.append(storage.sha256(str(tmp_path / name / "out" / "encoder.keras")))
    assert hashes[0] == hashes[1]


def test_its_settings_are_those_that_the_result_depends_on():
    assert set(train.STAGE.sections) <= set(Settings.model_fields)
    assert train.STAGE.needs(Settings.model_validate({"purchases": {"path": "x"}})) == ("prepare",)
