"""A night that keeps the live encoder gives the rows of one that scores everybody by it again."""

import shutil
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

pytest.importorskip("tensorflow")

from topkin.artifacts import manifest, runs, sealing, storage
from topkin.artifacts.embeddings import StoredItems
from topkin.config.sections import Settings
from topkin.encoding.reference import Reference, columns_of
from topkin.pipelines import evaluate, index, recommend, similar
from topkin.pipelines.backtest import run_backtest
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stage import Stage
from topkin.pipelines.nights.kept import LiveEncoder, before, same_items, still_holds
from topkin.pipelines.run import run_all
from topkin.report import data
from topkin.report.page import render
from topkin.transforms.similar import NeighbourFinder
from topkin.transforms.unchanged import before as unchanged
from topkin.transforms.unchanged.lists import ListUpdater
from topkin.transforms.unchanged.similar import NeighbourUpdater

AS_OF, ITEMS = datetime(2024, 6, 1, 3), 40
TABLES = {
    recommend.STAGE: ("recommendations", "short_lists", "lists/mail/recommendations"),
    similar.STAGE: ("similar_users", "similar_items", "neighbours_bought"),
}
EVERYTHING = [(stage, table) for stage, tables in TABLES.items() for table in tables]


def purchases(users: int = 120) -> pa.Table:
    """Ninety days of users who keep to a kind of items, at any minute."""
    rng = np.random.default_rng(8)
    user = np.repeat(np.arange(users), 12)
    own = user % 3 * 12 + rng.integers(0, 12, len(user))
    item = np.where(rng.random(len(user)) < 0.8, own, rng.integers(0, ITEMS - 4, len(user)))
    minutes = rng.integers(1_500, 90 * 1_440, len(user))
    when = [AS_OF - timedelta(minutes=int(m)) for m in minutes]
    return pa.table({"user_id": [f"u{u:03d}" for u in user], "item_id": item, "timestamp": when})


def tonight() -> pa.Table:
    """What is bought on the last day: by two known users, also an item that is new, and by one who is new."""
    rows = [("u004", 3), ("u004", 41), ("u077", 15), ("v001", 3), ("v001", 4)]
    times = [AS_OF + timedelta(hours=n) for n in range(1, len(rows) + 1)]
    return pa.table({"user_id": [u for u, _ in rows], "item_id": [i for _, i in rows], "timestamp": times})


def catalogue(night: int) -> pa.Table:
    """On the second night an item is new, one is gone, one has another kind, one cannot be had and one can again."""
    items = list(range(ITEMS)) if not night else [n for n in range(ITEMS) if n != ITEMS - 1] + [41]
    kinds = {n: "abcd"[n // 12] if n < ITEMS else "a" for n in items}
    if night:
        kinds[ITEMS - 2] = "b"  # never bought
    available = [n != (7 if night else 20) for n in items]
    return pa.table({"item_id": items, "kind": [kinds[n] for n in items], "available": available})


def settings_of(folder: Path, **train: Any) -> Settings:
    svd = {"svd_dim": 8, "next_item_dim": 4, "epochs": 0, "dim": 4, "validation_days": 10, "half_life_days": 20}
    return Settings.model_validate(
        {
            "run": {"output": str(folder / "out"), "parts": 2},
            "purchases": {"path": str(folder / "purchases"), "item_id": "item_id"},
            "items": {"path": str(folder / "items.parquet"), "item_id": "item_id", "category": "kind"}
            | {"available": "available"},
            "train": {**svd, "advanced": {"svd_rank": 16, "validation_cuts": 1}, "every_days": 3, **train},
            "recommend": {"k": 6},
            "lists": {"mail": {"k": 4, "because": 1}},
            "similar": {"users": 4, "items": 3, "bought": 5},
            "evaluate": {"k": [5, 10], "bootstrap": 20, "baselines": ["popularity"]},
        }
    )


@dataclass
class Nights:
    """Two nights of one shop, the second of which kept the encoder of the first."""

    settings: Settings
    first: runs.Run
    second: runs.Run
    summaries: dict[str, Any]

    def job(self, stage: Stage, **changed: Any) -> Job[Settings]:
        """That of a stage on the second night."""
        recipe = (manifest.read(self.second.folder(stage.name)) or {})["recipe"]
        job = Job(
            settings=self.settings,
            as_of=self.second.as_of,
            out="",
            folders=self.second.folders,
            earlier=self.first.folders,
            recipe=recipe,
        )
        return replace(job, **changed)


@pytest.fixture(scope="module")
def nights(tmp_path_factory) -> Nights:
    folder = tmp_path_factory.mktemp("shop")
    settings, summaries = settings_of(folder), {}
    storage.write_parquet(purchases(), str(folder / "purchases/part-0.parquet"))
    storage.write_parquet(catalogue(0), str(folder / "items.parquet"))
    first = run_all(settings, as_of=AS_OF, anyway="a test")
    storage.write_parquet(tonight(), str(folder / "purchases/part-1.parquet"))
    storage.write_parquet(catalogue(1), str(folder / "items.parquet"))
    second = run_all(
        settings,
        as_of=AS_OF + timedelta(days=1),
        anyway="a test",
        tell=lambda event: summaries.update({event.stage: event.summary}),
    )
    return Nights(settings, first, second, summaries)


def columns(nights: Nights) -> pa.Schema:
    return storage.read_parquet(f"{nights.second.folder('prepare')}/catalogue.parquet").schema


def _encoder(run: runs.Run) -> str:
    return str(storage.read_json(f"{run.folder('train')}/signature.json")["encoder"])


@pytest.mark.parametrize(("stage", "table"), EVERYTHING, ids=lambda value: getattr(value, "name", value))
def test_every_row_is_that_of_a_night_that_scores_everybody_again(nights, tmp_path, stage, table):
    assert _encoder(nights.first) == _encoder(nights.second)
    stage.execute(nights.job(stage, out=str(tmp_path), earlier={}))
    rows, again = (storage.read_parts(f"{place}/{table}") for place in (nights.second.folder(stage.name), tmp_path))
    assert rows.equals(again, check_metadata=True)
    assert len(rows) or table == "short_lists"


def test_only_who_changed_is_scored_again(nights):
    """That the tables are equal would not show that anything was carried over."""
    inputs, earlier = recommend.inputs_of(nights.job(recommend.STAGE)), before(nights.job(recommend.STAGE), "recommend")
    maker = ListUpdater(inputs, before=earlier)
    same = [maker.before.same_users(part, *maker.items.users(part)) for part in range(2)]
    users = pa.concat_arrays(
        [maker.items.users(part)[0]["user_id"].combine_chunks().filter(pa.array(~one)) for part, one in enumerate(same)]
    )
    assert sorted(users.to_pylist()) == ["u004", "u077", "v001"]
    changed = maker.items.context.item_ids.filter(pa.array(~maker.same_items)).to_pylist()
    assert sorted(changed) == [7, 20, ITEMS - 2, 41]
    lists = {"": inputs, "mail": replace(inputs, name="mail")}
    transform = recommend.transform(nights.job(recommend.STAGE), lists)
    assert [one.maker.func for one in transform.lists.values()] == [ListUpdater, ListUpdater]


def test_vectors_of_the_night_before_are_read_some_at_a_time(nights, monkeypatch):
    """Beside tonight's there is no room for all of them: a plan counts tonight's."""
    asked, read = [], StoredItems.read
    inputs, earlier = recommend.inputs_of(nights.job(recommend.STAGE)), before(nights.job(recommend.STAGE), "recommend")
    whole = ListUpdater(inputs, before=earlier)
    monkeypatch.setattr(unchanged, "ROWS", 7)
    monkeypatch.setattr(
        StoredItems, "read", lambda self, *what: asked.append((self.folder, len(what[1]))) or read(self, *what)
    )
    np.testing.assert_array_equal(ListUpdater(inputs, before=earlier).same_items, whole.same_items)
    assert {n for folder, n in asked if folder == nights.first.folder("embed")} <= set(range(1, 8))


def test_neighbours_are_carried_over_too(nights):
    earlier = before(nights.job(similar.STAGE), "similar")
    inputs = similar.inputs_of(nights.job(similar.STAGE))
    users = NeighbourUpdater(inputs, earlier).users_now
    changed = users.ids.take(pa.array(users.changed)).to_pylist()
    assert sorted(changed) == ["u004", "u077", "v001"]
    assert len(users.vectors) == 3


def test_where_most_users_changed_none_are_held_in_memory_and_all_is_done_again(nights, monkeypatch):
    """As are all of those whose purchases have no times, for positions count from the date."""
    earlier, inputs = before(nights.job(similar.STAGE), "similar"), similar.inputs_of(nights.job(similar.STAGE))
    monkeypatch.setattr(unchanged.Before, "same_users", lambda self, part, rows, vectors: np.zeros(len(rows), bool))
    updater = NeighbourUpdater(inputs, earlier)
    assert updater.users_now is None
    for table, again in zip(updater.users(0), NeighbourFinder(inputs).users(0), strict=True):
        assert table.equals(again)


def test_vectors_of_what_did_not_change_are_the_same_numbers(nights):
    of = [
        storage.read_parts(f"{run.folder('embed')}/users").sort_by("user_id") for run in (nights.first, nights.second)
    ]
    stayed = of[1].filter(pc.invert(pc.is_in(of[1]["user_id"], pa.array(["u004", "u077", "v001"]))))
    assert stayed.equals(of[0].filter(pc.is_in(of[0]["user_id"], stayed["user_id"].combine_chunks())))


def test_a_kept_night_tells_so_and_the_first_one_does_not(nights):
    assert nights.summaries["train"]["notes"] == [
        "not trained: the encoder of 2024-06-01, 1 days old, is kept for 3 days"
    ]
    (note,) = [note for note in nights.summaries["evaluate"]["notes"] if "judged" in note]
    assert note.endswith("held out once more, as of 2024-06-01, when the encoder was trained")
    metrics = [storage.read_json(f"{run.folder('evaluate')}/metrics.json") for run in (nights.first, nights.second)]
    assert metrics[1]["novel"] == metrics[0]["novel"]
    assert "night" not in metrics[0]["holdout"]
    assert metrics[1]["as_of"] == nights.second.as_of.isoformat()
    folders = {stage: nights.second.folder(stage) for stage in evaluate.NEEDS}
    page = render(data.gather(folders, metrics[1], as_of=nights.second.as_of, run_id="run"), [])
    assert "when the encoder was trained that is kept since" in page


def test_a_promise_that_was_missed_is_told_as_long_as_the_encoder_is_kept(nights, tmp_path):
    copy, recipe = str(tmp_path / "before"), (manifest.read(nights.first.folder("evaluate")) or {})["recipe"]
    storage.copy_folder(nights.first.folder("evaluate"), copy, last=manifest.NAME)
    metrics = storage.read_json(f"{copy}/metrics.json")
    storage.write_json({**metrics, "promise": {"missed": True, "alarm": "alarm: missed"}}, f"{copy}/metrics.json")
    manifest.seal(copy, stage="evaluate", key="k", summary={}, recipe=recipe)
    earlier = {**nights.first.folders, "evaluate": copy}
    summary = evaluate.evaluate(nights.job(evaluate.STAGE, out=str(tmp_path / "out"), earlier=earlier))
    assert "alarm: missed" in summary["notes"]


def test_a_kept_encoder_that_is_judged_anew_is_judged_by_the_days_since_too(nights, tmp_path):
    job = nights.job(evaluate.STAGE, out=str(tmp_path / "out"), scratch=str(tmp_path / "scratch"), earlier={})
    assert "judged on the last 11 days, held out once more" in evaluate.evaluate(job)["notes"]


def test_a_back_test_trains_at_each_cut_whatever_was_published(nights, tmp_path):
    summaries, out = {}, str(tmp_path / "out")
    shutil.copytree(nights.settings.run.output, out)
    settings = nights.settings.model_copy(update={"run": nights.settings.run.model_copy(update={"output": out})})
    cut = AS_OF + timedelta(hours=2, minutes=30)
    assert runs.published_before(out, cut) is not None
    run_backtest(settings, [cut], tell=lambda event: summaries.update({event.stage: event.summary}))
    assert not any("not trained" in note for note in summaries["2024-06-01 train"]["notes"])


def test_an_encoder_is_kept_for_its_days_by_the_same_settings_alone(nights, tmp_path):
    from topkin.pipelines import train

    job, ints = nights.job(train.STAGE), columns(nights)
    assert LiveEncoder.of(job, ints).folder == nights.first.folder("train")
    due = LiveEncoder.of(replace(job, as_of=AS_OF + timedelta(days=3)), ints)
    assert due.folder is None
    assert due.why == "trained: the encoder of 2024-06-01, 3 days old, is due, train.every_days is 3"
    assert "other settings" in LiveEncoder.of(replace(job, recipe="another"), ints).why
    assert "other settings" in LiveEncoder.of(replace(job, recipe=""), ints).why
    ids = pa.field("item_id", pa.string())
    vectors = [pa.field("vector", pa.list_(pa.float32(), dim)) for dim in (3, 4)]
    for other in (ints.set(ints.get_field_index("item_id"), ids), ints.append(vectors[0])):
        assert "another type" in LiveEncoder.of(job, other).why
    assert columns_of(ints.append(vectors[0])) != columns_of(ints.append(vectors[1]))
    assert "no run was published" in LiveEncoder.of(replace(job, earlier={}), ints).why
    off = settings_of(tmp_path, every_days=0)
    assert LiveEncoder.of(replace(job, settings=off), ints) == LiveEncoder(None, "")


def test_damage_means_that_all_is_done_again(nights, tmp_path):
    from topkin.pipelines import train

    copy = str(tmp_path / "model")
    storage.copy_folder(nights.first.folder("train"), copy, last=manifest.NAME)
    Path(copy, "signature.json").write_text("{}")
    versions = LiveEncoder.of(nights.job(train.STAGE, earlier={"train": copy}), columns(nights))
    assert versions.folder is None
    assert "changed after its stage finished" in versions.why
    lists = str(tmp_path / "lists")
    storage.copy_folder(nights.first.folder("recommend"), lists, last=manifest.NAME)
    job = nights.job(recommend.STAGE, earlier={**nights.first.folders, "recommend": lists})
    assert before(job, "recommend") is not None
    Path(lists, "lists.json").write_text("{}")
    assert before(job, "recommend") is None
    embedded = str(tmp_path / "embeddings")
    storage.copy_folder(nights.first.folder("embed"), embedded, last=manifest.NAME)
    part = next(Path(embedded, "items").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-9])
    job = nights.job(recommend.STAGE, earlier={**nights.first.folders, "embed": embedded})
    assert before(job, "recommend") is None
    assert not same_items(nights.first.folder("embed"), embedded)
    assert same_items(nights.first.folder("embed"), nights.first.folder("embed"))


def test_a_folder_without_a_recipe_is_like_no_other(nights, tmp_path):
    """As one is that users were forgotten in, or that an earlier version made."""
    from topkin.pipelines import train

    copy = str(tmp_path / "model")
    storage.copy_folder(nights.first.folder("train"), copy, last=manifest.NAME)
    manifest.seal(copy, stage="train", key="k", summary={})
    job = nights.job(train.STAGE, earlier={"train": copy})
    assert LiveEncoder.of(job, columns(nights)).folder is None
    sealed = manifest.read(copy)
    storage.write_json(
        sealing.sealed({k: v for k, v in sealed.items() if k not in ("recipe", "seal")}), f"{copy}/manifest.json"
    )
    assert "other settings" in LiveEncoder.of(job, columns(nights)).why


def test_another_encoder_or_recipe_carries_nothing_over(nights, tmp_path):
    job = nights.job(index.STAGE)
    assert still_holds(job, "index") == nights.first.folder("index")
    assert still_holds(replace(job, recipe="another"), "index") is None
    assert still_holds(replace(job, earlier={}), "index") is None
    other = str(tmp_path / "embeddings")
    storage.copy_folder(nights.first.folder("embed"), other, last=manifest.NAME)
    summary = storage.read_json(f"{other}/vectors.json")
    storage.write_json({**summary, "encoder": "another"}, f"{other}/vectors.json")
    assert still_holds(replace(job, earlier={**nights.first.folders, "embed": other}), "index") is None


def test_an_index_of_the_very_same_vectors_is_taken(nights, tmp_path):
    assert "no vector" not in str(nights.summaries["index"].get("notes"))  # an item came
    job = nights.job(index.STAGE, out=str(tmp_path), folders=nights.first.folders)
    summary = index.STAGE.work(job)
    assert summary["notes"] == ["no vector of an item changed: the index is that of the live version"]
    assert Path(tmp_path, "index.json").read_bytes() == Path(nights.first.folder("index"), "index.json").read_bytes()


def test_a_first_night_counts_what_the_catalogue_counts(nights):
    reference = Reference.read(nights.first.folder("train"))
    sales = storage.read_parquet(f"{nights.first.folder('prepare')}/catalogue.parquet")
    assert reference.counted(sales).equals(sales)
    assert storage.read_parquet(f"{nights.second.folder('train')}/reference.parquet").equals(reference.sales)
