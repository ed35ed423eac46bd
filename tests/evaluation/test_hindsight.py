"""Lists of an earlier night against plain loops, and against the evaluation as of that night."""

import math
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts import schemas
from topkin.artifacts.partition import split_by_partition
from topkin.baselines.fitted import best_of, fit_baselines
from topkin.evaluation.hindsight import (
    BASELINES,
    METRICS,
    MODELS,
    TRUTHS,
    PastLists,
    baseline_lists,
    buyers_before,
    compare,
    judge_part,
    known_before,
    without,
)
from topkin.evaluation.protocol import EvaluationCatalogue, EvaluationPart, JudgedUsers, evaluate_part
from topkin.evaluation.results import EvaluationResults
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.metrics.bootstrap import paired_bootstrap

DATE, NIGHT = datetime(2024, 6, 1), datetime(2024, 6, 8)
KS = (1, 3)
LISTS = PastLists(days=7, version="2024-06-01-a", as_of=DATE, k=4, bought="keep", model="encoder")
IDS = pa.array([f"i{n:02d}" for n in range(15)])
Bought = dict[str, list[tuple[datetime, str]]]
schema = schemas.histories(pa.string(), pa.string())


def histories_of(bought: Bought) -> pa.Table:
    rows = [
        {"user_id": u, "items": [i for _, i in b], "times": [t for t, _ in b], "weights": [1.0] * len(b)}
        for u, b in sorted(bought.items())
    ]
    return pa.Table.from_pylist(rows, schema)


def random_shop(seed: int) -> tuple[Bought, dict[str, list[str]]]:
    """Purchases around DATE, many of one moment and some at DATE itself, and lists of some users."""
    rng = np.random.default_rng(seed)
    bought: Bought = {}
    for u in range(40):
        hours = rng.choice([-300, -48, -48, -1, 0, 0, 3, 100], rng.integers(0, 9))
        bought[f"u{u:02d}"] = sorted(
            (DATE + timedelta(hours=int(h)), IDS[int(rng.integers(13))].as_py()) for h in hours
        )
    users = [*list(bought)[:-4], "gone"]
    ids = [*IDS.to_pylist(), "no longer sold"]
    lists = {u: [ids[i] for i in rng.permutation(len(ids))[: rng.integers(1, 5)]] for u in users}
    return bought, lists


def recommendations_of(lists: dict[str, list[str]]) -> pa.Table:
    rows = [{"user_id": u, "rank": r + 1, "item_id": i} for u, items in lists.items() for r, i in enumerate(items)]
    return pa.Table.from_pylist(rows, pa.schema({"user_id": pa.string(), "rank": pa.int32(), "item_id": pa.string()}))


def metrics_of(listed: list[str], true: set[str]) -> dict[str, float]:
    values = {}
    for k in KS:
        hits = [i in true for i in listed[:k]]
        ideal = sum(1 / math.log2(r + 2) for r in range(min(k, len(true))))
        precise = [sum(hits[: r + 1]) / (r + 1) for r, hit in enumerate(hits) if hit]
        values[f"hit_rate@{k}"] = float(any(hits))
        values[f"recall@{k}"] = sum(hits) / len(true)
        values[f"ndcg@{k}"] = sum(1 / math.log2(r + 2) for r, hit in enumerate(hits) if hit) / ideal
        values[f"map@{k}"] = sum(precise) / min(k, len(true))
    return values


def by_loops(bought: Bought, lists: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    """Each judged user's values by column, from the definitions."""
    before = {u: [(t, i) for t, i in b if t < DATE] for u, b in bought.items()}
    buyers = Counter(i for b in before.values() for i in {i for _, i in b})
    popular = sorted(buyers, key=lambda i: (-buyers[i], i))
    values: dict[str, dict[str, float]] = {}
    for user, known in before.items():
        since = {i for t, i in bought[user] if t >= DATE} & set(buyers)
        if not known or not since:
            continue
        mine = {i for _, i in known}
        times = Counter(i for _, i in set(known))  # lines of one moment are one time
        own = sorted(buyers, key=lambda i, times=times: (-times[i], -buyers[i], i))
        given = lists.get(user, [])
        ranked = {"model": given, "popularity": popular, "own_frequency": own}
        truths = {"all": since, "novel": since - mine, "repeat": since & mine}
        values[user] = {}
        for truth, true in truths.items():
            for model, listed in ranked.items() if true else ():
                some = [i for i in listed if i not in mine] if truth == "novel" else listed
                values[user] |= {f"{truth}/{model}/{name}": v for name, v in metrics_of(some, true).items()}
    return values


def judged(bought: Bought, lists: dict[str, list[str]], **options: Any) -> pa.Table:
    histories = histories_of(bought)
    buyers = buyers_before(histories, IDS, DATE)
    return judge_part(LISTS, histories, recommendations_of(lists), item_ids=IDS, buyers=buyers, ks=KS, **options)


@pytest.mark.parametrize("seed", range(4))
def test_every_user_has_the_values_of_plain_loops(seed: int) -> None:
    bought, lists = random_shop(seed)
    expected = by_loops(bought, lists)
    rows = {row.pop("user_id"): row for row in judged(bought, lists).to_pylist()}
    assert set(rows) == set(expected)
    for user, row in rows.items():
        assert {name: v for name, v in row.items() if v is not None} == pytest.approx(expected[user]), user
    assert {name for row in expected.values() for name in row} == {
        f"{t}/{m}/{metric}@{k}" for t in TRUTHS for m in MODELS for metric in METRICS for k in KS
    }
    assert judged(bought, lists, budget_bytes=1).equals(judged(bought, lists))


@pytest.mark.parametrize("k", [1, 4, 30])
def test_the_lists_of_the_baselines_are_those_of_the_fitted_ones(k: int) -> None:
    history = Interactions.from_histories(known_before(histories_of(random_shop(9)[0]), DATE), IDS, DATE)
    buyers = np.bincount(history.distinct().items, minlength=len(IDS))
    lists = baseline_lists(history, buyers, k, budget_bytes=900)
    for name, baseline in fit_baselines(history, BASELINES, 1).items():
        of_all = best_of(baseline, history, k, allowed=buyers > 0)[0]
        new = best_of(baseline, history, k, allowed=buyers > 0, exclude=history.pattern)[0]
        assert lists[name][0].tolist() == of_all.tolist()
        assert lists[name][1].tolist() == new.tolist()


def results_of(bought: Bought, lists: dict[str, list[str]], parts: int) -> EvaluationResults:
    """As the job does: buyers are added up over the parts, then each part is judged."""
    histories = split_by_partition(histories_of(bought), "user_id", parts)
    given = split_by_partition(recommendations_of(lists), "user_id", parts)
    none = recommendations_of({})
    buyers = sum(buyers_before(table, IDS, DATE) for table in histories.values())
    tables = [
        judge_part(LISTS, table, given.get(part, none), item_ids=IDS, buyers=np.asarray(buyers), ks=KS)
        for part, table in sorted(histories.items())
    ]
    empty = pa.table({})
    return EvaluationResults.of_parts([JudgedUsers(table, empty, empty) for table in tables])


@pytest.mark.parametrize("seed", range(2))
def test_a_night_is_the_same_however_users_are_split(seed: int) -> None:
    shop = random_shop(seed)
    one, many = (compare(results_of(*shop, parts), LISTS, NIGHT, KS, resamples=30, seed=1) for parts in (1, 7))
    assert one.equals(many)
    assert one.schema.equals(schemas.HINDSIGHT)
    assert len(one) == len(TRUTHS) * len(MODELS) * len(METRICS) * len(KS)


def test_values_are_means_and_differences_are_paired() -> None:
    bought, lists = random_shop(5)
    results = results_of(bought, lists, 3)
    rows = {(r["truth"], r["model"], r["metric"]): r for r in compare(
        results, LISTS, NIGHT, KS, resamples=40, seed=3).to_pylist()}  # fmt: skip
    users = by_loops(bought, lists)
    for truth in TRUTHS:
        of = {m: [row[f"{truth}/{m}/ndcg@3"] for _, row in sorted(users.items()) if f"{truth}/{m}/ndcg@3" in row]
              for m in MODELS}  # fmt: skip
        for model, values in of.items():
            row = rows[truth, model, "ndcg@3"]
            assert row["users"] == len(values)
            assert row["value"] == pytest.approx(np.mean(values))
            assert row["low"] <= row["value"] <= row["high"]
            apart = row["difference_low"], row["difference"], row["difference_high"]
            if model == "model":
                assert apart == (None, None, None)
            else:
                expected = paired_bootstrap(np.array(of["model"]), np.array(values), 40, 3)
                assert apart == pytest.approx(expected, abs=1e-12)
    assert {(r["night"], r["as_of"], r["days"], r["version"]) for r in rows.values()} == {
        (NIGHT, DATE, 7, "2024-06-01-a")
    }


@pytest.mark.parametrize("seed", range(3))
def test_the_baselines_are_those_of_the_evaluation_as_of_that_night(seed: int) -> None:
    """What the evaluation of that date would have said, had it held out what was bought since."""
    bought, lists = random_shop(seed)
    histories = histories_of({u: [p for p in b if p[0] < DATE] for u, b in bought.items()})
    later = [{"user_id": u, "item_id": i, "timestamp": t} for u, b in bought.items() for t, i in b if t >= DATE]
    history = Interactions.from_histories(histories, IDS, DATE)
    zeros = np.zeros((len(IDS), 2), np.float32)
    shop = EvaluationCatalogue(
        item_ids=IDS,
        sales=np.bincount(history.items, minlength=len(IDS)),
        cold=np.zeros(len(IDS), bool),
        vectors=zeros,
        preferences=zeros.__getitem__,
        baselines=fit_baselines(history, BASELINES, 10),
        as_of=DATE,
        ks=KS,
        cooldown=np.zeros(len(IDS), np.float32),
    )
    held = pa.Table.from_pylist(
        later, pa.schema({"user_id": pa.string(), "item_id": pa.string(), "timestamp": schemas.TIME})
    )
    part = EvaluationPart(
        histories=histories,
        vectors=np.zeros((len(histories), 2), np.float32),
        heldout=held,
        recommendations=recommendations_of({}),
    )
    evaluated, result = evaluate_part(shop, part).users, judged(bought, lists)
    evaluated = evaluated.filter(pc.is_valid(evaluated["all/popularity/recall@1"]))  # others had not bought before
    assert result["user_id"].to_pylist() == evaluated["user_id"].to_pylist()
    for truth in TRUTHS:
        for model in BASELINES:
            for metric in ("recall@1", "recall@3", "ndcg@3"):
                name = f"{truth}/{model}/{metric}"
                assert result[name].to_pylist() == evaluated[name].to_pylist(), name


times = st.integers(-3, 3).map(lambda h: DATE + timedelta(hours=h))
shops = st.dictionaries(
    st.sampled_from("abcdef"), st.lists(st.tuples(times, st.sampled_from(IDS.to_pylist())), max_size=5).map(sorted)
)


@given(shops)
def test_histories_of_a_date_hold_what_came_before_it_and_every_user(bought: Bought) -> None:
    result = known_before(histories_of(bought), DATE)
    expected = histories_of({u: [p for p in b if p[0] < DATE] for u, b in bought.items()})
    assert result.equals(expected.select(result.column_names))


def test_lists_without_bought_items_move_up_and_keep_the_places_of_items_that_are_gone() -> None:
    ids = np.array([[4, -1, 2, 7], [1, 2, 3, -1], [5, 6, -1, -1]], np.int32)
    bought = Csr.of_pairs(np.array([0, 0, 1, 1, 1]), np.array([4, 7, 1, 2, 3]), 3, 9)
    assert without(ids, bought).tolist() == [[-1, 2, -1, -1], [-1, -1, -1, -1], [5, 6, -1, -1]]


def test_lists_are_judged_as_far_as_they_go_and_not_against_what_made_them() -> None:
    assert LISTS.ks((1, 4, 10)) == (1, 4)
    assert LISTS.ks((5, 10)) == (4,)
    assert LISTS.rivals == BASELINES
    by_itself = PastLists(days=1, version="v", as_of=DATE, k=4, bought="keep", model="popularity")
    rows = compare(results_of(*random_shop(1), 2), by_itself, NIGHT, KS, resamples=5, seed=0).to_pylist()
    assert {r["model"] for r in rows if r["difference"] is not None} == {"own_frequency"}


def test_ids_of_another_type_are_refused() -> None:
    other = pa.table({"user_id": pa.array([1]), "rank": pa.array([1], pa.int32()), "item_id": pa.array([1])})
    histories = histories_of(random_shop(0)[0])
    with pytest.raises(TypeError, match="vocabulary's type"):
        judge_part(LISTS, histories, other, item_ids=IDS, buyers=buyers_before(histories, IDS, DATE), ks=KS)


def test_a_night_on_which_nobody_came_back_has_no_rows() -> None:
    bought = {u: [p for p in b if p[0] < DATE] for u, b in random_shop(0)[0].items()}
    results = results_of(bought, {}, 2)
    assert results.counts["purchases"] == results.counts["all_users"] == 0
    assert len(compare(results, LISTS, NIGHT, KS, resamples=5, seed=0)) == 0
