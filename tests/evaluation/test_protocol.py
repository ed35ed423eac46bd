import json
import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from topkin.artifacts import schemas
from topkin.baselines import registry
from topkin.baselines.fitted import fit_baselines
from topkin.evaluation.protocol import (
    COUNTS_KEY,
    FINE,
    MEASURED,
    EvaluationCatalogue,
    EvaluationPart,
    cold_items,
    evaluate_part,
    published_ks,
    sales_deciles,
)
from topkin.interactions import Interactions
from topkin.linalg.cosine import unit_rows
from topkin.linalg.csr import Csr
from topkin.metrics.ranking import ranking_metrics
from topkin.recommend.repurchase.blend import Repurchase, Weights
from topkin.recommend.repurchase.rates import RepurchaseRates
from topkin.recommend.repurchase.rates import counts_of as repurchase_counts
from topkin.recommend.second.candidates import ENCODER
from topkin.recommend.second.stage import SecondStage
from topkin.search.topk import top_k

AS_OF = datetime(2024, 6, 1)
BASELINES = [name for name in registry.BASELINES if name != "ials"]
DAY = timedelta(days=1)


def shop_and_part(
    known: dict[Any, list[tuple[int, float]]],
    later: list[tuple[Any, int, float]],
    vectors: np.ndarray,
    user_vectors: np.ndarray,
    lists: dict[Any, list[int]] | None = None,
    **options: Any,
) -> tuple[EvaluationCatalogue, EvaluationPart]:
    """known: user to (item, days before). later: (user, item, days after). Items are 0, 1, … of int64."""
    n_items = len(vectors)
    users = sorted(known)
    user_type = pa.array([*users, *(u for u, _, _ in later)]).type
    ordered = {u: sorted(((AS_OF - a * DAY, i) for i, a in known[u])) for u in users}
    histories = pa.table(
        [
            pa.array(users, user_type),
            pa.array([[i for _, i in ordered[u]] for u in users], pa.list_(pa.int64())),
            pa.array([[t for t, _ in ordered[u]] for u in users], pa.list_(schemas.TIME)),
            pa.array([[1.0] * len(ordered[u]) for u in users], pa.list_(pa.float32())),
            pa.nulls(len(users), pa.string()),
        ],
        schema=schemas.histories(user_type, pa.int64()),
    )
    ids = pa.array(range(n_items), pa.int64())
    history = Interactions.from_histories(histories, ids, AS_OF)
    sales = np.bincount(history.items, minlength=n_items)
    first = [
        min((AS_OF - a * DAY for one in known.values() for i, a in one if i == n), default=None) for n in range(n_items)
    ]
    shop = EvaluationCatalogue(
        item_ids=ids,
        sales=sales,
        cold=cold_items(sales, pa.array(first, schemas.TIME), AS_OF),
        vectors=vectors.astype(np.float32),
        preferences=unit_rows(vectors.astype(np.float32)).__getitem__,
        baselines=fit_baselines(history, BASELINES, 100),
        as_of=AS_OF,
        **{"ks": (1, 3), "cooldown": np.full(n_items, 30, np.float32), "listed": 3 if lists else 0, **options},
    )
    heldout = pa.table(
        {
            "user_id": pa.array([u for u, _, _ in later], user_type),
            "item_id": pa.array([i for _, i, _ in later], pa.int64()),
            "timestamp": pa.array([AS_OF + d * DAY for _, _, d in later], schemas.TIME),
        }
    )
    rows = [(u, r + 1, i) for u, items in (lists or {}).items() for r, i in enumerate(items)]
    recommendations = pa.table(
        {
            "user_id": pa.array([r[0] for r in rows], user_type),
            "rank": pa.array([r[1] for r in rows], pa.int32()),
            "item_id": pa.array([r[2] for r in rows], pa.int64()),
        }
    )
    part = EvaluationPart(
        histories=histories,
        vectors=user_vectors.astype(np.float32),
        heldout=heldout,
        recommendations=recommendations,
    )
    return shop, part


def counts_of(users: pa.Table) -> dict[str, Any]:
    return dict(json.loads(users.schema.metadata[COUNTS_KEY]))


def random_case(seed: int, **options: Any) -> tuple[EvaluationCatalogue, EvaluationPart]:
    rng = np.random.default_rng(seed)
    n_users, n_items = 23, 17
    known = {
        f"u{u:02d}": [(int(rng.integers(2, n_items)), float(rng.uniform(0, 60))) for _ in range(rng.integers(0, 7))]
        for u in range(n_users)
    }
    later = [
        (f"u{rng.integers(n_users + 4):02d}", int(rng.integers(n_items + 3)), float(rng.uniform(0, 40)))
        for _ in range(120)
    ]
    users = rng.integers(-2, 3, (n_users, 3)) / 2  # coarse: scores tie
    users[[u for u in range(n_users) if not known[f"u{u:02d}"]]] = 0
    lists = {u: rng.permutation(n_items)[: rng.integers(1, 4)].tolist() for u in known}
    return shop_and_part(known, later, rng.integers(-2, 3, (n_items, 3)) / 2, users, lists, **options)


def naive(shop: EvaluationCatalogue, part: EvaluationPart) -> dict[str, dict[Any, dict[str, float]]]:
    """Recall and NDCG by loops: protocol/model to user to metric@k."""
    sold = {i for i, yes in enumerate(shop.sold) if yes}
    users = part.histories["user_id"].to_pylist()
    out: dict[str, dict[Any, dict[str, float]]] = {}
    for row, user in enumerate(users):
        bought = set(part.histories["items"][row].as_py())
        last = dict(zip(part.histories["items"][row].as_py(), part.histories["times"][row].as_py(), strict=True))
        got = {
            e["item_id"]
            for e in part.heldout.to_pylist()
            if e["user_id"] == user
            and e["item_id"] < len(shop.sold)
            and (shop.until is None or e["timestamp"] < shop.until)
        }
        allowed = {
            "exclude": got - bought,
            "keep": got,
            "cooldown": {i for i in got if i not in last or (AS_OF - last[i]) / DAY >= 30},
        }[shop.bought]
        published = [r["item_id"] for r in part.recommendations.to_pylist() if r["user_id"] == user]
        if allowed and published:
            out.setdefault("published/lists", {})[user] = judge(published, allowed, published_ks(shop.ks, shop.listed))
        if not bought:
            continue
        cold = {i for i in sold if shop.cold[i]}
        new = (got & sold) - bought
        truths = {"all": got & sold, "novel": new, "repeat": got & sold & bought, "cold": new & cold}
        for truth, true in {**truths, "among_cold": new & cold}.items():
            if not true:
                continue
            for model in shop.models:
                candidates = sold if truth in ("all", "repeat") else sold - bought
                candidates = candidates & cold if truth == "among_cold" else candidates
                if model == "model":
                    candidates = {i for i in candidates if shop.vectors[i].any()} if part.vectors[row].any() else set()
                    scores = shop.vectors @ part.vectors[row]
                else:
                    history = Interactions.from_histories(part.histories.slice(row, 1), shop.item_ids, AS_OF)
                    scores = shop.baselines[model].scores(history)[0]
                ranked = sorted(candidates, key=lambda i, s=scores: (-s[i], i))
                out.setdefault(f"{truth}/{model}", {})[user] = judge(ranked, true, shop.ks)
    return out


def judge(ranked: list[int], true: set[int], ks: tuple[int, ...]) -> dict[str, float]:
    values = {}
    for k in ks:
        hits = [i in true for i in ranked[:k]]
        values[f"recall@{k}"] = sum(hits) / len(true)
        ideal = sum(1 / math.log2(r + 2) for r in range(min(k, len(true))))
        values[f"ndcg@{k}"] = sum(h / math.log2(r + 2) for r, h in enumerate(hits)) / ideal
    return values


@pytest.mark.parametrize("options", [{}, {"bought": "keep"}, {"bought": "cooldown", "until": AS_OF + 20 * DAY}])
@pytest.mark.parametrize("seed", range(3))
def test_every_user_is_judged_as_by_plain_loops(seed: int, options: dict[str, Any]) -> None:
    shop, part = random_case(seed, **options)
    users = evaluate_part(shop, part).users
    expected = naive(shop, part)
    rows = {r["user_id"]: r for r in users.to_pylist()}
    for column, by_user in expected.items():
        for name in next(iter(by_user.values())):
            got = {u: r[f"{column}/{name}"] for u, r in rows.items() if r[f"{column}/{name}"] is not None}
            assert got == pytest.approx({u: m[name] for u, m in by_user.items()}), (column, name)
    measured = {n.rpartition("/")[0] for n in users.schema.names[2:] if users[n].null_count < len(users)}
    assert {n.partition("/")[0] for n in measured} == {*MEASURED, "published"}
    assert measured == set(expected)


def test_blocks_of_one_user_give_the_same_as_one_block() -> None:
    shop, part = random_case(7)
    whole, alone = evaluate_part(shop, part), evaluate_part(shop, part, budget_bytes=1)
    assert whole.users.equals(alone.users, check_metadata=True)
    assert whole.listed.equals(alone.listed)
    assert whole.tallies.equals(alone.tallies)


def test_lists_are_counted_by_item_and_cut_off() -> None:
    shop, part = random_case(1)
    users, listed, _ = evaluate_part(shop, part)
    counted = {(r["protocol"], r["model"], r["item"]): r for r in listed.to_pylist()}
    expected: dict[int, int] = {}
    for row in part.recommendations.to_pylist():
        expected[row["item_id"]] = expected.get(row["item_id"], 0) + (row["rank"] <= 3)
    assert {i: r["lists@3"] for (p, _, i), r in counted.items() if p == "published"} == expected
    for protocol, model in {k[:2] for k in counted if k[0] != "published"}:
        rows = [r for k, r in counted.items() if k[:2] == (protocol, model)]
        judged = users.filter(pc.is_valid(users[f"{protocol}/{model}/recall@1"]))
        if model != "model":
            assert sum(r["lists@1"] for r in rows) == len(judged)
            assert sum(r["lists@3"] for r in rows) == 3 * len(judged)
        assert all(shop.sold[r["item"]] and r["lists@1"] <= r["lists@3"] <= len(judged) for r in rows)


@pytest.mark.parametrize("seed", range(3))
def test_sums_over_lists_are_those_of_plain_loops(seed: int) -> None:
    shop, part = random_case(seed)
    result = {
        (r["protocol"], r["model"], r["name"], r["k"]): (r["sum"], r["n"])
        for r in evaluate_part(shop, part).tallies.to_pylist()
    }
    popular = sorted(range(len(shop.sales)), key=lambda i: (-shop.baselines["popularity"].values[i], i))
    hits, pairs, diversities = [0] * 10, [0] * 10, []
    for row in part.histories.to_pylist():
        true = {
            e["item_id"]
            for e in part.heldout.to_pylist()
            if e["user_id"] == row["user_id"] and e["item_id"] < len(shop.sales)
        }
        true = {i for i in true if shop.sold[i]} - set(row["items"])
        if not row["items"] or not true:
            continue
        ids = [i for i in popular if shop.sold[i] and i not in row["items"]][:3]
        t = shop.preferences(np.array(ids, int)).astype(float)
        diversities.append(np.mean([1 - t[a] @ t[b] for a in range(3) for b in range(a)]))
        for i in true:
            pairs[shop.deciles[i]] += 1
            hits[shop.deciles[i]] += i in ids
    assert [result["novel", "popularity", f"decile {d}", 3] for d in range(10)] == list(zip(hits, pairs, strict=True))
    value, n = result["novel", "popularity", "diversity", 3]
    assert n == len(diversities)
    assert value / FINE == pytest.approx(sum(diversities), abs=1e-6)
    assert result["novel", "popularity", "diversity", 1] == (0, 0)  # one item is not diverse


def test_deciles_hold_a_tenth_of_the_items_sold_each() -> None:
    sales = np.array([0, 5, 9, 1, 1, 7, 3, 3, 2, 8, 6, 4, 0, 1])
    deciles = sales_deciles(sales)
    assert deciles[[0, 12]].tolist() == [-1, -1]
    assert sorted(np.bincount(deciles[deciles >= 0], minlength=10).tolist()) == [1] * 8 + [2] * 2
    assert deciles[2] == 9
    assert deciles[13] == 0
    order = np.argsort(-sales[sales > 0], kind="stable")
    assert (np.diff(deciles[sales > 0][order]) <= 0).all()


def test_cold_items_are_new_or_rare() -> None:
    first = [*(AS_OF - d * DAY for d in (31, 30, 1, 400)), None]
    assert cold_items(np.array([5, 50, 50, 4, 0]), pa.array(first, schemas.TIME), AS_OF).tolist() == [
        False,
        True,
        True,
        True,
        False,
    ]


def checkerboard() -> tuple[EvaluationCatalogue, EvaluationPart]:
    """Even users buy even items, odd users odd ones; each keeps one item for after the date."""
    known = {u: [(i, 5.0) for i in range(u % 2, 12, 2) if i // 2 != u // 2] for u in range(12)}
    later = [(u, u % 2 + 2 * (u // 2), 1.0) for u in range(12)]
    vectors = np.array([[1.0, 0.0], [0.0, 1.0]] * 6)
    return shop_and_part(known, later, vectors, vectors, ks=(1, 2))


def test_on_a_checkerboard_the_model_is_always_right_about_new_items() -> None:
    users, *_ = evaluate_part(*checkerboard())
    assert users["novel/model/recall@1"].to_pylist() == [1.0] * 12
    assert users["novel/model/ndcg@1"].to_pylist() == [1.0] * 12
    assert np.mean(users["novel/popularity/recall@1"].to_pylist()) < 0.6
    assert users["all/own_frequency/recall@2"].to_pylist() == [0.0] * 12  # all its own items come first


def test_bought_items_are_neither_listed_nor_true_among_the_novel() -> None:
    shop, part = shop_and_part(
        {1: [(0, 9.0)], 2: [(1, 9.0), (2, 9.0)]}, [(1, 0, 1.0), (1, 1, 1.0)], np.eye(3), np.eye(3)[:2]
    )
    users, listed, _ = evaluate_part(shop, part)
    row = users.to_pylist()[0]
    assert row["all/model/recall@1"] == 0.5
    assert row["novel/model/recall@3"] == 1.0
    novel = [r for r in listed.to_pylist() if r["protocol"] == "novel"]
    assert 0 not in {r["item"] for r in novel}


def test_a_user_who_only_buys_again_is_left_out_of_the_novel_protocol() -> None:
    users, *_ = evaluate_part(*shop_and_part({1: [(0, 9.0)]}, [(1, 0, 1.0)], np.eye(2), np.eye(2)[:1]))
    assert users["all/model/recall@1"].to_pylist() == [1.0]
    assert users["novel/model/recall@1"].to_pylist() == [None]
    counts = counts_of(users)
    assert (counts["users"], counts["pairs"], counts["novel_users"], counts["novel_pairs"]) == (1, 1, 0, 0)


def test_purchases_that_judge_nobody_are_counted() -> None:
    later = [(1, 1, 1.0), (1, 2, 2.0), (1, 9, 3.0), (7, 0, 4.0), (7, 0, 50.0)]
    shop, part = shop_and_part(
        {1: [(0, 9.0), (1, 9.0)], 2: []}, later, np.eye(3), np.eye(3)[:2], until=AS_OF + 30 * DAY
    )
    users, *_ = evaluate_part(shop, part)
    counts = counts_of(users)
    assert counts["events"] == 4
    assert counts["events_of_new_users"] == 1
    assert counts["events_of_new_items"] == 2  # one never sold before, one not in the catalogue
    assert counts["users"] == 1
    assert counts["pairs"] == 1
    assert counts["to"] == (AS_OF + 4 * DAY).isoformat()


def test_a_user_without_a_vector_gets_no_list_and_is_counted() -> None:
    shop, part = shop_and_part(
        {1: [(0, 9.0)], 2: [(1, 9.0)]}, [(1, 1, 1.0), (2, 0, 1.0)], np.eye(2), np.array([[0, 0], [1, 1]])
    )
    users, *_ = evaluate_part(shop, part)
    assert users["novel/model/recall@1"].to_pylist() == [0.0, 1.0]
    assert counts_of(users)["users_without_vector"] == 1


def test_an_item_without_a_vector_is_never_ranked_by_the_model() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    known = {1: [(0, 9.0)], 2: [(1, 9.0), (2, 9.0)]}
    users, listed, _ = evaluate_part(*shop_and_part(known, [(1, 1, 1.0)], vectors, np.array([[1.0, 0], [0, 1.0]])))
    assert users["all/model/recall@3"].to_pylist() == [0.0]
    assert 1 not in {r["item"] for r in listed.to_pylist() if r["model"] == "model"}


def test_a_part_without_users_or_purchases_gives_empty_tables() -> None:
    for known, later in (({1: [(0, 9.0)]}, []), ({1: [(0, 9.0)]}, [(5, 0, 1.0)])):
        users, listed, _ = evaluate_part(*shop_and_part(known, later, np.eye(2), np.eye(2)[:1]))
        assert len(users) == len(listed) == 0
    shop, part = shop_and_part({1: [(0, 9.0)]}, [(1, 0, 1.0)], np.eye(2), np.eye(2)[:1])
    empty = EvaluationPart(
        histories=part.histories.slice(0, 0),
        vectors=np.zeros((0, 2), np.float32),
        heldout=part.heldout.slice(0, 0),
        recommendations=part.recommendations,
    )
    assert len(evaluate_part(shop, empty).users) == 0


@pytest.mark.parametrize("blended", [False, True])
def test_where_lists_rank_bought_items_the_model_is_judged_on_all_items_by_such_lists(blended: bool) -> None:
    plain, part = random_case(5)
    history = Interactions.from_histories(part.histories, plain.item_ids, AS_OF)
    if blended:
        sources = fit_baselines(history, ["item_knn"], 5)
        plain = replace(plain, second=SecondStage({ENCODER: 1.0, "item_knn": 0.5}, sources))
    items = RepurchaseRates.of(repurchase_counts(history), len(plain.sales))
    shop = replace(plain, bought="keep", repurchase=Repurchase(Weights(personal=2.0), items))
    before, after = (evaluate_part(s, part).users.to_pylist() for s in (plain, shop))
    assert [r["novel/model/ndcg@3"] for r in after] == [r["novel/model/ndcg@3"] for r in before]
    users, changed = part.histories["user_id"].to_pylist(), 0
    for was, row in zip(before, after, strict=True):
        if row["all/model/ndcg@3"] is None:
            continue
        u = np.array([users.index(row["user_id"])])
        queries, allowed = part.vectors[u], shop.sold & shop.has_vector
        ids, scores = top_k(queries, shop.vectors, len(allowed) if blended else 3, allowed=allowed)
        given: dict[str, Any] = {"queries": queries, "vectors": shop.vectors, "allowed": allowed}
        if shop.second is not None:
            given |= {"exclude": Csr.empty(1), "repurchase": shop.repurchase}
            ids = shop.second.ranked(ids, 3, history=history.take(u), **given).ids
        else:
            ids, _ = shop.repurchase.ranked(ids, scores, history=history.take(u), **given)
        later = {
            e["item_id"]
            for e in part.heldout.to_pylist()
            if e["user_id"] == row["user_id"] and e["item_id"] < len(shop.sold) and shop.sold[e["item_id"]]
        }
        truth = Csr(np.array([0, len(later)]), np.array(sorted(later), np.int32))
        expected = ranking_metrics(ids, truth, (3,))["ndcg@3"][0] if queries.any() else 0.0
        assert row["all/model/ndcg@3"] == expected
        changed += row["all/model/ndcg@3"] != was["all/model/ndcg@3"]
    assert changed
