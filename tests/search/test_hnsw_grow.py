"""An index that is grown night by night finds what exact search over the items of the day finds."""

import os
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from topkin.artifacts import storage
from topkin.config.sections import IndexSettings
from topkin.errors import ArtifactError
from topkin.linalg.cosine import unit_rows
from topkin.search.hnsw import grow
from topkin.search.hnsw.build import build_index
from topkin.search.hnsw.files import load_index, read_places
from topkin.search.hnsw.grow import grow_index
from topkin.search.topk import top_k

DIM, ENCODER = 16, "e" * 64
HOW = IndexSettings(m=12, ef_construction=80, ef_search=120, shard_items=10_000, sample=200)
BASE = 2_500


def _vectors(n: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32))


@dataclass
class Shop:
    """Items as they are on a day: ids and vectors."""

    ids: np.ndarray
    vectors: np.ndarray

    def build(self, folder, how=HOW):
        return build_index(self.vectors, str(folder), how, 0, ids=pa.array(self.ids), encoder=ENCODER)

    def grow(self, earlier, folder, how=HOW, **other):
        kept = {"ids": pa.array(self.ids), "encoder": ENCODER, **other}
        return grow_index(str(earlier), str(folder), self.vectors, how, 0, **kept)


def _agreement(folder, vectors: np.ndarray, queries: np.ndarray, k: int = 10) -> float:
    """The share of exact search's k that an index finds; its ids are distinct and its scores those of exact search."""
    index = load_index(str(folder))
    rows, scores = index.search(queries, k)
    allowed = (vectors != 0).any(axis=1)
    every, every_score = top_k(queries, vectors, len(vectors), allowed=allowed)
    shared = 0
    for row in range(len(queries)):
        got = rows[row][rows[row] >= 0]
        assert len(set(got.tolist())) == len(got) == min(k, allowed.sum())
        known = dict(zip(every[row].tolist(), every_score[row].tolist(), strict=True))
        assert [known[i] for i in got.tolist()] == scores[row][: len(got)].tolist()
        shared += len(np.intersect1d(got, every[row, :k]))
    return shared / (len(queries) * min(k, allowed.sum()))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Items, and the folder of their index."""
    shop = Shop(np.arange(BASE), _vectors(BASE))
    folder = tmp_path_factory.mktemp("grow") / "base"
    shop.build(folder)
    return shop, folder


def _next_day(shop: Shop) -> Shop:
    """40 items are gone, 30 have another vector, 100 are new; the order is another one."""
    vectors = shop.vectors.copy()
    vectors[100:130] = _vectors(30, 5)
    ids = np.concatenate([shop.ids[40:], 10_000 + np.arange(100)])
    vectors = np.concatenate([vectors[40:], _vectors(100, 6)])
    order = np.random.default_rng(1).permutation(len(ids))
    return Shop(ids[order], vectors[order])


def test_what_is_new_changed_or_gone_is_found_as_if_all_was_built_again(base, tmp_path):
    shop, folder = base
    today = _next_day(shop)
    info = today.grow(folder, tmp_path / "grown")
    again = today.build(tmp_path / "again")
    counts = {"added": 100, "changed": 30, "removed": 40, "taken": 1}
    assert info["growth"] == {"from": read_places(str(folder)).info["sha256"], **counts}
    assert info["shards"] == [{"items": BASE, "points": BASE}, {"items": 130, "points": 130, "grown": True}]
    assert (info["indexed"], info["tombstones"], info["items"]) == (len(today.ids), 70, len(today.ids))
    queries = np.concatenate([_vectors(200, 9), shop.vectors[:40], shop.vectors[100:130]])  # near what is gone too
    grown, rebuilt = (_agreement(tmp_path / name, today.vectors, queries) for name in ("grown", "again"))
    assert grown > rebuilt - 0.005
    assert info["recall"]["recall@10"] > again["recall"]["recall@10"] - 0.005
    index = load_index(str(tmp_path / "grown"))
    rows, _ = index.search(today.vectors, 1)
    assert (rows[:, 0] == np.arange(len(today.ids))).mean() > 0.995  # each at its own place, the changed ones too
    assert set(index.item_ids.to_pylist()) == set(today.ids.tolist())
    assert np.array_equal(today.ids[index.rows], index.item_ids.to_numpy())


def test_an_index_grown_twice_from_the_same_one_gives_the_same_answers(base, tmp_path):
    shop, folder = base
    today, answers = _next_day(shop), []
    for name in ("a", "b"):
        today.grow(folder, tmp_path / name)
        answers.append(load_index(str(tmp_path / name)).search(_vectors(60, 9), 10, threads=2))
    assert (tmp_path / "a" / "ids.parquet").read_bytes() == (tmp_path / "b" / "ids.parquet").read_bytes()
    assert np.array_equal(answers[0][0], answers[1][0])
    assert answers[0][1].tobytes() == answers[1][1].tobytes()


def test_the_graphs_that_are_taken_are_the_files_of_before(base, tmp_path):
    shop, folder = base
    _next_day(shop).grow(folder, tmp_path / "grown")
    for name in ("shard-00000.nmslib", "shard-00000.nmslib.dat"):
        assert os.path.samefile(folder / name, tmp_path / "grown" / name)
    assert load_index(str(folder)).n_indexed == BASE  # as it was


def test_a_disk_without_links_gets_copies(base, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    shop, folder = base
    _next_day(shop).grow(folder, tmp_path / "grown")
    name = "shard-00000.nmslib"
    assert not os.path.samefile(folder / name, tmp_path / "grown" / name)
    assert (folder / name).read_bytes() == (tmp_path / "grown" / name).read_bytes()


def test_a_day_without_news_builds_nothing(base, tmp_path):
    shop, folder = base
    noise = np.random.default_rng(3).standard_normal(shop.vectors.shape).astype(np.float32)
    today = Shop(shop.ids[::-1], unit_rows(shop.vectors + 1e-6 * noise)[::-1])  # another batch, other last digits
    info = today.grow(folder, tmp_path / "grown")
    counts = {name: info["growth"][name] for name in ("added", "changed", "removed", "taken")}
    assert counts == {"added": 0, "changed": 0, "removed": 0, "taken": 1}
    assert info["shards"] == [{"items": BASE, "points": BASE}]
    assert info["tombstones"] == 0
    assert _agreement(tmp_path / "grown", np.ascontiguousarray(today.vectors), _vectors(100, 4)) > 0.97


def test_items_that_lose_their_vector_are_gone_and_those_that_get_one_are_new(base, tmp_path):
    shop, folder = base
    vectors = shop.vectors.copy()
    vectors[:10] = 0
    first = Shop(shop.ids, vectors)
    info = first.grow(folder, tmp_path / "one")
    assert (info["growth"]["removed"], info["without_vector"]) == (10, 10)
    assert not set(range(10)) & set(load_index(str(tmp_path / "one")).search(_vectors(50, 2), 500)[0].ravel())
    info = shop.grow(tmp_path / "one", tmp_path / "two")
    assert (info["growth"]["added"], info["growth"]["removed"], info["without_vector"]) == (10, 0, 0)
    rows, _ = load_index(str(tmp_path / "two")).search(shop.vectors[:10], 1)
    assert rows.ravel().tolist() == list(range(10))


def test_equal_vectors_are_one_point_of_a_new_shard_and_all_are_found(base, tmp_path):
    shop, folder = base
    equal = np.repeat(_vectors(2, 8), [200, 1], axis=0)
    equal[200] = shop.vectors[7]  # and one that is in the earlier graph
    today = Shop(np.concatenate([shop.ids, 9_000 + np.arange(201)]), np.concatenate([shop.vectors, equal]))
    info = today.grow(folder, tmp_path / "grown")
    assert info["shards"][1] == {"items": 201, "points": 2, "grown": True}
    rows, scores = load_index(str(tmp_path / "grown")).search(today.vectors[[BASE, 7]], 200)
    assert rows[0].tolist() == list(range(BASE, BASE + 200))
    assert rows[1, :2].tolist() == [7, BASE + 200]
    assert scores[1, 0] == scores[1, 1]


def test_some_of_many_equal_items_may_go(tmp_path):
    vectors = _vectors(BASE, 3)
    vectors[:300] = vectors[0]
    shop = Shop(np.arange(BASE), vectors)
    shop.build(tmp_path / "base")
    today = Shop(shop.ids[150:], vectors[150:])
    info = today.grow(tmp_path / "base", tmp_path / "grown")
    assert info["tombstones"] == 150
    rows, _ = load_index(str(tmp_path / "grown")).search(vectors[:1], 200)
    assert rows[0, :150].tolist() == list(range(150))
    assert (rows >= 0).all()


def test_all_of_a_neighbourhood_may_go_and_the_next_are_found(tmp_path):
    """The graph's nearest are tombstones by the hundred: it is asked for more until enough of the living are left."""
    centre = _vectors(1, 11)
    crowd = unit_rows(centre + 0.05 * _vectors(400, 12))
    vectors = np.concatenate([_vectors(BASE, 13), crowd])
    shop = Shop(np.arange(len(vectors)), vectors)
    shop.build(tmp_path / "base")
    today = Shop(shop.ids[:BASE], vectors[:BASE])
    info = today.grow(tmp_path / "base", tmp_path / "grown")
    assert (info["tombstones"], info["growth"]["removed"]) == (400, 400)
    assert _agreement(tmp_path / "grown", today.vectors, np.concatenate([centre, crowd[:20]])) > 0.95
    rows, _ = load_index(str(tmp_path / "grown")).search(centre, BASE + 50)  # more than there are
    assert sorted(rows[rows >= 0].tolist()) == list(range(BASE))


def test_a_year_of_nights_leaves_few_shards(base, tmp_path, monkeypatch):
    monkeypatch.setattr(grow, "SMALL", 5)
    shop, before = base
    shards, built_anew, how = [], 0, HOW.model_copy(update={"sample": 1})
    for night in range(40):
        new = _vectors(10, 100 + night)
        shop = Shop(np.append(shop.ids, 10_000 + 10 * night + np.arange(10)), np.concatenate([shop.vectors, new]))
        info = shop.grow(before, tmp_path / str(night), how)
        before = tmp_path / str(night)
        shards.append(len(info["shards"]))
        built_anew += "built_anew" in info["growth"]
    assert built_anew == 0  # 400 of 2,900
    assert max(shards) <= 2 + np.log2(40)
    assert _agreement(before, shop.vectors, _vectors(100, 1)) > 0.97


def test_all_are_built_anew_where_a_fifth_came_or_went(base, tmp_path):
    shop, folder = base
    for number, today in enumerate(
        (
            Shop(shop.ids[600:], shop.vectors[600:]),
            Shop(np.arange(BASE + 700), np.concatenate([shop.vectors, _vectors(700, 2)])),
        )
    ):
        info = today.grow(folder, tmp_path / str(number))
        assert "came, changed or went since all were built, more than 20% of" in info["growth"]["built_anew"]
        assert info["shards"] == [{"items": len(today.ids), "points": len(today.ids)}]
        assert info.get("tombstones", 0) == 0
        load_index(str(tmp_path / str(number)))


def test_a_few_items_are_built_in_one(tmp_path):
    shop = Shop(np.arange(300), _vectors(300))
    shop.build(tmp_path / "base")
    today = Shop(np.arange(310), np.concatenate([shop.vectors, _vectors(10, 1)]))
    info = today.grow(tmp_path / "base", tmp_path / "grown")
    assert info["growth"]["built_anew"] == "what is new and the shards that join it are all 310 items"
    assert info["growth"]["added"] == 10


def test_full_shards_stay_and_new_ones_hold_no_more_than_is_asked_for(tmp_path):
    how = HOW.model_copy(update={"shard_items": 500})
    shop = Shop(np.arange(BASE), _vectors(BASE))
    shop.build(tmp_path / "base", how)
    today = Shop(np.arange(BASE + 490), np.concatenate([shop.vectors, _vectors(490, 1)]))
    info = today.grow(tmp_path / "base", tmp_path / "one", how)
    assert [shard["items"] for shard in info["shards"]] == [500] * 5 + [490]
    today = Shop(np.arange(BASE + 498), np.concatenate([today.vectors, _vectors(8, 2)]))
    info = today.grow(tmp_path / "one", tmp_path / "two", how)
    assert [shard["items"] for shard in info["shards"]] == [500] * 5 + [498]
    assert _agreement(tmp_path / "two", today.vectors, _vectors(50, 3)) > 0.98


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"how": HOW.model_copy(update={"m": 10})}, "the earlier index was built with {'M': 12"),
        ({"encoder": "f" * 64}, "was made by encoder eeeeeeeeeeee…, the vectors by ffffffffffff…"),
        ({"ids": pa.array([f"n{n}" for n in range(BASE)])}, "the earlier index has ids of type int64, not string"),
    ],
)
def test_an_index_of_another_kind_is_not_grown_and_that_is_said(base, tmp_path, other, why):
    shop, folder = base
    info = shop.grow(folder, tmp_path / "grown", **other)
    assert why in info["growth"]["built_anew"]
    assert load_index(str(tmp_path / "grown")).n_indexed == BASE


def test_another_dimension_is_not_grown(base, tmp_path):
    info = Shop(np.arange(BASE), _vectors(BASE, 1, 8)).grow(base[1], tmp_path / "grown")
    assert "is for vectors of 16 coordinates, got 8" in info["growth"]["built_anew"]


def test_a_damaged_earlier_index_is_told_and_nothing_is_taken_of_it(base, tmp_path):
    shop, folder = base
    for name in storage.files(str(folder)):
        copy = tmp_path / f"of {name}"
        copy.mkdir()
        for other in storage.files(str(folder)):
            content = bytearray((folder / other).read_bytes())
            if other == name:
                content[len(content) // 2] ^= 8
            (copy / other).write_bytes(content)
        info = _next_day(shop).grow(copy, tmp_path / f"from {name}")
        assert name in info["growth"]["built_anew"]
        assert len(info["shards"]) == 1
        load_index(str(tmp_path / f"from {name}"))
    info = shop.grow(tmp_path / "not there", tmp_path / "grown")
    assert "index.json is missing" in info["growth"]["built_anew"]


def test_tombstones_that_are_not_told_are_damage(base, tmp_path):
    from topkin.search.hnsw.files import sealed

    shop, folder = base
    _next_day(shop).grow(folder, tmp_path / "grown")
    path = str(tmp_path / "grown" / "index.json")
    info = storage.read_json(path)
    storage.write_json(sealed({name: value for name, value in info.items() if name != "tombstones"}), path)
    with pytest.raises(ArtifactError, match="lists 2560 ids, and 70 that are gone, for 2560 indexed items and 0 gone"):
        load_index(str(tmp_path / "grown"))


def test_ids_must_be_distinct(base, tmp_path):
    with pytest.raises(ValueError, match="ids must be distinct to grow an index"):
        Shop(np.zeros(BASE, np.int64), _vectors(BASE)).grow(base[1], tmp_path / "grown")


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_days_of_coming_changing_and_going_end_in_the_items_of_the_last(tmp_path_factory, data):
    """Against exact search, over nights of small shards: no gone item, no old place, no item twice or missing."""
    folder = tmp_path_factory.mktemp("days")
    how = IndexSettings(m=8, ef_construction=60, ef_search=60, shard_items=data.draw(st.sampled_from([40, 1000])))
    how = how.model_copy(update={"sample": 5})
    now = dict(enumerate(_vectors(200, data.draw(st.integers(0, 99)), 6)))
    shop = Shop(np.array(list(now)), np.array(list(now.values())))
    shop.build(folder / "0", how)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grow, "SMALL", data.draw(st.sampled_from([1, 10])))
        patch.setattr(grow, "SHARE", data.draw(st.sampled_from([0.2, 2.0])))
        for night in range(1, data.draw(st.integers(1, 4)) + 1):
            rng = np.random.default_rng(data.draw(st.integers(0, 999)))
            for item in rng.permutation(list(now))[: data.draw(st.integers(0, 30))].tolist():
                del now[item]
            for item in rng.permutation(list(now))[: data.draw(st.integers(0, 10))].tolist():
                now[item] = unit_rows(rng.standard_normal((1, 6)).astype(np.float32))[0]
            new = unit_rows(rng.standard_normal((data.draw(st.integers(0, 30)), 6)).astype(np.float32))
            now |= dict(zip((1000 * night + np.arange(len(new))).tolist(), new, strict=True))
            order = rng.permutation(list(now)).tolist()
            shop = Shop(np.array(order), np.array([now[item] for item in order]))
            info = shop.grow(folder / str(night - 1), folder / str(night), how)
    assert info["indexed"] == len(now)
    index = load_index(str(folder / str(night)))
    assert sorted(index.rows.tolist()) == list(range(len(now)))
    assert np.array_equal(shop.ids[index.rows], index.item_ids.to_numpy())
    assert np.array_equal(shop.vectors[index.rows], index.vectors)
    assert _agreement(folder / str(night), shop.vectors, _vectors(20, 1, 6)) > 0.95
