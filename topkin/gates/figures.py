"""The figures of a version, from the folders of its finished stages: what gates hold against limits and each other."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.artifacts.embeddings import ITEMS, SUMMARY, USERS
from topkin.artifacts.runs import list_folder, list_names
from topkin.gates.samples import sample_vectors
from topkin.gates.spread import spread
from topkin.metrics.proportion import wilson
from topkin.recommend.lists import FEW_PURCHASES, NO_PURCHASES

LATELY = 28
"""Days of which purchases a day are counted: whole weeks, so that week-ends weigh alike."""
_DAY = np.timedelta64(1, "D")
Figures = dict[str, Any]


def of_purchases(folders: Mapping[str, str]) -> Figures:
    """The figures of a run over purchases, by stage; a stage without a folder leaves its own out.

    folders: those of prepare, embed, index and recommend are read.
    """
    figures: Figures = {}
    if "prepare" in folders:
        statistics = storage.read_json(storage.join(folders["prepare"], "statistics.json"))
        figures |= _of_statistics(statistics) | {"timed": statistics["times"] == "dates"}
        figures["counts"] |= {"purchases": statistics["events"]}
        figures |= _of_catalogue(folders["prepare"])
        if figures["timed"] and statistics["last_sale"]:
            as_of, last = np.datetime64(statistics["as_of"]), np.datetime64(statistics["last_sale"])
            figures["age"] = round(float((as_of - last) / _DAY), 3)
            figures |= {"as_of": statistics["as_of"], "first": statistics["first_sale"]}
        _add_events(figures, folders["prepare"], statistics)
    if "recommend" in folders:
        folder = folders["recommend"]
        figures["lists"] = _of_lists(storage.read_json(storage.join(folder, "lists.json")))
        for name in list_names(folder):
            summary = storage.read_json(storage.join(list_folder(folder, name), "lists.json"))
            figures.setdefault("other_lists", {})[name] = _of_lists(summary)
    return figures | of_vectors(folders)


def of_items(folders: Mapping[str, str]) -> Figures:
    """The figures of a run over items alone, likewise."""
    statistics = storage.read_json(storage.join(folders["prepare"], "statistics.json"))
    return _of_statistics(statistics) | of_vectors(folders)


def of_vectors(folders: Mapping[str, str]) -> Figures:
    """The spread and the number of coordinates of a run's vectors, and how much of exact search its index finds."""
    figures: Figures = {}
    if "embed" in folders:
        summary = storage.read_json(storage.join(folders["embed"], SUMMARY))
        figures["dim"] = summary["dim"]
        figures["blocks"] = [block["name"] for block in summary.get("blocks", ())]
        figures["vectors"] = {}
        for side in (ITEMS, USERS):
            drawn = spread(sample_vectors(storage.join(folders["embed"], side))) if summary.get(side) else None
            if drawn is not None:
                set_aside = summary.get(f"{side}_not_finite", 0) / summary[side]
                bad = round(max(drawn.not_finite, set_aside), 6)
                figures["vectors"][side] = {"vectors": drawn.vectors, "not_finite": bad, "rank": drawn.rank}
    if "index" in folders:
        measured = storage.read_json(storage.join(folders["index"], "index.json"))["recall"]
        ks = sorted(int(name.removeprefix("recall@")) for name in measured if name.startswith("recall@"))
        if ks and measured["queries"]:
            share = measured[f"recall@{ks[0]}"]
            low, high = wilson(share, measured["queries"])  # a query's hits come together: it is one trial
            figures["recall"] = {"k": ks[0], "share": share, "queries": measured["queries"], "low": low, "high": high}
    return figures


def _of_statistics(statistics: Mapping[str, Any]) -> Figures:
    """Rows, and rejects by reason as shares of an input's rows; users and items."""
    counts, rejected = {}, {}
    for name, source in statistics["sources"].items():
        if source:
            counts[f"rows of {name}"] = source["rows"]
            rows = source["rows"] + source.get("unnested", 0)
            rejected[name] = {reason: n / rows for reason, n in source["rejected"].items() if rows}
    counts |= {name: statistics[name] for name in ("users", "items") if name in statistics}
    return {"counts": counts, "rejected": rejected}


def _of_catalogue(prepared: str) -> Figures:
    """Shares of items available and described, the middle price, and purchases by category."""
    names = ["title", "category", "price", "available", "events"]
    catalogue = storage.read_parquet(storage.join(prepared, "catalogue.parquet"), names)
    n = max(len(catalogue), 1)
    shares = {"available items": (pc.sum(catalogue["available"]).as_py() or 0) / n}
    for name in ("title", "category", "price"):
        shares[f"items with a {name}"] = 1 - catalogue[name].null_count / n
    events = np.asarray(catalogue["events"])
    prices = np.asarray(pc.drop_null(catalogue["price"]))
    categories = catalogue.group_by("category").aggregate([("events", "sum")]).drop_null()
    return {
        "shares": shares,
        "price": float(np.median(prices)) if len(prices) else None,
        "categories": dict(zip(categories["category"].to_pylist(), categories["events_sum"].to_pylist(), strict=True)),
        "largest": {"item": float(events.max() / events.sum()) if events.sum() else 0.0},
    }


def _add_events(figures: Figures, prepared: str, statistics: Mapping[str, Any]) -> None:
    """Purchases a day lately, and the share of the largest user and day: a part of the purchases at a time."""
    folder, days, most = storage.join(prepared, "events"), Counter[int](), 0
    names = [name for name in storage.files(folder) if name.endswith(".parquet")]
    for name in names:
        events = storage.read_parquet(storage.join(folder, name), ["user_id", "timestamp"])
        if len(events):
            most = max(most, pc.max(pc.struct_field(events["user_id"].value_counts(), "counts")).as_py())
            day, n = np.unique(np.asarray(events["timestamp"]).astype("datetime64[D]").astype(int), return_counts=True)
            days.update(dict(zip(day.tolist(), n.tolist(), strict=True)))
    total = max(sum(days.values()), 1)
    figures["largest"]["user"] = most / total
    if figures["timed"] and days:
        end = int(np.datetime64(statistics["as_of"], "D").astype(int))
        lately = min(LATELY, end - min(days))
        figures["largest"]["day"] = max(days.values()) / total
        if lately > 0:
            figures["counts"]["purchases a day"] = sum(n for d, n in days.items() if d >= end - lately) / lately


def _of_lists(lists: Mapping[str, Any]) -> Figures:
    """What made the lists, how many there are, are short, and are ranked by the model."""
    fallback = dict(lists["fallback"])
    no_history = fallback.pop(NO_PURCHASES, 0) + fallback.pop(FEW_PURCHASES, 0)
    could, users = lists["users"] - no_history, max(lists["users"], 1)
    by_model = could - sum(fallback.values())
    return {
        "model": lists["model"],
        "bought": lists["bought"],
        "k": lists["k"],
        "users_with_list": lists["users_with_list"],
        "ranked": by_model,
        "by_model": by_model / could if could else None,
        "short": lists["short"] / users,
    }
