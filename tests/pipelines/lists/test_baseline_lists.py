"""The jobs where a baseline is the model: its lists are published, and they are judged as what they are.

One small generated shop, prepared, with an encoder of random weights that the lists must not depend on.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import schemas, storage
from topkin.baselines import fitted, registry
from topkin.config.load import load_settings
from topkin.config.sections import Settings
from topkin.errors import ConfigError
from topkin.interactions import Interactions
from topkin.pipelines import evaluate, recommend
from topkin.pipelines.engine import stages
from topkin.pipelines.engine.job import Job
from topkin.synthetic.shop import Shop

K = 7
MADE = Shop(users=90, items=40, purchases=1_500, seed=2)
NAMES = [name for name in registry.BASELINES if name not in registry.left_out([name])]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, before_lists: Any) -> Path:
    """The folders of the stages before the lists; the last items of the catalogue are denied."""
    folder = tmp_path_factory.mktemp("shop")
    catalogue = before_lists(folder, MADE, job_of)
    pq.write_table(catalogue.select(["item_id"]).slice(len(catalogue) - 5), folder / "deny.parquet")
    return folder


def settings_of(folder: Path, *sets: str) -> Settings:
    small = ("run.parts=3", f"recommend.k={K}", "recommend.min_history=2", "evaluate.bootstrap=20")
    return load_settings(folder / "topkin.toml", [*small, *sets], env={})


def job_of(folder: Path, out: str, *sets: str, lists: str = "", beam: tuple[str, ...] = ()) -> Job:
    names = {"prepare": "prepared", "train": "model", "embed": "embeddings", "recommend": lists}
    folders = {stage: str(folder / name) for stage, name in names.items() if name}
    return Job(settings=settings_of(folder, *sets), as_of=MADE.as_of, out=str(folder / out), folders=folders, beam=beam)


def known_of(folder: Path) -> tuple[pa.Table, pa.Table, Interactions]:
    """The users' histories in the order of the parts, the catalogue, and both as numbers."""
    catalogue = storage.read_parquet(str(folder / "prepared/catalogue.parquet"))
    histories = storage.read_parts(str(folder / "prepared/histories"))
    return histories, catalogue, Interactions.from_histories(histories, catalogue["item_id"], MADE.as_of)


def brute_force(folder: Path, name: str, excluded: Any) -> dict[Any, list[tuple[Any, float]]]:
    """Each user's best items by a baseline fitted on all known purchases, by loops: what was sold, may be listed, and
    is not excluded; excluded: (item number, age in days) of a purchase to whether it bars the item."""
    histories, catalogue, history = known_of(folder)
    ids, sold = catalogue["item_id"].to_pylist(), catalogue["events"].to_pylist()
    denied = set(pq.read_table(folder / "deny.parquet")["item_id"].to_pylist())
    may = {n for n in range(len(ids)) if sold[n] and catalogue["available"][n].as_py() and ids[n] not in denied}
    scores = fitted.fit_baselines(history, [name], 100)[name].scores(history)
    lists = {}
    for u, user in enumerate(histories["user_id"].to_pylist()):
        own = history.take(np.array([u]))
        if len(own.items) < 2:  # recommend.min_history
            continue
        barred = {int(i) for i, age in zip(own.items, own.ages, strict=True) if excluded(int(i), float(age))}
        best = sorted(may - barred, key=lambda n, u=u: (-scores[u, n], n))[:K]
        lists[user] = [(ids[n], float(scores[u, n])) for n in best]
    return lists


RULES = {
    "exclude": ((), lambda item, age: True),
    "cooldown": (("recommend.bought=cooldown", "recommend.cooldown_days=20"), lambda item, age: age < 20),
    "keep": (("recommend.bought=keep", "recommend.personal=0"), lambda item, age: False),
}


@pytest.mark.parametrize(
    ("name", "rule"), [*((name, "exclude") for name in NAMES), ("item_knn", "cooldown"), ("own_frequency", "keep")]
)
def test_published_lists_are_the_baselines_best_items_under_the_rules(shop: Path, name: str, rule: str) -> None:
    sets, excluded = RULES[rule]
    out = f"lists-{name}-{rule}"
    job = job_of(shop, out, f"recommend.model={name}", f"recommend.deny={shop / 'deny.parquet'}", *sets)
    recommend.STAGE.execute(job)
    rows = storage.read_parts(str(shop / out / "recommendations")).to_pylist()
    expected = brute_force(shop, name, excluded)
    got: dict[Any, list[tuple[Any, float]]] = {}
    bought = {row["user_id"]: set(row["items"]) for row in known_of(shop)[0].to_pylist()}
    reasons: list[Any] = []
    for row in rows:
        if row["source"] == "model":
            got.setdefault(row["user_id"], []).append((row["item_id"], row["score"]))
            assert row["rank"] == len(got[row["user_id"]])
            assert (row["because"] == []) or registry.BASELINES[name].explains
            reasons += row["because"]
            assert set(row["because"]) <= bought[row["user_id"]]
    assert bool(reasons) == registry.BASELINES[name].explains
    assert got == {user: best for user, best in expected.items() if best}
    others = {row["user_id"] for row in rows} - set(got)
    assert others  # without a history of two purchases, with what sells
    summary = storage.read_json(str(shop / out / "lists.json"))
    assert (summary["model"], summary["repurchase"]) == (name, None)
    assert summary["users_with_list"] == len(got) + len(others)


def test_a_list_that_the_unsold_make_short_says_so(shop: Path) -> None:
    _, catalogue, history = known_of(shop)
    sold = len(set(history.items.tolist()))
    assert sold < len(catalogue)
    sets = (f"recommend.k={sold + 1}", "recommend.model=popularity")
    short = recommend.STAGE.execute(job_of(shop, "long", *sets))["by_reason"]
    assert {reason for reason, n in short.items() if n} <= {
        "availability, allow-list and deny-list leave fewer items than k",
        "of the items that may be listed, fewer than k were ever sold",
    }
    listed = set(storage.read_parts(str(shop / "long/recommendations"))["item_id"].to_pylist())
    assert listed <= set(catalogue.filter(pa.compute.greater(catalogue["events"], 0))["item_id"].to_pylist())


@pytest.mark.parametrize(
    "flags",
    [("--direct_runner_bundle_repeat=2",), ("--direct_running_mode=multi_processing", "--direct_num_workers=2")],
    ids=["repeated bundles", "processes"],
)
def test_lists_are_byte_equal_however_they_are_run(shop: Path, flags: tuple[str, ...], lists_in_memory) -> None:
    from topkin.transforms.recommend import fit

    outs = [f"one-{len(flags)}", f"other-{len(flags)}"]
    for out, beam in zip(outs, ((), flags), strict=True):
        recommend.STAGE.execute(job_of(shop, out, "recommend.model=user_knn", beam=beam))
    names = storage.files(str(shop / outs[0]))
    assert names == storage.files(str(shop / outs[1]))
    for name in names:
        assert (shop / outs[0] / name).read_bytes() == (shop / outs[1] / name).read_bytes()
    job = job_of(shop, outs[0], "recommend.model=user_knn")
    inputs = recommend.inputs_of(job)
    fit([inputs])
    for part, lists in enumerate(lists_in_memory(inputs)):
        assert storage.read_parquet(
            storage.join(recommend.transform(job, {"": inputs}).lists, storage.part_name(part, 3))
        ).equals(lists.recommendations)
    storage.remove_folder(job.scratch)


def test_every_table_of_a_baselines_lists_carries_the_runs_encoder(shop: Path) -> None:
    recommend.STAGE.execute(job_of(shop, "carried", "recommend.model=popularity"))
    encoder = storage.read_json(str(shop / "model/signature.json"))["encoder"]
    names = [n for n in storage.files(str(shop / "carried")) if n.endswith(".parquet")]
    assert len(names) == 6
    assert {schemas.encoder_of(pq.read_schema(shop / "carried" / n)) for n in names} == {encoder}


def judged(folder: Path, out: str, *sets: str) -> tuple[dict[str, Any], Job]:
    recommend.STAGE.execute(job_of(folder, f"{out}-lists", *sets))
    job = job_of(folder, f"runs/r/{out}", *sets, lists=f"{out}-lists")
    Path(job.out).mkdir(parents=True)
    evaluate.STAGE.execute(job)
    return json.loads(Path(job.out, "metrics.json").read_text()), job


@pytest.mark.parametrize("rule", ["exclude", "keep"])
def test_the_model_is_judged_by_the_baselines_own_figures(shop: Path, rule: str, page_of: Any) -> None:
    verdict, job = judged(shop, f"judged-{rule}", "recommend.model=item_knn", *RULES[rule][0])
    assert verdict["heldout"]["users"] > 30
    assert verdict["heldout"]["users_without_vector"] == 0
    for truth in ("all", "novel", "repeat"):
        assert verdict[truth]["model"] == verdict[truth]["item_knn"]
        assert verdict[truth]["model"] != verdict[truth]["user_knn"]
    for kind in ("coverage", "lists", "intervals"):
        theirs = verdict[kind]["novel"]["item_knn"]
        assert theirs
        assert {name: verdict[kind]["novel"]["model"][name] for name in theirs} == theirs
    assert verdict["cold_items"]["of_all"]["model"] == verdict["cold_items"]["of_all"]["item_knn"]
    rivals = set(job.settings.evaluate.baselines) - {"item_knn"}
    assert set(verdict["differences"]["novel"]) == set(verdict["beats"]) == rivals
    assert (verdict["made_by"], "item_knn" in verdict["models"]) == ("item_knn", True)
    text = page_of(job).text
    assert "Item-kNN is the model, and is not compared with itself" in text
    assert 'recommend.model = "item_knn"' in text


def test_a_model_that_is_not_among_the_baselines_is_judged_too(shop: Path) -> None:
    with_it, _ = judged(shop, "with", "recommend.model=graph_filter")
    alone, _ = judged(shop, "alone", "recommend.model=graph_filter", 'evaluate.baselines=["popularity"]')
    assert alone["models"] == ["model", "popularity"]
    assert alone["novel"]["model"] == with_it["novel"]["graph_filter"]
    assert set(alone["beats"]) == {"popularity"}


def test_the_lists_of_a_baseline_are_made_again_only_for_what_changes_them(shop: Path) -> None:
    def key(*sets: str) -> str:
        return stages.keys(settings_of(shop, *sets), MADE.as_of)["recommend"]

    knn = key("recommend.model=item_knn")
    assert knn != key() != key("recommend.model=user_knn") != knn
    assert knn != key("recommend.model=item_knn", "evaluate.neighbours=7")
    assert knn == key("recommend.model=item_knn", "evaluate.bootstrap=21")
    assert key("recommend.sources=[]") == key("recommend.sources=[]", "evaluate.neighbours=7")
    assert key() != key("evaluate.neighbours=7")  # the sources beside the encoder are such baselines


def test_a_baseline_whose_library_is_missing_is_refused_before_any_work(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'recommend.model = "ials" cannot make the lists: .* pip install implicit'):
        stages.keys(settings_of(shop, "recommend.model=ials"), MADE.as_of)
