"""The job against folders written by hand: a shop whose right answers are known."""

import importlib.util
import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import schemas, storage
from topkin.artifacts.partition import split_by_partition
from topkin.config.sections import Settings
from topkin.encoding.blocks import Block
from topkin.errors import ArtifactError, InputError
from topkin.evaluation.results import EvaluationResults
from topkin.interactions import Interactions
from topkin.pipelines import evaluate
from topkin.pipelines.engine.job import Job
from topkin.recommend.repurchase.rates import FILE, counts_of
from topkin.report import data

AS_OF = datetime(2024, 6, 1)
ENCODER = "e" * 64
Purchase = tuple[Any, Any, datetime]


def taste(dim: int) -> dict[str, object]:
    """A block of the first coordinates."""
    block = Block(name="trained", dim=dim, weight=1, inverse_popularity=0.5, half_life_days=None, spread=(1.0,) * dim)
    return block.to_json()


def write_run(
    root: Path,
    purchases: Sequence[Purchase],
    vectors: dict[Any, np.ndarray],
    *,
    parts: int = 3,
    titles: dict[Any, str] | None = None,
    categories: dict[Any, str] | None = None,
    extra_users: Sequence[Any] = (),
    bought: str = "exclude",
    rejected: dict[str, int] | None = None,
    training: dict[str, Any] | None = None,
    **settings: Any,
) -> Job:
    """The folders of the stages before the evaluation, from purchases (user, item, time) and item vectors.

    A user's vector is the mean of the items'; the published lists are the nearest items under the rule.
    """
    known = [p for p in purchases if p[2] < AS_OF]
    later = [p for p in purchases if p[2] >= AS_OF]
    user_type = pa.array([p[0] for p in purchases] + list(extra_users)).type
    ids = sorted(vectors)
    item_type = pa.array(ids).type
    matrix = np.array([vectors[i] for i in ids], np.float32)
    run = root / "runs" / "2024-06-01-test"
    sold = Counter(p[1] for p in known)
    times: dict[Any, list[datetime]] = {}
    for _, item, time in known:
        times.setdefault(item, []).append(time)
    catalogue = pa.table(
        [
            pa.array(ids, item_type),
            pa.array([(titles or {}).get(i, f"Title of {i}") for i in ids], pa.string()),
            pa.array([(categories or {}).get(i) for i in ids], pa.string()),
            pa.array([1.0] * len(ids), pa.float32()),
            pa.array([True] * len(ids)),
            pa.array([sold[i] for i in ids], pa.int64()),
            pa.array([len({p[0] for p in known if p[1] == i}) if len(ids) < 99 else sold[i] for i in ids], pa.int64()),
            pa.array([sum(t >= AS_OF - timedelta(days=7) for t in times.get(i, [])) for i in ids], pa.int64()),
            pa.array([min(times[i]) if i in times else None for i in ids], schemas.TIME),
            pa.array([max(times[i]) if i in times else None for i in ids], schemas.TIME),
        ],
        schema=schemas.catalogue(item_type),
    )
    storage.write_parquet(catalogue, str(run / "prepared/catalogue.parquet"))
    by_user: dict[Any, list[Purchase]] = {u: [] for u in sorted({p[0] for p in known} | set(extra_users))}
    for p in sorted(known, key=lambda p: (p[2], p[1])):
        by_user[p[0]].append(p)
    histories = pa.table(
        [
            pa.array(list(by_user), user_type),
            pa.array([[p[1] for p in ps] for ps in by_user.values()], pa.list_(item_type)),
            pa.array([[p[2] for p in ps] for ps in by_user.values()], pa.list_(schemas.TIME)),
            pa.array([[1.0 for _ in ps] for ps in by_user.values()], pa.list_(pa.float32())),
            pa.array([None] * len(by_user), pa.string()),
        ],
        schema=schemas.histories(user_type, item_type),
    )
    settings.setdefault("recommend", {}).update(bought=bought)
    settings.setdefault("run", {}).update(parts=parts)
    made = Settings.model_validate({"purchases": {"path": "x"}, **settings})
    rows = {item: n for n, item in enumerate(ids)}
    users, lists, short = {}, [], []
    for user, ps in by_user.items():
        v = matrix[[rows[p[1]] for p in ps]].sum(axis=0) if ps else np.zeros(matrix.shape[1])
        users[user] = v / max(np.linalg.norm(v), 1e-9)
        scores = matrix @ users[user] if ps else np.array([sold[i] for i in ids], float)
        mine = {p[1] for p in ps} if bought == "exclude" else set()
        best = [n for n in np.lexsort((np.arange(len(ids)), -scores)) if ids[n] not in mine][: made.recommend.k]
        near = [sorted({p[1] for p in ps}, key=lambda i, n=n: -float(matrix[rows[i]] @ matrix[n]))[:2] for n in best]
        source = "model" if ps else "popularity"
        times = Counter(p[1] for p in ps)
        lists += [(user, r + 1, ids[n], scores[n], source, times[ids[n]], near[r]) for r, n in enumerate(best)]
        if len(best) < made.recommend.k:
            short.append((user, made.recommend.k, len(best), "bought"))

    def by_part(table: pa.Table, folder: str, schema: pa.Schema) -> None:
        found = split_by_partition(table, "user_id", parts)
        for part in range(parts):
            piece = found.get(part, table.schema.empty_table()).combine_chunks()
            storage.write_parquet(piece.cast(schema), str(run / folder / storage.part_name(part, parts)))

    def columns(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
        values = zip(*rows, strict=True) if rows else [[] for _ in schema]
        return pa.table([pa.array(list(v), f.type) for v, f in zip(values, schema, strict=True)], schema=schema)

    events = schemas.events(user_type, item_type)
    for name, chosen in (("events", known), ("heldout", later)):
        found = sorted(chosen, key=lambda p: (p[0], p[2], p[1]))
        by_part(columns([(*p, 1.0, 1.0, None) for p in found], events), f"prepared/{name}", events)
    by_part(histories, "prepared/histories", histories.schema)
    dim = matrix.shape[1]
    schema = schemas.with_encoder(schemas.user_embeddings(user_type, dim), ENCODER)
    by_part(columns([(u, v.astype(np.float32)) for u, v in users.items()], schema), "embeddings/users", schema)
    schema = schemas.with_encoder(schemas.item_embeddings(item_type, dim), ENCODER)
    table = columns([(i, v, v) for i, v in zip(ids, matrix, strict=True)], schema)
    storage.write_parquet(table, str(run / "embeddings/items" / storage.part_name(0, 1)))
    schema = schemas.with_encoder(schemas.recommendations(user_type, item_type), ENCODER)
    by_part(columns(lists, schema), "recommendations/recommendations/date=2024-06-01", schema)
    schema = schemas.with_encoder(schemas.short_lists(user_type), ENCODER)
    by_part(columns(short, schema), "recommendations/short_lists", schema)
    span = [p[2] for p in known]
    statistics = {
        "as_of": AS_OF.isoformat(),
        "sources": {
            "purchases": {
                "files": 1,
                "rows": len(purchases) + sum((rejected or {}).values()),
                "accepted": len(purchases),
                "duplicates": 0,
                "rejected": rejected or {},
            }
        },
        "events": len(known),
        "heldout_events": len(later),
        "users": len(by_user),
        "users_without_history": sum(not ps for ps in by_user.values()),
        "items": len(ids),
        "items_without_sales": sum(not sold[i] for i in ids),
        "first_sale": min(span).isoformat() if span else None,
        "last_sale": max(span).isoformat() if span else None,
    }
    storage.write_json(statistics, str(run / "prepared/statistics.json"))
    signature = {"encoder": ENCODER, "dim": dim, "validation": {"recall@20": 0.25, "epoch": 2}}
    storage.write_json(signature, str(run / "model/signature.json"))
    epochs = [{"epoch": e, "loss": 3 / e, "validation_recall@20": 0.3 - 0.1 / e, "seconds": 1.0} for e in (1, 2)]
    storage.write_json(
        training or {"epochs": epochs, "best_epoch": 2, "stopped": "epochs"}, str(run / "model/training.json")
    )
    counts = {"encoder": ENCODER, "dim": dim, "blocks": [taste(dim)], "items": len(ids), "users": len(users)}
    storage.write_json(
        counts | {"users_without_vector": 0, "items_without_vector": 0}, str(run / "embeddings/vectors.json")
    )
    out = run / ".report-attempt"
    out.mkdir(parents=True)
    folders = {"prepare": "prepared", "train": "model", "embed": "embeddings", "recommend": "recommendations"}
    return Job(
        settings=made, as_of=AS_OF, out=str(out), folders={stage: str(run / name) for stage, name in folders.items()}
    )


def checkerboard(n: int = 24) -> tuple[list[Purchase], dict[Any, np.ndarray]]:
    """Even users buy even items, odd users odd ones; each keeps one item of its kind for after the date."""
    purchases: list[Purchase] = []
    for u in range(n):
        for i in range(u % 2, n, 2):
            after = i // 2 == u // 2
            purchases.append((f"user {u}", i, AS_OF + timedelta(days=3 if after else -3, minutes=i)))
    return purchases, {i: np.eye(2)[i % 2] for i in range(n)}


def metrics_of(job: Job) -> dict[str, Any]:
    return dict(json.loads(Path(job.out, "metrics.json").read_text()))


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
    assert not {"script", "img", "b", "i"} & set(page.tags)
    assert 'alert("x")' in page.text


def test_neighbours_and_map_go_by_tastes_and_not_by_what_sells_now(tmp_path: Path) -> None:
    purchases, vectors = checkerboard()
    sells = {i: 20.0 * (i < 12) for i in vectors}  # a coordinate of its own, as the prior's is
    job = write_run(tmp_path, purchases, {i: np.append(v, sells[i]) for i, v in vectors.items()})
    told = storage.read_json(f"{job.folders['embed']}/vectors.json")
    storage.write_json(told | {"blocks": [taste(2)]}, f"{job.folders['embed']}/vectors.json")
    found = data.gather(job.folders, {}, as_of=AS_OF, run_id="run")
    for known in found.neighbours:
        kind = int(known.title.rsplit(" ", 1)[1]) % 2
        assert [(int(title.rsplit(" ", 1)[1]) % 2, score) for title, score in known.nearest] == [(kind, 1.0)] * 5
    assert found.item_map is not None
    assert found.item_map.explained == pytest.approx(1)


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path, page_of: Any) -> None:
    job = write_run(tmp_path, *checkerboard(), evaluate={"bootstrap": 20})
    evaluate.STAGE.execute(job)
    page = page_of(job)
    text = page.source
    assert not {"script", "link", "iframe", "object", "embed", "img"} & set(page.tags)
    assert all(v.startswith("#") for n, v in page.attributes if n in ("href", "src", "xlink:href", "srcset"))
    assert "http" not in text.replace("http-equiv", "")
    assert "@import" not in text
    assert "url(" not in text
    ids = [v for n, v in page.attributes if n == "id"]
    assert len(ids) == len(set(ids))
    assert {v[1:] for n, v in page.attributes if n == "href"} <= set(ids)


def test_vectors_of_another_encoder_are_refused(tmp_path: Path) -> None:
    job = write_run(tmp_path, *checkerboard())
    path = str(Path(job.folders["train"], "signature.json"))
    storage.write_json(storage.read_json(path) | {"encoder": "f" * 64}, path)
    from topkin.transforms.evaluate import fit, load_shop

    sources = evaluate.inputs_of(job)
    fit(sources)
    with pytest.raises(ArtifactError, match="must come from the run's encoder"):
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
    found = {}
    for personal in (0.0, 2.0):
        job = write_run(tmp_path / str(personal), purchases, {i: np.ones(2) for i in range(n)}, bought="keep")
        histories = storage.read_parts(storage.join(job.folder("prepare"), "histories"))
        ids = storage.read_parquet(storage.join(job.folder("prepare"), "catalogue.parquet"))["item_id"]
        counts = counts_of(Interactions.from_histories(histories, ids, AS_OF))
        storage.write_parquet(counts, storage.join(job.folder("recommend"), FILE))
        weights = {"personal": personal, "repeat": 0.5, "recent": 0.0, "due": 0.0}
        storage.write_json({"repurchase": weights}, storage.join(job.folder("recommend"), "lists.json"))
        evaluate.STAGE.execute(job)
        found[personal] = metrics_of(job)["all"]["model"]["ndcg@5"]
    assert found[0.0] < 0.5  # all items are alike to the model
    assert found[2.0] == 1.0
