from datetime import datetime, timedelta
from typing import Any

import pytest

from topkin.errors import ConfigError, InputError
from topkin.evaluation.backtest import gather, periods, spaced_cuts, table
from topkin.evaluation.summary import nothing_held_out

CUTS = [datetime(2024, 3, 1), datetime(2024, 4, 1), datetime(2024, 5, 1)]
BASELINES = ("popularity", "item_knn")


def metrics(cut: datetime, *, low: dict[str, float], users: int = 50) -> dict[str, Any]:
    """Of one cut: the model at .3, the baselines at .2, and the lower ends of the differences' intervals."""
    measured = nothing_held_out(cut, (10,), "exclude", "")
    names = ("ndcg@10", "recall@10")
    measured["heldout"] |= {"users": users, "novel_users": users, "reason": None}
    measured["models"] = ["model", *BASELINES]
    for protocol in ("all", "novel"):
        measured[protocol] = {m: dict.fromkeys(names, 0.3 if m == "model" else 0.2) for m in measured["models"]}
        measured["differences"][protocol] = {b: {n: [low[b], 0.1, 0.2] for n in names} for b in BASELINES}
        measured["p"][protocol] = {b: dict.fromkeys(names, 0.01) for b in BASELINES}
    cold = {m: {"recall@10": 0.04 if m == "model" else 0.01} for m in measured["models"]}
    ratio = {"of_all": {"recall@10": 4.0}, "among_cold": {"recall@10": None}}
    measured["cold_items"] = {"of_all": cold, "among_cold": cold, "over_popularity": ratio}
    return measured


def three(**options: Any) -> dict[str, Any]:
    lows = [{"popularity": 0.05, "item_knn": 0.05}, {"popularity": 0.05, "item_knn": -0.01}]
    lows.append({"popularity": 0.0, "item_knn": 0.05})  # an interval that begins at zero is not above it
    return gather([(f"run-{c.month}", 30.0, metrics(c, low=low, **options)) for c, low in zip(CUTS, lows, strict=True)])


def test_a_cut_counts_only_where_every_interval_lies_above_zero() -> None:
    above = three()["above"]["novel"]["ndcg@10"]
    assert (above["every_baseline"], above["cuts"]) == (1, 3)
    assert above["baselines"] == {"popularity": 2, "item_knn": 2}
    assert above["mean_difference"] == pytest.approx({"popularity": 0.1, "item_knn": 0.1})


def test_a_cut_with_too_few_users_is_none_above() -> None:
    above = three(users=9)["above"]["novel"]["ndcg@10"]
    assert (above["every_baseline"], above["cuts"], above["baselines"]) == (0, 3, {})


def test_the_table_has_a_column_for_each_cut_and_says_how_many_are_above() -> None:
    text = table(three())
    assert "ndcg@10, items new to the user: above every baseline with interval above zero: 1 of 3 cuts" in text
    lines = text.splitlines()
    head = next(line for line in lines if line.startswith("ndcg@10, items new"))
    assert head.split()[-4:] == ["2024-03-01", "2024-04-01", "2024-05-01", "mean"]
    row = next(line for line in lines if line.startswith("model  "))
    assert row.split() == ["model", "0.3000", "0.3000", "0.3000", "0.3000"]
    apart = next(line for line in lines if line.startswith("item_knn") and "[" in line)
    assert apart.count("[") == 3
    assert "+0.1000 [-0.0100, +0.2000] (0.010)" in apart
    assert [line.split()[-3:] for line in lines if line.startswith("model over popularity")] == [
        ["x", "4.0", "x"],
        ["-", "-", "-"],
    ]


def test_a_cut_that_judges_nobody_is_refused() -> None:
    nothing = nothing_held_out(CUTS[0], (10,), "exclude", "nothing was bought")
    with pytest.raises(InputError, match=r"2024-03-01.*nothing was bought; choose other --cuts"):
        gather([("run", None, nothing)])


def test_each_period_ends_at_the_next_cut() -> None:
    assert periods(CUTS, None, None) == [31.0, 30.0, None]
    assert periods(CUTS, None, datetime(2024, 5, 11)) == [31.0, 30.0, 10.0]
    assert periods(CUTS, 7.0, None) == [7.0] * 3
    for wrong, end in ((CUTS[::-1], None), (CUTS, CUTS[-1]), ([CUTS[0]] * 2, None)):
        with pytest.raises(ConfigError, match="ascending"):
            periods(wrong, None, end)
    with pytest.raises(ConfigError, match="at least one"):
        periods([], None, None)


def test_spaced_cuts_leave_a_whole_period_at_the_end() -> None:
    cuts = spaced_cuts(3, timedelta(days=28), datetime(2024, 5, 1))
    assert cuts == [datetime(2024, 2, 7), datetime(2024, 3, 6), datetime(2024, 4, 3)]
    assert periods(cuts, None, datetime(2024, 5, 1)) == [28.0] * 3
