"""What the report says of a night that was judged on its last days, held out once more."""

from topkin.report.metrics_file import Metrics
from topkin.report.wording import day, plural


def lead(metrics: Metrics) -> str:
    """How the sentence of the verdict begins, up to the metric."""
    held = metrics.get("holdout")
    if not held:
        return "In"
    before = f" before {day(held['night'])}" if "night" in held else ""
    return f"On the last {_days(held['days'])}{before}, held out once more: in"


def stand_in(metrics: Metrics, *, later: int, made_by: str | None) -> list[str]:
    """What stood in for tonight's model, what weighed it and who judged it; empty where later purchases judged.

    later: purchases after the as-of date. made_by: the name of the baseline that is the model; None where none is.
    """
    held = metrics.get("holdout")
    if not held:
        return []
    some, days, cut = "Too little" if later else "Nothing", _days(held["days"]), day(held["cut"])
    text = [f"{some} was bought after the date of the run to judge by, so the last {days} were held out once more."]
    if "night" in held:
        text.append(f"That was on {day(held['night'])}, when the encoder was trained that is kept since.")
    seen = f"the purchases before {cut} alone"
    if made_by:
        text.append(f"{made_by}, which is the model, was fitted for it on {seen}, as the other baselines were.")
    else:
        text.append(
            f"In the place of tonight's encoder stands one of the same settings, made from {seen}, as the baselines "
            "are."
        )
        text += _weights(held["periods"], held["users"], held["as_set"], days)
    return [*text, f"In this section the date is {cut}, where the days held out begin."]


def _weights(periods: int, users: int, as_set: list[str], days: str) -> list[str]:
    """Who chose the weights of the blocks."""
    chosen = []
    if periods:
        of = "the weights of its computed blocks" if users or as_set else "its weights"
        chosen.append(f"{of} were chosen on the {plural(periods, 'period')} of {days} before that")
    if users:
        of = "those of its trained blocks were" if periods else "its weights were"
        chosen.append(f"{of} chosen by {plural(users, 'user')} of these days, who are not among those who judge")
    if as_set:
        chosen.append(
            f"too few users came to choose those of {' and '.join(as_set)}, which are as the settings have them"
        )
    sentence = "; ".join(chosen)
    return [f"{sentence[0].upper()}{sentence[1:]}."] if sentence else []


def _days(days: float) -> str:
    return "day" if days == 1 else f"{days:.3g} days"
