"""Which gate speaks up for what is wrong with a version; each case changes one thing of an honest night."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from tests.gates.conftest import Version, some_rows
from topkin.config.publish.settings import PublishSettings
from topkin.gates.figures import of_purchases
from topkin.gates.gate import NOT_ASKED, REFUSED, Gate
from topkin.gates.purchases import baselines, earlier_lists, gates

DEFAULTS = PublishSettings()
COMMON = {"unknown users": 0.01, "unknown items": 0.0, "lost": 0.0, "overlap": 0.8, "rank-biased overlap": 0.7}
COMMON |= {"alike": 0.2, "alike before": 0.2}


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a shop large enough that every gate is asked."""
    version = Version(
        some_rows(users=200), statistics={"sources": {"purchases": {"rows": 1100, "rejected": {"free": 50}}}}
    )
    return of_purchases(version.write(tmp_path_factory.mktemp("figures")))


def judged(exactly: float, best: float, high: float = 1.0, protocol: str = "novel") -> dict[str, Any]:
    """metrics.json of a model and two baselines over 40 users."""
    scores = {"model": exactly, "popularity": 0.1, "item_knn": best}
    by_metric = {name: {"ndcg@10": value} for name, value in scores.items()}
    return {
        "heldout": {"users": 40, "novel_users": 40},
        protocol: by_metric,
        "differences": {protocol: {n: {"ndcg@10": [-1, 0, high]} for n in ("popularity", "item_knn")}},
        "left_out": {"ials": "no library"},
    }


def earlier(ours: float, best: float, high: float, reason: str | None = None) -> dict[str, Any]:
    """hindsight.json of lists of two earlier nights, of which the younger cannot be judged."""
    few = {"reason": "nothing was bought since"}
    values = {
        name: [0.0, value, 1.0] for name, value in (("model", ours), ("popularity", 0.01), ("own_frequency", best))
    }
    differences = {"popularity": [0.0, 0.0, 1.0], "own_frequency": [-1.0, ours - best, high]}
    judged = {"reason": reason, "metric": "ndcg@10", "as_of": "2024-04-24T00:00:00"}
    return {"versions": [few, {**judged, "values": values, "differences": differences}]}


def asked(
    now: dict[str, Any], live: dict[str, Any], common: dict[str, Any] | None = None, **keys: Any
) -> dict[str, Gate]:
    settings = PublishSettings.model_validate(keys)
    common = COMMON if common is None else common
    verdict = list(gates(settings, now, live, common, judged(0.3, 0.2), earlier(0.3, 0.2, 0.0)))
    assert len({gate.name for gate in verdict}) == len(verdict)
    return {gate.name: gate for gate in verdict}


def refused(by_name: dict[str, Gate]) -> dict[str, str]:
    return {name: gate.key.removeprefix("publish.") for name, gate in by_name.items() if gate.verdict == REFUSED}


def test_a_night_like_the_one_before_passes_every_gate(figures: dict[str, Any]) -> None:
    verdict = asked(figures, figures)
    assert refused(verdict) == {}
    assert [name for name, gate in verdict.items() if gate.verdict == NOT_ASKED] == []


WRONG: list[tuple[str, str, str, Any]] = [
    ("rows of purchases", "max_drop", "counts/rows of purchases", 800),
    ("rows of purchases", "max_growth", "counts/rows of purchases", 2300),
    ("users", "max_drop", "counts/users", 5),
    ("items", "max_growth", "counts/items", 60),
    ("purchases", "max_drop", "counts/purchases", 10),
    ("purchases a day", "max_drop", "counts/purchases a day", 0.5),
    ("users ranked by the model", "max_drop", "lists/ranked", 100),
    ("lists by the model", "min_by_model", "lists/by_model", 0.7),
    ("users with a list", "min_users", "lists/users_with_list", 0),
    ("short lists", "max_short", "lists/short", 0.2),
    ("short lists mail", "max_short", "other_lists/mail/short", 0.2),
    ("rejects of purchases", "max_rejected", "rejected/purchases/returned", 0.06),
    ("age of the last purchase", "max_age", "age", 7.5),
    ("items with a title", "max_drop", "shares/items with a title", 0.1),
    ("purchases by category", "max_group_drop", "categories/tea", 400),
    ("middle price", "max_price_change", "price", 1000.0),
    ("middle price", "max_price_change", "price", 0.1),
    ("largest user", "max_concentration", "largest/user", 0.5),
    ("largest item", "max_concentration", "largest/item", 0.5),
    ("largest day", "max_concentration", "largest/day", 0.5),
    ("finite vectors of users", "max_not_finite", "vectors/users/not_finite", 0.01),
    ("spread of items' vectors", "min_spread", "vectors/items/rank", 2.0),
    ("length of vectors", "same_dim", "dim", 7),
    ("recall of the index", "min_recall", "recall/high", 0.89),
]


@pytest.mark.parametrize(("name", "key", "place", "value"), WRONG)
def test_what_is_wrong_is_refused_by_its_gate_alone(
    figures: dict[str, Any], name: str, key: str, place: str, value: Any
) -> None:
    now = deepcopy(figures)
    *path, last = place.split("/")
    at = now
    for step in path:
        at = at[step]
    at[last] = value
    verdict = asked(now, figures)
    assert refused(verdict) == {name: key}
    assert f"publish.{key}" in verdict[name].sentence
    off = asked(now, figures, **{key: 1 if key == "min_users" else False})
    assert key == "min_users" or refused(off) == {}


@pytest.mark.parametrize(
    ("name", "key", "part", "value"),
    [
        ("unknown users", "max_unknown", "unknown users", 0.4),
        ("unknown items", "max_unknown", "unknown items", 1.0),
        ("known purchases", "max_lost", "lost", 0.25),
        ("overlap", "min_overlap", "overlap", 0.1),
        ("rank-biased overlap", "min_overlap", "rank-biased overlap", 0.1),
        ("lists alike", "max_alike", "alike", 0.9),
    ],
)
def test_what_versions_lack_in_common_is_refused(
    figures: dict[str, Any], name: str, key: str, part: str, value: float
) -> None:
    common = {**COMMON, part: value}
    assert refused(asked(figures, figures, common)) == {name: key}
    assert refused(asked(figures, figures, common, **{key: False})) == {}


def test_a_first_version_has_the_limits_that_need_no_other(figures: dict[str, Any]) -> None:
    verdict = asked(figures, {}, {})
    assert refused(verdict) == {}
    names = {name for name, gate in verdict.items() if gate.verdict != NOT_ASKED}
    assert names == {
        "users with a list",
        "lists by the model",
        "age of the last purchase",
        "catalogue available",
        *(f"{what} of {side}" for side in ("items", "users") for what in ("finite vectors",)),
        *(f"spread of {side}' vectors" for side in ("items", "users")),
        "recall of the index",
        "above popularity",
        "best baseline",
        "hindsight",
    }
    assert {gate.sentence for gate in verdict.values() if gate.verdict == NOT_ASKED} == {"nothing is live"}


def test_vectors_that_are_all_one_are_refused_in_a_first_version(figures: dict[str, Any]) -> None:
    now = deepcopy(figures)
    now["vectors"]["users"]["rank"] = 1.0
    assert refused(asked(now, {}, {})) == {"spread of users' vectors": "min_spread"}


def test_lists_under_another_rule_are_not_compared(figures: dict[str, Any]) -> None:
    now = deepcopy(figures)
    now["lists"]["bought"] = "cooldown"
    verdict = asked(now, figures, {**COMMON, "overlap": 0.0, "alike": 1.0})
    assert verdict["overlap"].sentence == "recommend.bought is another"
    assert refused(verdict) == {}


def test_vectors_of_other_blocks_may_be_of_another_length(figures: dict[str, Any]) -> None:
    now = deepcopy(figures)
    now |= {"dim": 16, "blocks": ["svd", "trained"]}
    assert asked(now, figures)["length of vectors"].verdict == NOT_ASKED
    small = deepcopy(figures)
    small["counts"]["items"] = 12
    assert "fewer than two items" in asked({**small, "dim": 7}, small)["length of vectors"].sentence


def test_a_shop_with_few_purchases_may_swing(figures: dict[str, Any]) -> None:
    small = deepcopy(figures)
    small["counts"]["purchases"] = 60
    now = deepcopy(small)
    now["counts"]["purchases a day"], now["largest"]["user"] = 0.1, 0.9
    assert refused(asked(now, small)) == {}


def test_a_category_is_looked_at_where_it_was_large(figures: dict[str, Any]) -> None:
    live = deepcopy(figures)
    live["categories"] |= {"rare": 15, "new": 0}
    now = deepcopy(figures)
    now["categories"] |= {"solar": 500}
    assert refused(asked(now, live)) == {}


def test_purchases_without_times_have_no_age(figures: dict[str, Any]) -> None:
    now = {name: value for name, value in figures.items() if name != "age"}
    assert asked(now, figures)["age of the last purchase"].sentence == "the purchases have no times"


LISTS = {"bought": "exclude"}


def verdicts(
    settings: PublishSettings, metrics: dict[str, Any] | None, lists: dict[str, str] = LISTS
) -> dict[str, str]:
    return {gate.name: gate.verdict for gate in baselines(settings, metrics, lists)}


@pytest.mark.parametrize(("model", "verdict"), [(0.05, REFUSED), (0.1, REFUSED), (0.11, "passed")])
def test_the_model_must_beat_the_baselines_that_are_named(model: float, verdict: str) -> None:
    assert verdicts(DEFAULTS, judged(model, 0.01))["above popularity"] == verdict


def test_where_bought_items_may_be_listed_all_items_count() -> None:
    metrics = judged(0.05, 0.01, protocol="all")
    assert verdicts(DEFAULTS, metrics, {"bought": "keep"})["above popularity"] == REFUSED
    metrics["all"]["model"]["ndcg@10"] = 0.2
    assert verdicts(DEFAULTS, metrics, {"bought": "boost"})["above popularity"] == "passed"


def test_only_a_model_surely_far_below_the_best_baseline_is_refused() -> None:
    assert verdicts(DEFAULTS, judged(0.2, 0.5, high=-0.16))["best baseline"] == REFUSED
    assert verdicts(DEFAULTS, judged(0.2, 0.5, high=-0.14))["best baseline"] == "passed"
    assert "best baseline" not in verdicts(PublishSettings(max_behind=False), judged(0.2, 0.5))


def test_lists_of_an_earlier_night_surely_far_below_the_best_baseline_are_refused() -> None:
    [gate] = earlier_lists(DEFAULTS, earlier(0.2, 0.5, -0.16))
    assert gate.verdict == REFUSED
    assert gate.sentence == (
        "the ndcg@10 of the lists of 2024-04-24 on what was bought since is 0.2000, that of the best baseline, "
        "own_frequency, 0.5000; publish.max_behind allows 30 % below it"
    )
    [gate] = earlier_lists(DEFAULTS, earlier(0.2, 0.5, -0.14))
    assert gate.verdict == "passed"
    for nothing in (None, {"versions": []}, earlier(0.2, 0.5, -0.2, "too few")):
        [gate] = earlier_lists(DEFAULTS, nothing)
        assert (gate.verdict, gate.sentence) == (NOT_ASKED, "no lists of an earlier night were judged")
    assert list(earlier_lists(PublishSettings(max_behind=False), earlier(0.2, 0.5, -0.2))) == []


@pytest.mark.parametrize("users", [0, 9])
def test_too_few_held_out_users_judge_nothing(users: int) -> None:
    metrics = judged(0.0, 0.5) | {"heldout": {"users": 50, "novel_users": users}}
    assert set(verdicts(DEFAULTS, metrics).values()) == {NOT_ASKED}
    assert set(verdicts(DEFAULTS, None).values()) == {NOT_ASKED}


def test_a_baseline_that_made_the_lists_need_not_beat_itself() -> None:
    verdict = verdicts(
        PublishSettings(must_beat=("popularity", "item_knn")), judged(0.1, 0.1) | {"made_by": "popularity"}
    )
    assert "above popularity" not in verdict
    assert verdict["above item_knn"] == REFUSED


def test_a_baseline_that_was_not_measured_refuses() -> None:
    [gate, _] = baselines(PublishSettings(must_beat=("ials",)), judged(0.3, 0.1), LISTS)
    assert gate.sentence == "ials was not measured: no library (publish.must_beat)"
    nothing = judged(0.3, 0.1)
    nothing["differences"]["novel"] = {}
    assert verdicts(DEFAULTS, nothing)["best baseline"] == NOT_ASKED


def test_an_index_that_was_not_measured_is_said(figures: dict[str, Any]) -> None:
    now = {name: value for name, value in figures.items() if name != "recall"}
    assert asked(now, figures)["recall of the index"].sentence == "it was not measured"
    assert np.isclose(figures["recall"]["share"], 0.99)


def test_old_purchases_are_refused_with_the_date_that_would_do(figures: dict[str, Any]) -> None:
    sentence = (
        "the last purchase is 5,000 days before the as-of date; publish.max_age allows 7 days; --as-of DATE makes the "
        "lists of an earlier day"
    )
    gate = asked({**figures, "age": 5_000.0}, figures)["age of the last purchase"]
    assert (gate.verdict, gate.sentence) == (REFUSED, sentence)
    first = asked({**figures, "age": 5_000.0}, {})["age of the last purchase"]
    assert (first.verdict, first.sentence) == (NOT_ASKED, f"a first version may be of old purchases: {sentence}")
