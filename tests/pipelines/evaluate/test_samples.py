"""Beyond a size, who judges and what baselines learn from is drawn: the same users for any parts."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from tests.pipelines.evaluate.shop import AS_OF, checkerboard, metrics_of, write_run
from topkin.artifacts import storage
from topkin.artifacts.partition import in_sample
from topkin.evaluation.segments import quartiles
from topkin.interactions import Interactions, concatenate
from topkin.pipelines import evaluate


def test_a_sample_judges_the_same_users_for_any_parts_and_says_so(tmp_path: Path, page_of: Any) -> None:
    purchases, vectors = checkerboard(40)
    collected = []
    for parts in (1, 4):
        asked = {"bootstrap": 20, "users": 20, "purchases": 400}
        job = write_run(tmp_path / str(parts), purchases, vectors, parts=parts, evaluate=asked)
        object.__setattr__(job, "beam", ("--direct_runner_bundle_repeat=2",))
        summary = evaluate.STAGE.execute(job)
        collected.append(metrics_of(job))
        judged = storage.read_parts(storage.join(job.out, "users"))["user_id"]
        histories = storage.read_parts(storage.join(job.folder("prepare"), "histories"))["user_id"]
        drawn = in_sample(histories, 0.5, job.settings.run.seed)
        assert sorted(judged.to_pylist()) == sorted(np.array(histories.to_pylist())[drawn])
    assert collected[0] == collected[1]
    assert 0 < collected[0]["heldout"]["users"] < 40
    assert collected[0]["sampled"] == {"could_judge": 40, "judged_share": 0.5, "learned_share": 400 / 760}
    assert "a sample of 50.00% of 40 users judges" in page_of(job).text
    assert any("baselines learned from 52.63% of the users" in note for note in summary["notes"])


def test_baselines_learn_from_the_users_who_were_drawn_alone(tmp_path: Path) -> None:
    from topkin.baselines.fitted import fit_baselines
    from topkin.transforms.evaluate import fit, load_shop

    purchases, vectors = checkerboard(40)
    job = write_run(tmp_path, purchases, vectors, evaluate={"purchases": 400, "baselines": ["item_knn", "popularity"]})
    sources = evaluate.inputs_of(job)
    fit(sources)
    histories = storage.read_parts(storage.join(job.folder("prepare"), "histories"))
    drawn = histories.filter(in_sample(histories["user_id"], 400 / 760, sources.seed))
    ids = storage.read_parquet(storage.join(job.folder("prepare"), "catalogue.parquet"))["item_id"]
    want = fit_baselines(concatenate([Interactions.from_histories(drawn, ids, AS_OF)]), ["item_knn", "popularity"], 100)
    for name, baseline in load_shop(sources).baselines.items():
        for part, values in baseline.state().items():
            assert np.array_equal(values, want[name].state()[part])


def test_users_who_bought_in_the_days_that_count_could_judge(tmp_path: Path) -> None:
    from topkin.transforms.evaluate import look

    purchases, vectors = checkerboard(8)
    purchases += [("new", 0, AS_OF + timedelta(days=1)), ("user 1", 2, AS_OF + timedelta(days=9))]
    job = write_run(tmp_path, purchases, vectors, parts=1, extra_users=["new"], evaluate={"days": 2})
    assert look(evaluate.inputs_of(job), 0)["judged"] == 0
    job = write_run(tmp_path / "more", purchases, vectors, parts=1, evaluate={"days": 4})
    looked = look(evaluate.inputs_of(job), 0)
    assert (looked["judged"], looked["buying"], looked["users"]) == (8, {3: 8}, 8)


def test_without_purchases_whoever_is_known_could_judge(tmp_path: Path) -> None:
    from topkin.transforms.evaluate import look

    later = [(f"user {n}", 0, AS_OF + timedelta(days=1)) for n in range(5)]
    _, vectors = checkerboard(8)
    listed = [f"user {n}" for n in range(4)]
    job = write_run(tmp_path, later, vectors, parts=1, extra_users=listed)
    sources = evaluate.inputs_of(job)
    assert look(sources, 0)["judged"] == 0
    assert look(replace(sources, by_vectors=True), 0)["judged"] == 4


def test_quartiles_of_counts_are_those_of_the_users() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 5, 40):
        purchases = np.sort(rng.integers(1, 9, size))
        users = dict(zip(*(x.tolist() for x in np.unique(purchases, return_counts=True)), strict=True))
        want = tuple(int(purchases[-(-size * q // 4) - 1]) for q in (1, 2, 3))
        assert quartiles(users) == want
    assert quartiles({}) == (0, 0, 0)
