"""One table for all benchmarks: the model, the baselines, and what was published on the very same data."""

import json
from collections.abc import Mapping
from typing import Any

from topkin.baselines.registry import BASELINES


def table(result: Mapping[str, Any]) -> list[list[str]]:
    """The model among baselines and published models, the best by the last metric first, below the columns' names.

    result: ``metrics`` by model, the first named ``model``; ``differences`` of the model to each baseline,
    [low, mean, high] by metric; ``shown``, the metrics that are columns; ``published``, None or figures by model of
    some ``metrics``, whose last one then counts.
    """
    shown, ours = result["shown"], f"topkin {result['preset']}, {result['dim']} dims"
    published = result["published"] or {"metrics": shown, "figures": {}}
    by = published["metrics"][-1]
    rows: dict[str, tuple[dict[str, float], str]] = {}
    for model, values in result["metrics"].items():
        if model == "model":
            rows[ours] = values, ""
        else:
            apart = result["differences"][model][by]
            rows[BASELINES[model].label] = values, "{1:+.4f} ({0:+.4f} to {2:+.4f})".format(*apart)
    for model, figures in published["figures"].items():
        rows[f"{model}, published"] = dict(zip(published["metrics"], figures, strict=True)), ""
    lines = [["", *shown, f"topkin above by {by}, 95 %"]]
    for name, (values, note) in sorted(rows.items(), key=lambda row: -row[1][0][by]):
        cells = [f"{values[metric]:.4f}" if metric in values else "" for metric in shown]
        lines.append([f"{'> ' if name == ours else '  '}{name}", *cells, note])
    return lines


def below(result: Mapping[str, Any]) -> list[str]:
    """The lines below the table: on what it was measured, and at what cost."""
    lines = [f"{result['users']:,} users, {result['items']:,} items; {result['rule']}"]
    lines += [f"not measured: {name}, {why}" for name, why in result["not_measured"].items()]
    lines += result["notes"]
    took = f"{result['seconds']} s from files to encoder" if result["seconds"] else "the encoder as it was made before"
    lines.append(f"{took}, {result['peak_mb']} MB at most, seed {result['seed']}")
    if "index" in result:
        lines.append(f"index against exact search: {json.dumps(result['index'])}")
    return lines


def ranked_by(weights: Mapping[str, float]) -> str:
    """The line that says which sources rank beside the encoder; empty where none does."""
    parts = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
    return f"ranked by a second stage: {parts}" if parts else ""
