import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from topkin.artifacts import storage
from topkin.config.load import load_settings
from topkin.config.sections import Settings
from topkin.errors import ConfigError
from topkin.models.data.histories import sold_most
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
    assert len({str(one_key) for one_key in different}) == 5
    beside = {"lists": {"mail": {"model": "encoder"}}, "recommend": {"model": "item_knn", **sources}}
    assert read(**beside) == read(recommend=sources)  # the list by the encoder has them
    beside["lists"]["mail"]["sources"] = []
    assert read(**beside) == read(recommend=none)


@pytest.mark.parametrize(
    ("features", "sets", "key"),
    [
        ({"plan": "plan"}, {"epochs": 0}, "train.epochs is 0"),
        ({"plan": "plan"}, {"user_feature_dim": 0}, "train.user_feature_dim is 0"),
        ({"plan": "plan"}, {}, ""),
        ({}, {"epochs": 0}, ""),
    ],
)
def test_features_of_users_that_no_block_reads_are_told(features, sets, key):
    users = {"path": "u.parquet", "features": features}
    settings = train.unread(Settings.model_validate({"purchases": {"path": "p"}, "users": users, "train": sets}))
    assert key in settings
    assert bool(settings) == bool(key)


def run(job: Job, folder: Path) -> dict:
    (folder / "out").mkdir()
    return train.STAGE.execute(
        Job(
            settings=job.settings,
            as_of=job.as_of,
            out=str(folder / "out"),
            scratch=str(folder / "scratch"),
            folders=job.folders,
            beam=job.beam,
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


@pytest.mark.slow
def test_the_same_job_gives_the_same_encoder(prepared, tmp_path):
    hashes = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(prepared, tmp_path / name)
        hashes.append(storage.sha256(str(tmp_path / name / "out" / "encoder.keras")))
    assert hashes[0] == hashes[1]


def test_workers_give_the_vectors_and_lists_of_one_process(prepared, tmp_path):
    from topkin.models.data.histories import PreparedHistories
    from topkin.models.two_tower import serialization

    folder, scores_by_way = prepared.folder("prepare"), []
    catalogue = storage.read_parquet(storage.join(folder, "catalogue.parquet"))
    histories = PreparedHistories(storage.join(folder, "histories"), catalogue["item_id"], prepared.as_of)
    part = histories.part(histories.names()[0])
    for name, least in {"alone": 10**9, "workers": 0}.items():
        settings = closed_form(prepared.settings, svd_workers_from=least)
        (tmp_path / name).mkdir()
        run(replace(prepared, settings=settings), tmp_path / name)
        encoder = serialization.load(str(tmp_path / name / "out"))
        vectors, pooled = encoder.encode_items(catalogue)
        scores_by_way.append(encoder.encode_users(part, pooled, np.asarray(catalogue["users"])) @ vectors.T)
        assert not (tmp_path / name / "scratch" / "closed-form").exists()
    np.testing.assert_allclose(*scores_by_way, atol=1e-3 * np.abs(scores_by_way[0]).max())
    best, same = (np.argsort(-scores, axis=1)[:, :10] for scores in scores_by_way)
    assert (best == same).mean() > 0.98


def test_the_items_that_sold_most_are_learned_by_workers_as_by_one_process(prepared, tmp_path):
    from topkin.models.two_tower import serialization

    folder, vectors = prepared.folder("prepare"), []
    catalogue = storage.read_parquet(storage.join(folder, "catalogue.parquet"))
    most = 30
    best = sold_most(catalogue, most)["item_id"]
    for name, least in {"alone": 10**9, "workers": 0}.items():
        settings = closed_form(prepared.settings, svd_workers_from=least)
        settings = settings.model_copy(update={"train": settings.train.model_copy(update={"max_items": most})})
        (tmp_path / name).mkdir()
        summary = run(replace(prepared, settings=settings), tmp_path / name)
        assert f"the {most} of {len(catalogue)} items that sold most are learned" in "; ".join(summary["notes"])
        encoder = serialization.load(str(tmp_path / name / "out"))
        assert set(encoder.ids.to_pylist()) <= set(best.to_pylist())
        vectors.append(encoder.encode_items(catalogue)[0])
    learned = pc.is_in(catalogue["item_id"], best).to_numpy(zero_copy_only=False)
    products = [each[learned] @ each[learned].T for each in vectors]  # up to a rotation they are the same
    np.testing.assert_allclose(*products, atol=1e-3 * np.abs(products[0]).max())


def test_a_training_of_a_part_of_the_purchases_says_so(prepared, tmp_path):
    settings = prepared.settings
    settings = settings.model_copy(update={"train": settings.train.model_copy(update={"max_purchases": 100})})
    summary = run(replace(prepared, settings=settings), tmp_path)
    assert "an epoch reads about 100 of " in "; ".join(summary["notes"])


def test_one_process_does_what_is_small_and_the_runner_what_is_not(prepared, tmp_path):
    (tmp_path / "workers").mkdir()
    asked = replace(prepared, beam=["--runner=Nowhere"])
    run(replace(asked, settings=closed_form(prepared.settings)), tmp_path)
    by_workers = replace(asked, settings=closed_form(prepared.settings, svd_workers_from=0))
    with pytest.raises(ConfigError, match="no runner Nowhere"):
        run(by_workers, tmp_path / "workers")


def closed_form(settings: Settings, **advanced) -> Settings:
    """With so few columns that there are more items."""
    train, advanced = settings.train, {"svd_rank": 8, **advanced}
    changed = {"epochs": 0, "next_item_dim": 8, "advanced": train.advanced.model_copy(update=advanced)}
    return settings.model_copy(update={"train": train.model_copy(update=changed)})


def test_its_settings_are_those_that_the_result_depends_on():
    assert set(train.STAGE.sections) <= set(Settings.model_fields)
    assert train.STAGE.needs(Settings.model_validate({"purchases": {"path": "x"}})) == ("prepare",)
