"""The job against folders written by hand: a shop whose right answers are known."""

import importlib.util
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.pipelines.evaluate.shop import AS_OF, ENCODER, Purchase, checkerboard, metrics_of, taste, write_run
from topkin.artifacts import schemas, storage
from topkin.errors import ArtifactError, InputError
from topkin.evaluation.results import EvaluationResults
from topkin.interactions import Interactions
from topkin.pipelines import evaluate
from topkin.recommend.repurchase.rates import FILE, counts_of
from topkin.report import data


def test_the_answer_of_the_checkerboard_is_in_the_metrics_and_on_the_page(tmp_path: Path, page_of: Any) -> None:
    job = write_run(tmp_path, *checkerboard(), evaluate={"k": [1, 10], "bootstrap": 50})
    summary = evaluate.STAGE.execute(job)
    metrics = metrics_of(job)
    assert metrics["heldout"]["users"] == 24
    assert metrics["heldout"]["pairs"] == metrics["heldout"]["novel_pairs"] == 24
    assert metrics["novel"]["model"]["recall@1"] == 1.0
    assert metrics["published"]["metrics"]["ndcg@1"] == 1.0
    assert metrics["beats"]["popularity"] is True
    assert summary["heldout_users"] == 24
    assert summary["novel_ndcg@10"] == 1.0
    page = page_of(job)
    assert "24 users who bought before the date" in page.text
    assert "2024-06-01-test" in page.text
    assert ENCODER[:12] in page.text
    assert "because of" in page.text
    assert page.tags["svg"] >= 6
    assert sorted(storage.folders(job.out)) == ["users"]


def test_metrics_have_one_shape(tmp_path: Path) -> None:
    job = write_run(tmp_path, *checkerboard(), evaluate={"k": [5, 10], "bootstrap": 20})
    evaluate.STAGE.execute(job)
    metrics = metrics_of(job)
    names = {f"{m}@{k}" for m in ("recall", "precision", "ndcg", "map", "mrr", "hit_rate") for k in (5, 10)}
    models = {"model", *job.settings.evaluate.baselines}
    assert metrics["models"][0] == "model"
    assert set(metrics["models"]) == models
    for protocol in ("all", "novel"):
        assert set(metrics[protocol]) == models
        assert all(set(v) == names for v in metrics[protocol].values())
        assert set(metrics["differences"][protocol]) == models - {"model"}
        for by_metric in metrics["differences"][protocol].values():
            assert set(by_metric) == names
            assert all(low <= mean + 1e-12 and mean <= high + 1e-12 for low, mean, high in by_metric.values())
        assert set(metrics["coverage"][protocol]) == models
        assert all(0 <= x <= 1 for v in metrics["coverage"][protocol].values() for x in v.values())
    assert set(metrics["beats"]) == models - {"model"}
    assert metrics["as_of"] == AS_OF.isoformat()
    assert metrics["encoder"] == ENCODER
    assert metrics["validation"] == {"recall@20": 0.25, "epoch": 2}
    assert metrics["heldout"]["from"] < metrics["heldout"]["to"]


FLAGS = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


@pytest.mark.parametrize("flags", [("--direct_runner_bundle_repeat=2",), FLAGS])
def test_the_pipeline_writes_what_the_function_gives(tmp_path: Path, flags: tuple[str, ...]) -> None:
    from topkin.pipelines.engine.job import run_pipeline
    from topkin.transforms.evaluate import EvaluateParts, evaluate_part, fit, load_part, load_shop, read_results

    job = write_run(tmp_path, *checkerboard(), parts=3, extra_users=["user 99"])
    inputs = evaluate.inputs_of(job)
    fit(inputs)
    run_pipeline(EvaluateParts(inputs, job.out), flags)
    shop = load_shop(inputs)
    inside = [evaluate_part(shop, load_part(inputs, part)) for part in range(3)]
    written = read_results(inputs, job.out)
    for part, judged in enumerate(inside):
        for name, table in judged._asdict().items():
            assert written.read(part, name, None).equals(table)
        assert schemas.encoder_of(written.read(part, "users", None).schema) == ENCODER
    results = EvaluationResults.of_parts(inside)
    assert json.dumps(evaluate.measure(job, results)) == json.dumps(evaluate.measure(job, written))


def test_the_baselines_are_fitted_once_and_read_by_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from topkin.baselines.popularity import Popularity
    from topkin.transforms.evaluate import fit, load_shop

    sources = evaluate.inputs_of(write_run(tmp_path, *checkerboard()))
    fit(sources)
    monkeypatch.delattr(Popularity, "fit")
    fit(sources)  # done already
    shop = load_shop(sources)
    assert shop.models == ("model", *sources.evaluate.baselines)
    assert shop.baselines["popularity"].state()["values"].tolist() == [11.0] * 24


def test_a_second_stage_is_judged_in_the_order_that_made_the_lists(tmp_path: Path) -> None:
    """Files of JSON have keys by name, and a sum of floats has an order."""
    from topkin.transforms.evaluate import fit, load_shop

    job = write_run(tmp_path, *checkerboard())
    path = storage.join(job.folder("recommend"), "lists.json")
    weights = {"encoder": 1.0, "graph_filter": 0.3, "item_knn": 0.2, "popularity": 0.1}
    storage.write_json({**(storage.read_json(path) if storage.exists(path) else {}), "second_stage": weights}, path)
    sources = evaluate.inputs_of(job)
    fit(sources)
    second = load_shop(sources).second
    assert second is not None
    assert second.rankers == ("encoder", "popularity", "item_knn", "graph_filter")


def test_only_the_baselines_asked_for_are_measured_and_a_missing_library_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page_of: Any
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    asked = ["ials", "user_knn", "popularity"]
    job = write_run(tmp_path, *checkerboard(), evaluate={"baselines": asked, "bootstrap": 20})
    evaluate.STAGE.execute(job)
    metrics = metrics_of(job)
    assert metrics["models"] == ["model", "popularity", "user_knn"]
    assert "pip install implicit" in metrics["left_out"]["ials"]
    assert "pip install implicit" in page_of(job).text


def test_the_histories_of_all_users_are_never_in_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from topkin.interactions import Interactions
    from topkin.transforms.evaluate import fit

    sources = evaluate.inputs_of(write_run(tmp_path, *checkerboard(), parts=3))
    whole, seen = Interactions.from_histories, []

    def from_histories(histories: pa.Table, *rest: Any) -> Interactions:
        seen.append(len(histories))
        return whole(histories, *rest)

    monkeypatch.setattr(Interactions, "from_histories", from_histories)
    fit(sources)
    assert len(seen) == 3
    assert sum(seen) == 24


def test_done_again_it_has_the_same_bytes(tmp_path: Path) -> None:
    job = write_run(tmp_path, *checkerboard(), evaluate={"bootstrap": 20})
    evaluate.STAGE.execute(job)
    first = {n: storage.read_bytes(storage.join(job.out, n)) for n in storage.files(job.out)}
    storage.remove_folder(job.out)
    evaluate.STAGE.execute(job)
    assert {n: storage.read_bytes(storage.join(job.out, n)) for n in storage.files(job.out)} == first
    assert "metrics.json" in first


def test_a_nightly_run_has_nothing_held_out_and_says_so(tmp_path: Path, page_of: Any) -> None:
    purchases, vectors = checkerboard()
    job = write_run(tmp_path, [p for p in purchases if p[2] < AS_OF], vectors)
    summary = evaluate.STAGE.execute(job)
    metrics = metrics_of(job)
    assert metrics["heldout"]["events"] == metrics["heldout"]["users"] == 0
    assert "no purchases after the as-of date" in metrics["heldout"]["reason"]
    assert metrics["validation"]["recall@20"] == 0.25
    assert metrics["verdict"]["good"] is None
    assert summary["good"] is None
    page = page_of(job)
    assert "Not judged." in page.text
    assert "Recall@20 was 0.250" in page.text


@pytest.mark.parametrize(
    ("later", "days", "reason"),
    [
        ([("user 0", 0, AS_OF + timedelta(days=9))], 5.0, "evaluate.days"),
        ([("stranger", 0, AS_OF + timedelta(days=1))], None, "by a user who bought before"),
    ],
)
def test_held_out_purchases_that_judge_nobody_say_why(
    tmp_path: Path, later: list[Purchase], days: float | None, reason: str, page_of: Any
) -> None:
    known = [p for p in checkerboard()[0] if p[2] < AS_OF]
    job = write_run(tmp_path, known + later, checkerboard()[1], evaluate={"days": days})
    evaluate.STAGE.execute(job)
    assert reason in metrics_of(job)["heldout"]["reason"]
    assert reason in page_of(job).text


@pytest.mark.parametrize("again", [True, False])
def test_a_single_user_of_a_single_item_gets_a_report(tmp_path: Path, again: bool, page_of: Any) -> None:
    purchases: list[Purchase] = [(7, b"only", AS_OF - timedelta(days=2))]
    if again:
        purchases.append((7, b"only", AS_OF + timedelta(days=2)))
    job = write_run(tmp_path, purchases, {b"only": np.array([1.0, 0.0])})
    evaluate.STAGE.execute(job)
    metrics = metrics_of(job)
    assert metrics["heldout"]["users"] == int(again)
    assert metrics["verdict"]["good"] is None
    assert "Not judged." in page_of(job).text


HOSTILE = '<script>alert("x")</script> & <img src=x onerror=alert(1)>'


def test_titles_and_ids_that_hold_html_stay_text(tmp_path: Path, page_of: Any) -> None:
    purchases, vectors = checkerboard()
    purchases = [(f"</code><b>{user}", item, time) for user, item, time in purchases]
    job = write_run(
        tmp_path,
        purchases,
        vectors,
        titles=dict.fromkeys(vectors, HOSTILE),
        categories={i: f"<i>{i % 2}" for i in vectors},
        rejected={"<script>reason": 3},
        evaluate={"bootstrap": 20},
    )
    evaluate.STAGE.execute(job)
    page = page_of(job)
    assert not {"img", "b", "i"} & set(page.tags)
    assert page.tags["script"] == 2  # its own, and what can be looked up, as JSON
    assert 'alert("x")' in page.text


def test_neighbours_and_map_go_by_tastes_and_not_by_what_sells_now(tmp_path: Path) -> None:
    purchases, vectors = checkerboard()
    sells = {i: 20.0 * (i < 12) for i in vectors}  # a coordinate of its own, as the prior's is
    job = write_run(tmp_path, purchases, {i: np.append(v, sells[i]) for i, v in vectors.items()})
    summary = storage.read_json(f"{job.folders['embed']}/vectors.json")
    storage.write_json(summary | {"blocks": [taste(2)]}, f"{job.folders['embed']}/vectors.json")
    content = data.gather(job.folders, {}, as_of=AS_OF, run_id="run")
    for known in content.neighbours:
        kind = int(known.title.rsplit(" ", 1)[1]) % 2
        assert [(int(title.rsplit(" ", 1)[1]) % 2, score) for title, score in known.nearest] == [(kind, 1.0)] * 5
    assert content.content.map is not None
    assert content.content.map.explained == pytest.approx(1)


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path, page_of: Any) -> None:
    job = write_run(tmp_path, *checkerboard(), evaluate={"bootstrap": 20})
    evaluate.STAGE.execute(job)
    page = page_of(job)
    text = page.source
    assert page.tags["script"] == 2  # its own, and what can be looked up, as JSON
    assert not {"iframe", "object", "embed", "img"} & set(page.tags)
    addresses = [v for n, v in page.attributes if n in ("href", "src", "xlink:href", "srcset") and v != "data:,"]
    assert all(v.startswith("#") for v in addresses)
    assert "http" not in text.replace("http-equiv", "")
    assert "@import" not in text
    assert "url(" not in text
    ids = [v for n, v in page.attributes if n == "id"]
    assert len(ids) == len(set(ids))
    assert {v[1:] for v in addresses if "=" not in v} <= set(ids)  # with it, what the look-up shows


def test_vectors_of_another_encoder_are_refused(tmp_path: Path) -> None:
    job = write_run(tmp_path, *checkerboard())
    path = str(Path(job.folders["train"], "signature.json"))
    storage.write_json(storage.read_json(path) | {"encoder": "f" * 64}, path)
    from topkin.transforms.evaluate import fit, load_shop

    sources = evaluate.inputs_of(job)
    fit(sources)
    with pytest.raises(ArtifactError, match="must be made by encoder ffffffffffff…, got"):
        load_shop(sources)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("catalogue", "a feature computed after the cut"),
        ("heldout", "no held-out purchase may be dated before"),
        ("histories", "no purchase in the histories may be dated at or after"),
        ("statistics", "tables made as of 2024-06-02"),
    ],
)
def test_what_tells_the_future_stops_the_evaluation(tmp_path: Path, change: str, message: str) -> None:
    job = write_run(tmp_path, *checkerboard(), parts=1)
    prepared = job.folders["prepare"]
    if change == "statistics":
        path = f"{prepared}/statistics.json"
        storage.write_json(storage.read_json(path) | {"as_of": "2024-06-02T00:00:00"}, path)
    else:
        name = "catalogue.parquet" if change == "catalogue" else f"{change}/{storage.part_name(0, 1)}"
        column = {"catalogue": "last_sale", "heldout": "timestamp", "histories": "times"}[change]
        table = storage.read_parquet(f"{prepared}/{name}")
        place = table.schema.get_field_index(column)
        later = pa.array([AS_OF - timedelta(days=1) if change == "heldout" else AS_OF] * len(table), schemas.TIME)
        if change == "histories":
            lists = table[column].combine_chunks()
            flat = pa.array([AS_OF] * len(lists.flatten()), schemas.TIME)
            later = pa.ListArray.from_arrays(lists.offsets, flat)
        field = table.schema.field(place)
        storage.write_parquet(table.set_column(place, field, later.cast(field.type)), f"{prepared}/{name}")
    with pytest.raises(InputError, match=message):
        evaluate.STAGE.execute(job)


def test_what_the_last_purchases_of_users_can_tell_is_said_on_the_page(tmp_path: Path, page_of: Any) -> None:
    job = write_run(tmp_path, *checkerboard(), evaluate={"bootstrap": 20}, prepare={"split": "last"})
    evaluate.STAGE.execute(job)
    assert metrics_of(job)["split"] == "last"
    assert "Held out is the last purchase of each user" in page_of(job).text


def test_where_bought_items_are_kept_the_model_is_judged_by_the_weights_of_the_published_lists(tmp_path: Path) -> None:
    n = 12
    purchases = [(f"user {u:02d}", u, AS_OF - timedelta(days=d)) for u in range(n) for d in (40, 30, 20)]
    purchases += [(f"user {u:02d}", (u + d) % n, AS_OF - timedelta(days=d)) for u in range(n) for d in (1, 2, 3)]
    purchases += [(f"user {u:02d}", u, AS_OF + timedelta(days=1)) for u in range(n)]
    summaries = {}
    for personal in (0.0, 2.0):
        job = write_run(tmp_path / str(personal), purchases, {i: np.ones(2) for i in range(n)}, bought="keep")
        histories = storage.read_parts(storage.join(job.folder("prepare"), "histories"))
        ids = storage.read_parquet(storage.join(job.folder("prepare"), "catalogue.parquet"))["item_id"]
        counts = counts_of(Interactions.from_histories(histories, ids, AS_OF))
        storage.write_parquet(counts, storage.join(job.folder("recommend"), FILE))
        weights = {"personal": personal, "repeat": 0.5, "recent": 0.0, "due": 0.0}
        storage.write_json({"repurchase": weights}, storage.join(job.folder("recommend"), "lists.json"))
        evaluate.STAGE.execute(job)
        summaries[personal] = metrics_of(job)["all"]["model"]["ndcg@5"]
    assert summaries[0.0] < 0.5  # all items are alike to the model
    assert summaries[2.0] == 1.0
