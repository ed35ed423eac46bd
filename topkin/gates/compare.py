"""What two versions have in common: ids, known purchases and lists of the same users."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.artifacts.partition import hash_rows
from topkin.gates.overlap import mean_overlap, overlap_at_k, rank_biased_overlap
from topkin.gates.samples import UserSample, lists_of, purchases_of

Folders = Mapping[str, str]


def common_of(
    now: Folders, live: Folders, figures: Mapping[str, Any], live_figures: Mapping[str, Any]
) -> dict[str, Any]:
    """Of two versions over purchases, as far as both have the stages: shares unknown and lost, and how alike lists are.

    now, live: folders by stage; figures, live_figures: what :func:`topkin.gates.figures.of_purchases` gives of them.
    """
    if "prepare" not in now or "prepare" not in live:
        return {}
    common: dict[str, Any] = {"unknown items": unknown_items(now, live)}
    users = max(figures["counts"]["users"], live_figures["counts"]["users"])
    sample = UserSample.of(users, _parts(now["prepare"]))
    timed = bool(figures["timed"] and live_figures["timed"])
    columns = ["user_id", "items", "times"]
    histories = [sample.rows(storage.join(of["prepare"], "histories"), columns) for of in (now, live)]
    common["unknown users"] = _unknown(histories[0]["user_id"], histories[1]["user_id"])
    since, until = figures.get("first"), min(figures.get("as_of", ""), live_figures.get("as_of", ""))
    common["lost"] = lost_purchases(*histories, timed=timed, since=since, until=until or None)
    if "recommend" in now and "recommend" in live:
        common |= _lists_in_common(now["recommend"], live["recommend"], sample, figures, live_figures)
    return common


def _parts(prepared: str) -> int:
    return max(1, sum(name.endswith(".parquet") for name in storage.files(storage.join(prepared, "histories"))))


def unknown_items(now: Folders, live: Folders) -> float | None:
    """The share of the items that the live catalogue lacks; None without any."""
    ids = [storage.read_parquet(storage.join(of["prepare"], "catalogue.parquet"), ["item_id"]) for of in (now, live)]
    return _unknown(ids[0]["item_id"], ids[1]["item_id"])


def _unknown(ids: pa.ChunkedArray, known: pa.ChunkedArray) -> float | None:
    """The share of some ids that are not among others; of another type none is."""
    if not len(ids):
        return None
    if ids.type != known.type:
        return 1.0
    return 1.0 - float(pc.mean(pc.is_in(ids, value_set=known.combine_chunks())).as_py())


def lost_purchases(
    now: pa.Table, live: pa.Table, *, timed: bool, since: str | None = None, until: str | None = None
) -> float | None:
    """The share of the live histories' purchases that are not in those now; None where there is none to look for.

    A purchase is a user, an item and, where both have times, a time; of several alike one is enough. Looked for are
    those from ``since`` on and before ``until``, ISO times. now, live: user_id, items, times of the same sample of
    users.
    """
    known = purchases_of(live, timed=timed)
    if timed:
        for edge, inside in ((since, pc.greater_equal), (until, pc.less)):
            if edge is not None:
                known = known.filter(inside(known["time"], pa.scalar(np.datetime64(edge, "us"), known["time"].type)))
    if not len(known):
        return None
    there = np.unique(hash_rows(purchases_of(now, timed=timed)))
    return float(1 - np.isin(np.unique(hash_rows(known)), there).mean())


def _lists_in_common(
    now: str, live: str, sample: UserSample, figures: Mapping[str, Any], live_figures: Mapping[str, Any]
) -> dict[str, Any]:
    """Overlap at k and rank-biased overlap of the same users' lists, and how alike the lists of each version are."""
    columns = ["user_id", "rank", "item_id"]
    ranked = [sample.rows(storage.join(folder, "recommendations"), columns) for folder in (now, live)]
    if ranked[0].schema.types != ranked[1].schema.types:
        return {"overlap": 0.0, "rank-biased overlap": 0.0}
    k = min(figures["lists"]["k"], live_figures["lists"]["k"])
    items = pc.unique(pa.chunked_array([*ranked[0]["item_id"].chunks, *ranked[1]["item_id"].chunks]))
    users = [pc.unique(table["user_id"]) for table in ranked]
    alike = [mean_overlap(lists_of(table, own, items, k)) for table, own in zip(ranked, users, strict=True)]
    both = users[0].filter(pc.is_in(users[0], value_set=users[1]))
    common: dict[str, Any] = {"alike": round(alike[0], 6), "alike before": round(alike[1], 6), "users": len(both)}
    if len(both):
        new, old = (lists_of(table, both, items, k) for table in ranked)
        common["overlap"] = round(float(np.mean(overlap_at_k(new, old))), 6)
        common["rank-biased overlap"] = round(float(np.mean(rank_biased_overlap(new, old))), 6)
    return common
