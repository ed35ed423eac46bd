"""The lists of a catalogue cut into shards: byte for byte those of one worker that holds all of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from tests.pipelines.lists.shop import AS_OF, ITEMS, PARTS, PROCESSES, USERS, write_shop
from topkin.artifacts import storage
from topkin.config.sections import Settings
from topkin.pipelines import recommend
from topkin.pipelines.engine.job import Job, run_pipeline


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run up to the embeddings."""
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    return folder


def lists(
    shop: Path, shards: int, flags: tuple[str, ...] = (), **rules: object
) -> tuple[Path, dict[str, dict[str, int]]]:
    """The folder of the lists, and the counts."""
    from topkin.transforms.recommend import fit

    sections = {"run": {"output": str(shop), "parts": PARTS}, "recommend": {"k": 8, "min_history": 2, **rules}}
    sections |= {
        "purchases": {"path": "nowhere"},
        "items": {"path": "nowhere", "category": "category", "price": "price"},
    }
    settings = Settings.model_validate(sections)
    out = shop / f"{shards}-{'-'.join(map(str, rules.values()))}-{len(flags)}"
    folders = {"prepare": str(shop / "prepared"), "train": str(shop / "model"), "embed": str(shop / "embeddings")}
    scratch = str(out / "scratch")
    job = Job(settings=settings, as_of=AS_OF, out=str(out / "lists"), folders=folders, scratch=scratch)
    inputs = replace(recommend.inputs_of(job), shards=shards)
    fit([inputs])
    lists = recommend.transform(job, {"": inputs})
    run_pipeline(lists, flags)
    return out / "lists", storage.read_json(lists.tally)


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"bought": "cooldown"},
        {"bought": "boost"},
        {"because": 0},
        {"k": 100},
        {"max_per": {"category": 2}},
        {"max_per": {"category": 3}, "diversity": 0.3},
        {"eligible": {"place": {"user": "segment", "item": "category"}}, "max_per": {"category": 30}},
        {"new_items": {"days": 7, "at_least": 3}, "max_per": {"category": 3}},
        {"boost": {"price": 0.7}, "k": 3},
        {"boost": {"price": 0.5}, "max_per": {"category": 2}, "k": 4},
        {"capacity": 12, "k": 6},
        {"capacity": 9, "max_per": {"category": 3}, "k": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("shards", [7, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, ITEMS + 5))])
def test_any_number_of_shards_gives_the_same_files_and_counts(shop, shards, rules):
    one, counts = lists(shop, 1, **rules)
    cut, of_cut = lists(shop, shards, **rules)
    names = storage.files(str(one))
    assert names == storage.files(str(cut))
    assert len(names) == 2 * PARTS + (rules.get("bought") == "boost")  # and what all users buy again
    assert [n for n in names if (one / n).read_bytes() != (cut / n).read_bytes()] == []
    assert counts == of_cut
    assert counts["source"]["model"] > 0 < counts["source"]["segment_recent_popularity"]


@pytest.mark.parametrize("flags", [(), ("--direct_runner_bundle_repeat=2",)], ids=["once", "repeated"])
@pytest.mark.parametrize(
    ("bought", "ruled"),
    [
        *(("exclude", {}), ("keep", {}), ("boost", {})),
        ("exclude", {"max_per": {"category": 2}, "diversity": 0.3}),
        *(("exclude", {"capacity": 12, "k": 6}), ("keep", {"capacity": 12, "k": 6, "max_per": {"category": 3}})),
    ],
    ids=str,
)
def test_shards_and_parts_give_the_same_lists_of_a_second_stage(shop, flags, bought, ruled):
    weights = {"encoder": 1.0, "item_knn_position": 0.8, "popularity": 0.1}
    storage.write_json({"weights": weights}, str(shop / "model" / "blend.json"))
    try:
        rules = {"sources": ("popularity", "item_knn_position"), "bought": bought, **ruled}
        one, counts = lists(shop, 1, flags, **rules)
        cut, of_cut = lists(shop, 4, flags, **rules)
    finally:
        storage.remove_files(str(shop / "model"), ["blend.json"])
    assert [n for n in storage.files(str(one)) if (one / n).read_bytes() != (cut / n).read_bytes()] == []
    assert counts == of_cut
    table = storage.read_parts(str(one / "recommendations" / "date=2021-03-01"))
    model = table.filter(pc.equal(table["source"], "model"))
    kept = bought != "exclude"
    assert set(model["decided"].to_pylist()) == {"encoder", "item_knn_position", *(["personal"] if kept else [])}
    own = model.filter(pc.greater(model["times_bought"], 0)).to_pylist()
    assert bool(own) == kept
    assert all(row["because"] == [row["item_id"]] for row in own)
    assert all(row["times_bought"] for row in model.to_pylist() if row["decided"] == "personal")
    for user in model["user_id"].unique():
        final = model.filter(pc.equal(model["user_id"], user))["final"].to_pylist()
        assert final == sorted(final, reverse=True) or "diversity" in ruled
        assert max(final) <= 1 or kept
    given = np.unique(table["item_id"].to_numpy(), return_counts=True)[1]
    assert given.max() <= ruled.get("capacity", USERS)
    assert len(np.unique(np.diff(model["score"].to_numpy()) < 0)) == 2  # cosines rise and fall
    fallen = table.filter(pc.not_equal(table["source"], "model"))
    assert fallen["final"].null_count == fallen["decided"].null_count == len(fallen) > 0


@pytest.mark.parametrize("flags", [("--direct_runner_bundle_repeat=2",), PROCESSES], ids=["repeated", "processes"])
def test_shards_give_the_same_files_however_they_are_run(shop, flags):
    one, counts = lists(shop, 1)
    cut, of_cut = lists(shop, 4, flags)
    assert [n for n in storage.files(str(one)) if (one / n).read_bytes() != (cut / n).read_bytes()] == []
    assert counts == of_cut


def test_a_worker_of_shards_holds_no_vectors_until_it_searches(shop):
    from topkin.transforms.recommend import ListMaker, ShardSearcher

    settings = Settings.model_validate({"purchases": {"path": "nowhere"}, "run": {"parts": PARTS}})
    folders = {"prepare": str(shop / "prepared"), "train": str(shop / "model"), "embed": str(shop / "embeddings")}
    sources = recommend.inputs_of(Job(settings=settings, as_of=AS_OF, out="unused", folders=folders))
    items = ShardSearcher(replace(sources, shards=2)).items
    held = [a for of in (items.context, items.scores) for a in vars(of).values() if isinstance(a, np.ndarray)]
    assert {array.ndim for array in held} == {1}
    assert isinstance(ListMaker(sources).items.context.vectors, np.ndarray)
