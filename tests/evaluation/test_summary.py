import json
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest

from topkin.evaluation import summary as module
from topkin.evaluation.protocol import COUNTS_KEY, FINE, TALLIES, JudgedUsers, listed_schema, result_schema
from topkin.evaluation.results import EvaluationContext, EvaluationResults
from topkin.evaluation.summary import headline, nothing_held_out, scoreboard
from topkin.metrics.bootstrap import MIN_USERS

AS_OF = datetime(2024, 6, 1)
KS = (5, 10)
MODELS = ("model", "popularity", "item_knn", "own_frequency")
ZERO = {
    "events": 0,
    "from": None,
    "to": None,
    "users_in_period": 0,
    "events_of_new_users": 0,
    "events_of_new_items": 0,
    "users": 0,
    "pairs": 0,
    "novel_users": 0,
    "novel_pairs": 0,
    "repeat_users": 0,
    "repeat_pairs": 0,
    "cold_users": 0,
    "cold_pairs": 0,
    "users_without_vector": 0,
}


def part(
    values: dict[int, dict[str, float]],
    *,
    novel: bool = True,
    cold: bool = False,
    purchases: dict[int, int] | None = None,
    listed: list[tuple[str, str, int, int, int]] = (),
    tallies: list[tuple[str, str, str, int, int, int]] = (),
) -> JudgedUsers:
    """users: id to values by model, the same for every metric; None for the truths left out."""
    schema = result_schema(pa.int64(), MODELS, KS, 0)
    columns = [list(values), [(purchases or {}).get(u, 1) for u in values]]
    has = {"all": True, "novel": novel, "repeat": False, "cold": cold, "among_cold": cold}
    for name in schema.names[2:]:
        truth, model, _ = name.split("/")
        columns.append([by[model] if has[truth] else None for by in values.values()])
    counts = ZERO | {"events": 3, "from": "2024-06-01T10:00:00", "to": f"2024-06-{10 + len(values)}T00:00:00"}
    counts |= {"users": len(values), "pairs": 2 * len(values), "novel_users": len(values) * novel}
    counts |= {"cold_users": len(values) * cold, "cold_pairs": 3 * len(values) * cold}
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
    lists, sums = listed_schema(KS), TALLIES
    return JudgedUsers(
        table.replace_schema_metadata({COUNTS_KEY: json.dumps(counts)}),
        pa.Table.from_pylist([dict(zip(lists.names, r, strict=True)) for r in listed], schema=lists),
        pa.Table.from_pylist([dict(zip(sums.names, r, strict=True)) for r in tallies], schema=sums),
    )


def board(*parts, bought: str = "exclude", ks=KS, models=MODELS, made_by: str = "encoder"):
    facts = EvaluationContext(
        as_of=AS_OF,
        ks=ks,
        models=models,
        made_by=made_by,
        left_out={"ials": "not here"},
        sales=np.array([8, 4, 2, 1, 0]),
        buyers=np.array([8, 4, 2, 1, 0]),
        cold=np.array([False, True, True, True, False]),
        deciles=np.array([9, 6, 4, 1, -1]),
        buying_users=16,
        quartiles=(1, 3, 9),
        listed=0,
        bought=bought,
    )
    return scoreboard(EvaluationResults.of_parts(parts), facts, resamples=200, seed=1)


def users(n: int, first: int = 0, **values: float) -> dict[int, dict[str, float]]:
    return {first + u: {m: values.get(m, 0.25) + 0.001 * (u % 3) for m in MODELS} for u in range(n)}


def test_means_and_differences_are_those_of_all_users() -> None:
    summary = board(part(users(20, model=0.5)), part(users(7, 20, model=0.4)))
    both = list(users(20, model=0.5).values()) + list(users(7, model=0.4).values())
    assert summary["novel"]["model"]["recall@5"] == pytest.approx(np.mean([v["model"] for v in both]))
    low, mean, high = summary["differences"]["novel"]["popularity"]["ndcg@10"]
    assert mean == pytest.approx(np.mean([v["model"] - v["popularity"] for v in both]))
    assert 0 < low < mean < high
    assert summary["heldout"]["events"] == 6
    assert summary["heldout"]["users"] == 27
    assert summary["heldout"]["to"] == "2024-06-30T00:00:00"
    assert summary["beats"] == dict.fromkeys(MODELS[1:], True)
    assert summary["verdict"] == {"protocol": "novel", "metric": "ndcg@10", "good": True, "reason": None}


def test_the_split_into_parts_changes_no_digit() -> None:
    rng = np.random.default_rng(5)
    values = {u: {m: float(rng.random()) for m in MODELS} for u in range(40)}
    shuffled = list(values.items())
    rng.shuffle(shuffled)
    whole = board(part(values))
    split = board(part(dict(shuffled[:11])), part(dict(shuffled[11:])))
    for name in ("all", "novel", "differences", "p", "intervals", "segments"):
        assert json.dumps(whole[name]) == json.dumps(split[name])


def test_a_model_that_is_below_one_baseline_is_not_good() -> None:
    summary = board(part(users(30, model=0.5, item_knn=0.6)))
    assert summary["beats"] == {m: m != "item_knn" for m in MODELS[1:]}
    assert summary["verdict"]["good"] is False


def test_a_better_mean_with_an_interval_around_zero_beats_nothing() -> None:
    values = {u: {m: 0.5 + (0.4 * (-1) ** u + 0.01 if m == "model" else 0) for m in MODELS} for u in range(30)}
    summary = board(part(values))
    assert summary["differences"]["novel"]["popularity"]["ndcg@10"][1] == pytest.approx(0.01)
    assert not any(summary["beats"].values())


@pytest.mark.parametrize("n", [1, MIN_USERS - 1])
def test_a_few_users_are_too_few_for_a_verdict(n: int) -> None:
    summary = board(part(users(n, model=0.9)))
    assert summary["verdict"]["good"] is None
    assert "too few" in summary["verdict"]["reason"]
    assert not any(summary["beats"].values())
    assert summary["novel"]["model"]["recall@5"] > 0.8


def test_where_bought_items_are_kept_the_verdict_is_on_all_items() -> None:
    assert headline((5, 10, 20), "keep") == ("all", "ndcg@10")
    assert headline((5, 20, 50), "exclude") == ("novel", "ndcg@20")
    summary = board(part(users(20, model=0.5), novel=False), bought="keep")
    assert summary["verdict"]["good"] is True
    assert summary["novel"] == {}


def test_without_novel_truth_the_verdict_is_open() -> None:
    summary = board(part(users(20, model=0.5), novel=False))
    assert summary["verdict"]["good"] is None
    assert summary["differences"]["novel"] == {}


def test_what_lists_hold_is_counted_over_the_parts() -> None:
    rows = [("novel", "model", 0, 2, 4), ("novel", "model", 1, 0, 1)]
    more = [("novel", "model", 0, 0, 1), ("novel", "model", 2, 1, 2), ("all", "model", 3, 1, 1)]
    some = [("novel", "model", "diversity", 5, FINE, 2), ("novel", "model", "decile 9", 5, 1, 3)]
    rest = [("novel", "model", "diversity", 5, FINE, 3), ("novel", "model", "decile 9", 5, 1, 5)]
    others = [("novel", m, "decile 9", 5, 0, 4) for m in MODELS[1:]]
    first = part(users(10), listed=rows, tallies=[*some, *others])
    summary = board(first, part(users(10, 10), listed=more, tallies=[*rest, *others]))
    assert summary["coverage"]["novel"]["model"] == {"coverage@5": 0.5, "coverage@10": 0.75}
    assert summary["coverage"]["all"]["model"] == {"coverage@5": 0.25, "coverage@10": 0.25}
    assert summary["coverage"]["all"]["popularity"] == {"coverage@5": 0.0, "coverage@10": 0.0}
    lists = summary["lists"]["novel"]["model"]
    assert lists["novelty@5"] == pytest.approx((2 * 1 + 1 * 3) / 3)  # items of 1/2 and 1/8 of the users
    assert lists["popularity@5"] == pytest.approx((2 / 2 + 1 / 8) / 3)
    assert lists["diversity@5"] == pytest.approx(2 / 5)
    assert lists["gini@5"] == pytest.approx(np.abs(np.subtract.outer([2, 0, 1, 0], [2, 0, 1, 0])).sum() / (2 * 4 * 3))
    assert summary["lists"]["novel"]["popularity"] == {}
    (decile,) = summary["segments"]["novel"]["decile"]
    assert decile["metrics"]["model"] == {"found@5": 0.25}
    assert (decile["name"], decile["items"], decile["from"], decile["to"], decile["pairs"]) == ("10", 1, 8, 8, 8)


def test_users_are_grouped_by_what_they_bought_before() -> None:
    values = {u: {m: (0.1 * u if m == "model" else 0.0) for m in MODELS} for u in range(8)}
    bought = {0: 1, 1: 2, 2: 3, 3: 4, 4: 5, 5: 9, 6: 10, 7: 90}
    summary = board(part(values, purchases=bought))["segments"]["all"]
    named = {e["name"]: e for e in (*summary["history"], *summary["activity"])}
    assert {n: (e["users"], e["from"], e["to"]) for n, e in named.items()} == {
        "cold": (4, 1, 4),
        "warm": (4, 5, 90),
        "1": (1, 1, 1),
        "2": (2, 2, 3),
        "3": (3, 4, 9),
        "4": (2, 10, 90),
    }
    assert named["cold"]["metrics"]["model"]["recall@5"] == pytest.approx(0.15)
    assert named["4"]["metrics"]["model"]["ndcg@10"] == pytest.approx(0.65)
    low, middle, high = named["warm"]["differences"]["popularity"]
    assert middle == pytest.approx(0.55)
    assert low < middle < high


def test_cold_items_are_told_apart_with_their_ratio_to_popularity() -> None:
    summary = board(part(users(12, model=0.6, popularity=0.3), cold=True))["cold_items"]
    assert (summary["items"], summary["users"], summary["pairs"]) == (3, 12, 36)
    assert summary["over_popularity"]["of_all"]["recall@10"] == pytest.approx(0.601 / 0.301)
    assert summary["differences"]["among_cold"]["popularity"]["ndcg@5"][0] > 0
    nobody = board(part(users(12, model=0.6) | {99: dict.fromkeys(MODELS, 0.0)}))
    assert nobody["cold_items"] == {}


def test_a_baseline_that_is_the_model_is_not_compared_with_itself() -> None:
    judged = part(users(30, model=0.5, popularity=0.5, item_knn=0.2, own_frequency=0.1), cold=True)
    summary, own = board(judged), board(judged, made_by="popularity")
    assert (summary["verdict"]["good"], own["verdict"]["good"]) == (False, True)
    assert own["beats"] == {"item_knn": True, "own_frequency": True}
    assert own["novel"] == summary["novel"]
    for truth in ("all", "novel"):
        for name in ("differences", "p"):
            expected = {m: v for m, v in summary[name][truth].items() if m != "popularity"}
            assert own[name][truth].keys() == expected.keys()
        (segment, before) = (b["segments"][truth]["history"][0] for b in (own, summary))
        assert segment["metrics"] == before["metrics"]
        assert list(segment["differences"]) == ["item_knn", "own_frequency"]
        assert segment["differences"]["item_knn"][1] == before["differences"]["item_knn"][1]
    assert set(own["cold_items"]["differences"]["of_all"]) == {"item_knn", "own_frequency"}
    few = board(part(users(3)), made_by="popularity")
    assert few["beats"] == {"item_knn": False, "own_frequency": False}
    alone = board(judged, models=("model", "popularity"), made_by="popularity")
    assert alone["verdict"]["good"] is None
    assert alone["verdict"]["reason"].startswith("no baseline beside popularity, which is the model, was measured")


def test_a_p_value_goes_with_its_interval() -> None:
    summary = board(part(users(30, model=0.5, item_knn=0.6)))
    assert summary["p"]["novel"]["popularity"]["ndcg@10"] == pytest.approx(2 / 201)
    assert summary["resamples"] == 200
    same = board(part(users(30)))
    assert same["p"]["novel"]["popularity"]["ndcg@10"] == 1


def assert_near(value, other) -> None:
    """The same keys, and the same values but for rounding: a product of other columns may round otherwise."""
    if isinstance(value, dict):
        assert list(value) == list(other)
        for key in value:
            assert_near(value[key], other[key])
    elif isinstance(value, list):
        assert len(value) == len(other)
        for one, two in zip(value, other, strict=True):
            assert_near(one, two)
    else:
        assert value == (pytest.approx(other, abs=1e-12) if isinstance(other, float) else other)


def test_a_few_columns_at_a_time_give_the_same_as_all(monkeypatch) -> None:
    rng = np.random.default_rng(5)
    judged = part({u: {m: float(rng.random()) for m in MODELS} for u in range(40)}, cold=True)
    whole = board(judged)
    monkeypatch.setattr(module, "BUDGET_BYTES", 1)
    alone = board(judged)
    for name in ("all", "novel", "cold_items", "segments"):
        assert_near(whole[name], alone[name])
    for model in MODELS[1:]:
        for metric, values in whole["differences"]["novel"][model].items():
            assert alone["differences"]["novel"][model][metric] == pytest.approx(values)


def test_nothing_held_out_has_the_same_keys_as_something() -> None:
    summary = board(part(users(20, model=0.5)))
    nothing = nothing_held_out(AS_OF, KS, "exclude", "a reason")
    assert nothing.keys() == summary.keys()
    assert nothing["heldout"].keys() == summary["heldout"].keys()
    assert nothing["published"].keys() == summary["published"].keys()
    empty = part({})
    unjudged = board(empty._replace(users=empty.users.replace_schema_metadata({COUNTS_KEY: json.dumps(ZERO)})))
    assert unjudged["heldout"]["reason"].startswith("the input has no purchases in the days")
    assert unjudged["verdict"]["good"] is None
