import pytest

from topkin.evaluation.promise import alarms, promise_of


def metrics(promised: float, interval: list[float], measured: list[float]) -> dict:
    held = {"intervals": {"novel": {"model": {"ndcg@20": measured}}}}
    return {**held, "validation": {"ndcg@20": promised, "epoch": 0, "interval": interval}}


def test_a_miss_by_more_than_both_intervals_is_an_alarm() -> None:
    judged = metrics(0.30, [0.26, 0.34], [0.21, 0.24, 0.27])  # .06 below, where the noise is .05
    judged["promise"] = promise_of(judged)
    assert judged["promise"]["missed"]
    (alarm,) = alarms(judged)
    assert "promised ndcg@20 0.3000 on new items (0.2600 to 0.3400)" in alarm
    assert "gives 0.2400 (0.2100 to 0.2700)" in alarm


@pytest.mark.parametrize("result", [[0.23, 0.26, 0.29], [0.37, 0.40, 0.43]])
def test_a_miss_within_the_noise_and_more_than_was_promised_are_none(result: list[float]) -> None:
    judged = metrics(0.30, [0.26, 0.34], result)
    judged["promise"] = promise_of(judged)
    assert judged["promise"] is not None
    assert not judged["promise"]["missed"]
    assert alarms(judged) == []


def test_without_a_validation_or_a_figure_nothing_was_promised() -> None:
    assert promise_of({**metrics(0.3, [0.2, 0.4], [0, 0, 0]), "validation": {}}) is None
    assert promise_of({**metrics(0.3, [0.2, 0.4], [0, 0, 0]), "intervals": {"all": {}, "novel": {}}}) is None
    assert alarms({"promise": None}) == []
