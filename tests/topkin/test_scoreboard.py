import json
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest

from topkin.evaluation import COUNTS_KEY, LISTED, MODELS, result_schema
from topkin.scoreboard import MIN_USERS, Judgement, headline, nothing_held_out, scoreboard

AS_OF = datetime(2024, 6, 1)
KS = (5, 10)
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
    "users_without_vector": 0,
}


def part(values: dict[int, dict[str, float]], *, novel: bool = True, listed: list[tuple[str, str, int, int]] = ()):
    """users: id to values by model, the same for every metric; None for the protocols left out."""
    schema = result_schema(pa.int64(), KS, 0)
    columns = [list(values)]
    for name in schema.names[1:]:
        protocol, model, _ = name.split("/")
        columns.append([by[model] if protocol == "all" or novel else None for by in values.values()])
    counts = ZERO | {"events": 3, "from": "2024-06-01T10:00:00", "to": f"2024-06-{10 + len(values)}T00:00:00"}
    counts |= {"users": len(values), "pairs": 2 * len(values), "novel_users": len(values) * novel}
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
    rows = [dict(zip(LISTED.names, r, strict=True)) for r in listed]
    return table.replace_schema_metadata({COUNTS_KEY: json.dumps(counts)}), pa.Table.from_pylist(rows, schema=LISTED)


def board(*parts, bought: str = "exclude", ks=KS):
    return scoreboard(
        Judgement.of_parts(parts),
        as_of=AS_OF,
        ks=ks,
        listed=0,
        bought=bought,
        n_sold=4,
        n_items=5,
        resamples=200,
        seed=1,
    )


def users(n: int, first: int = 0, **values: float) -> dict[int, dict[str, float]]:
    return {first + u: {m: values.get(m, 0.25) + 0.001 * (u % 3) for m in MODELS} for u in range(n)}


def test_means_and_differences_are_those_of_all_users() -> None:
    made = board(part(users(20, model=0.5)), part(users(7, 20, model=0.4)))
    both = list(users(20, model=0.5).values()) + list(users(7, model=0.4).values())
    assert made["novel"]["model"]["recall@5"] == pytest.approx(np.mean([v["model"] for v in both]))
    low, mean, high = made["differences"]["novel"]["popularity"]["ndcg@10"]
    assert mean == pytest.approx(np.mean([v["model"] - v["popularity"] for v in both]))
    assert 0 < low < mean < high
    assert made["heldout"]["events"] == 6
    assert made["heldout"]["users"] == 27
    assert made["heldout"]["to"] == "2024-06-30T00:00:00"
    assert made["beats"] == dict.fromkeys(MODELS[1:], True)
    assert made["verdict"] == {"protocol": "novel", "metric": "ndcg@10", "good": True, "reason": None}


def test_the_split_into_parts_changes_no_digit() -> None:
    rng = np.random.default_rng(5)
    values = {u: {m: float(rng.random()) for m in MODELS} for u in range(40)}
    shuffled = list(values.items())
    rng.shuffle(shuffled)
    whole = board(part(values))
    split = board(part(dict(shuffled[:11])), part(dict(shuffled[11:])))
    for name in ("all", "novel", "differences", "intervals"):
        assert json.dumps(whole[name]) == json.dumps(split[name])


def test_a_model_that_is_below_one_baseline_is_not_good() -> None:
    made = board(part(users(30, model=0.5, item_knn=0.6)))
    assert made["beats"] == {m: m != "item_knn" for m in MODELS[1:]}
    assert made["verdict"]["good"] is False


def test_a_better_mean_with_an_interval_around_zero_beats_nothing() -> None:
    values = {u: {m: 0.5 + (0.4 * (-1) ** u + 0.01 if m == "model" else 0) for m in MODELS} for u in range(30)}
    made = board(part(values))
    assert made["differences"]["novel"]["popularity"]["ndcg@10"][1] == pytest.approx(0.01)
    assert not any(made["beats"].values())


@pytest.mark.parametrize("n", [1, MIN_USERS - 1])
def test_a_few_users_are_too_few_for_a_verdict(n: int) -> None:
    made = board(part(users(n, model=0.9)))
    assert made["verdict"]["good"] is None
    assert "too few" in made["verdict"]["reason"]
    assert not any(made["beats"].values())
    assert made["novel"]["model"]["recall@5"] > 0.8


def test_where_bought_items_are_kept_the_verdict_is_on_all_items() -> None:
    assert headline((5, 10, 20), "keep") == ("all", "ndcg@10")
    assert headline((5, 20, 50), "exclude") == ("novel", "ndcg@20")
    made = board(part(users(20, model=0.5), novel=False), bought="keep")
    assert made["verdict"]["good"] is True
    assert made["novel"] == {}


def test_without_novel_truth_the_verdict_is_open() -> None:
    made = board(part(users(20, model=0.5), novel=False))
    assert made["verdict"]["good"] is None
    assert made["differences"]["novel"] == {}


def test_coverage_counts_each_item_once_over_the_parts() -> None:
    rows = [("novel", "model", 0, 1), ("novel", "model", 1, 7)]
    more = [("novel", "model", 0, 9), ("novel", "model", 2, 4), ("all", "model", 3, 1)]
    made = board(part(users(10), listed=rows), part(users(10, 10), listed=more))
    assert made["coverage"]["novel"]["model"] == {"coverage@5": 0.5, "coverage@10": 0.75}
    assert made["coverage"]["all"]["model"] == {"coverage@5": 0.25, "coverage@10": 0.25}


def test_nothing_held_out_has_the_same_keys_as_something() -> None:
    made = board(part(users(20, model=0.5)))
    nothing = nothing_held_out(AS_OF, KS, "exclude", "a reason")
    assert nothing.keys() == made.keys()
    assert nothing["heldout"].keys() == made["heldout"].keys()
    assert nothing["published"].keys() == made["published"].keys()
    empty, listed = part({})
    counts = empty.replace_schema_metadata({COUNTS_KEY: json.dumps(ZERO)})
    unjudged = board((counts, listed))
    assert unjudged["heldout"]["reason"].startswith("the input has no purchases in the days")
    assert unjudged["verdict"]["good"] is None
