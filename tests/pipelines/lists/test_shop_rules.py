"""Rules of a shop from columns of the user's tables to published lists, and what they cost there."""

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from topkin.artifacts import storage
from topkin.config.load import load_settings
from topkin.models.data.feature_rows import FeatureRows
from topkin.pipelines import evaluate, recommend
from topkin.pipelines.cli.check import check
from topkin.pipelines.engine.job import EarlierVersion, Job
from topkin.synthetic.shop import Shop

K = 6
MADE = Shop(users=80, items=60, purchases=1_500, seed=2)
COLUMNS = (
    "items.features.stock={column = 'length(title) % 7 * 2', kind = 'number', learn = false}",
    "items.features.until={column = \"TIMESTAMP '2011-11-09' + INTERVAL (length(title) % 5 - 1) DAY\", kind = 'time'}",
    "items.features.for={column = \"case when price > 3 then ['United Kingdom'] else ['France', 'Germany'] end\", "
    "learn = false}",
)
DAYS = (MADE.as_of - datetime(2011, 11, 11)).days  # about half of the items are no older, by "until"
PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def job_of(
    folder: Path,
    out: str,
    *sets: str,
    lists: str = "",
    beam: tuple[str, ...] = (),
    versions: tuple[EarlierVersion, ...] = (),
) -> Job:
    small = ("run.parts=3", f"recommend.k={K}", "evaluate.bootstrap=20", *COLUMNS)
    settings = load_settings(folder / "topkin.toml", [*small, *sets], env={})
    names = {"prepare": "prepared", "train": "model", "embed": "embeddings", "recommend": lists}
    folders = {stage: str(folder / name) for stage, name in names.items() if name}
    return Job(
        settings=settings, as_of=MADE.as_of, out=str(folder / out), folders=folders, beam=beam, versions=versions
    )


def lists_by(folder: Path, out: str, *sets: str, **how: Any) -> pa.Table:
    """The lists of a job."""
    job = job_of(folder, out, *sets, **how)
    recommend.STAGE.execute(job)
    return storage.read_parts(str(Path(job.out) / "recommendations" / f"date={MADE.as_of:%Y-%m-%d}"))


def of_items(folder: Path, name: str) -> dict[Any, Any]:
    catalogue = storage.read_parquet(str(folder / "prepared/catalogue.parquet"))
    values = catalogue["category"] if name == "category" else pc.struct_field(catalogue["features"], name)
    return dict(zip(catalogue["item_id"].to_pylist(), values.to_pylist(), strict=True))


def test_columns_for_rules_are_kept_and_no_encoder_reads_them(shop: Path) -> None:
    catalogue = storage.read_parquet(str(shop / "prepared/catalogue.parquet"))
    assert [f.name for f in catalogue.schema.field("features").type] == ["brand", "style", "stock", "until", "for"]
    assert [f["name"] for f in FeatureRows.of(catalogue).features] == ["brand", "style"]
    assert isinstance(next(v for v in of_items(shop, "until").values() if v), datetime)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("recommend.max_per={for = 1}", "recommend.max_per.for must name a column with one label a row"),
        ("recommend.eligible.c={user = 'segment', item = 'until'}", "recommend.eligible.c.item must name a column of"),
        ("recommend.eligible.c={user = 'segment', item = 'for'}", None),
        ("recommend.capacity=stock", None),
    ],
)
def test_a_column_that_a_rule_cannot_use_is_told_before_a_run(shop: Path, key: str, message: str | None) -> None:
    _, _, findings = check(job_of(shop, "x", key).settings, MADE.as_of)
    assert [str(result)[: len(message or "")] for result in findings] == ([message] if message else [])


@pytest.mark.parametrize("ranker", ["encoder", "item_knn"])
def test_no_rule_is_broken(shop: Path, ranker: str) -> None:
    rules = (
        f"recommend.model={ranker}",
        "recommend.max_per={category = 2, brand = 1}",
        "recommend.valid_to=until",
        "recommend.capacity=stock",
        "recommend.eligible.country={user = 'segment', item = 'for'}",
    )
    lists = lists_by(shop, f"ruled-{ranker}", *rules)
    columns = {name: of_items(shop, name) for name in ("category", "brand", "stock", "until", "for")}
    histories = storage.read_parts(str(shop / "prepared/histories"), ["user_id", "segment"])
    segments = dict(zip(*(histories[c].to_pylist() for c in ("user_id", "segment")), strict=True))
    rows = lists.to_pylist()
    for user in set(lists["user_id"].to_pylist()):
        items = [r["item_id"] for r in rows if r["user_id"] == user]
        for name, most in (("category", 2), ("brand", 1)):
            counts = Counter(columns[name][i] for i in items if columns[name][i] is not None)
            assert max(counts.values(), default=0) <= most
        for i in items:
            assert columns["until"][i] is None or columns["until"][i] >= MADE.as_of
            assert not columns["for"][i] or segments[user] in columns["for"][i]
    given = Counter(lists["item_id"].to_pylist())
    assert all(columns["stock"][i] is None or n <= columns["stock"][i] for i, n in given.items())
    summary = storage.read_json(str(shop / f"ruled-{ranker}/lists.json"))
    assert summary["short"] == sum(summary["by_reason"].values()) > 0


def test_each_list_has_its_new_items_or_is_counted(shop: Path) -> None:
    lists = lists_by(shop, "fresh", f"recommend.new_items={{column = 'until', days = {DAYS}, at_least = {K - 1}}}")
    until, counts = of_items(shop, "until"), Counter(lists["user_id"].to_pylist())
    new = {i for i, when in until.items() if when is not None and when >= MADE.as_of - timedelta(days=DAYS)}
    fresh = Counter(
        user for user, i in zip(*(lists[c].to_pylist() for c in ("user_id", "item_id")), strict=True) if i in new
    )
    summary = storage.read_json(str(shop / "fresh/lists.json"))
    assert summary["few_new"] == summary["users"] - sum(n >= K - 1 for n in fresh.values()) < summary["users"]
    assert not lists_by(shop, "plain-order").equals(lists)
    assert set(counts.values()) == {K}


def test_the_evaluation_says_what_rules_cost(shop: Path) -> None:
    lists_by(shop, "capped", "recommend.max_per={category = 1}")
    evaluate.STAGE.execute(job_of(shop, "evaluation", "recommend.max_per={category = 1}", lists="capped"))
    metrics = storage.read_json(str(shop / "evaluation/metrics.json"))
    [cost] = [metrics["published"]["rules_cost"]["ndcg@5"]]
    assert cost["users"] > 0
    assert cost["difference"][1] == pytest.approx(cost["with_rules"] - cost["without_rules"])


def test_without_a_bite_rules_change_nothing_and_cost_nothing(shop: Path) -> None:
    plain = lists_by(shop, "plain")
    loose = lists_by(shop, "loose", f"recommend.max_per={{category = {K}}}", "recommend.capacity=1000000")
    assert plain.equals(loose)
    evaluate.STAGE.execute(job_of(shop, "evaluation-loose", "recommend.capacity=1000000", lists="loose"))
    cost = storage.read_json(str(shop / "evaluation-loose/metrics.json"))["published"]["rules_cost"]["ndcg@5"]
    assert cost["difference"] == [0, 0, 0]
    assert cost["with_rules"] > 0
    evaluate.STAGE.execute(job_of(shop, "evaluation-plain", lists="plain"))
    assert "rules_cost" not in storage.read_json(str(shop / "evaluation-plain/metrics.json"))["published"]


def test_workers_give_the_same_lists(shop: Path) -> None:
    rules = ("recommend.capacity=stock", "recommend.max_per={category = 3}")
    lists, stock = lists_by(shop, "here", *rules), of_items(shop, "stock")
    assert lists.equals(lists_by(shop, "workers", *rules, beam=PROCESSES))
    given = Counter(lists["item_id"].to_pylist())
    assert all(stock[i] is None or n <= stock[i] for i, n in given.items())
    assert any(n == stock[i] for i, n in given.items())  # some are given out


def test_what_published_lists_showed_lately_stays_away(shop: Path) -> None:
    def again(out: str, days: int) -> set[Any]:
        when = MADE.as_of - timedelta(days=days)
        version = EarlierVersion(days=days, run_id="a", as_of=when, folders={"recommend": str(shop / "before")})
        lists = lists_by(shop, out, "recommend.not_shown_nights=2", versions=(version,))
        return {tuple(r.values()) for r in lists.select(["user_id", "item_id"]).to_pylist()}

    before = {tuple(r.values()) for r in lists_by(shop, "before").select(["user_id", "item_id"]).to_pylist()}
    assert not before & again("two-nights", 2)
    assert before == again("three-nights", 3)  # the nearest run is older than what is asked for
    assert recommend.STAGE.versions(job_of(shop, "x", "recommend.not_shown_nights=3").settings).days == range(1, 4)
