"""What ``metrics.json`` says of a run that was judged on its last days, held out once more, or was not judged."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from topkin.evaluation.summary import NO_PURCHASES

NOT_YET = "nothing was bought after tonight's lists yet"


def judged_on_holdout(metrics: Mapping[str, Any], record: Mapping[str, Any], as_of: datetime) -> dict[str, Any]:
    """The metrics as of a cut as those of the run as of ``as_of``, with what stood in for its encoder.

    metrics: of ``summary.scoreboard``. record: what training kept, see ``models.training.holdout``. Days are counted
    from the cut to ``as_of``: a kept encoder is judged by what came since its own night, too.
    """
    days = (as_of - datetime.fromisoformat(record["cut"])) / timedelta(days=1)
    return {
        **metrics,
        "as_of": as_of.isoformat(),
        "split": "time",
        "judged": metrics["judged"] and "holdout",
        "holdout": {name: value for name, value in record.items() if name != "reason"} | {"days": days},
        "published": {**metrics["published"], "reason": NOT_YET},
    }


def not_held_out(nightly: str, why: str) -> str:
    """Why a run without purchases after its date is not judged. nightly: the key of that name. why: of training."""
    if nightly in ("off", "hindsight"):
        return f'{NO_PURCHASES}, and evaluate.nightly = "{nightly}" holds no days out once more'
    return f"{NO_PURCHASES}, and no days could be held out once more: {why}"


def nightly_notes(metrics: Mapping[str, Any]) -> list[str]:
    """What a person must know of a night's evaluation: that the last days judged, or why nothing did."""
    if metrics["judged"] == "holdout":
        held = metrics["holdout"]
        last = f"judged on the last {held['days']:.3g} days, held out once more"
        return [f"{last}, as of {held['night'][:10]}, when the encoder was trained" if "night" in held else last]
    reason = metrics["heldout"]["reason"]
    return [f"not judged: {reason}"] if reason else []
