"""What changed from the version that was live to tonight's, as ``changes.json`` holds it. No user is named."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.artifacts.partition import hash_ids
from topkin.report.browse.names import Titles

FILE = "changes.json"
MOST = 5
"""Items that are named."""
Folders = Mapping[str, str]


def changes(now: Folders, live: Folders, judged: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of a run beside the live one; None where nothing is live.

    Args:
        now: The folders of prepare and, of a run over purchases, recommend.
        live: Those of the live version.
        judged: The content of ``gates.json``: ``figures``, ``live`` and ``common``.

    Returns:
        ``since``, the live version's date; ``counts``, [name, before, now]; ``rejects``, [input, reason, share before,
        share now]; ``items``, how many are new and gone and some of them by title. Of a run over purchases ``lists``,
        how alike the first ``k`` of those of the same users are; ``users``, how many are new and gone; ``climbers``,
        ``fallers``, ``entering``, ``leaving``: how many items are in more lists, in fewer, in lists now only and before
        only, and those that moved most as [title, lists before, lists now].
    """
    if not judged["live"] or "prepare" not in live:
        return None
    before, after, common = judged["live"], judged["figures"], judged["common"]
    catalogues = [_catalogue(of["prepare"]) for of in (live, now)]
    content: dict[str, Any] = {
        "since": storage.read_json(storage.join(live["prepare"], "statistics.json")).get("as_of"),
        "counts": _counts(before["counts"], after["counts"]),
        "rejects": _rejects(before["rejected"], after["rejected"]),
    }
    if "lists" in before and "lists" in after:
        content["lists"] = {name: common.get(name) for name in ("overlap", "rank-biased overlap", "users")}
        content["lists"]["k"] = min(before["lists"]["k"], after["lists"]["k"])
    if catalogues[0]["item_id"].type != catalogues[1]["item_id"].type:
        return content
    content["items"] = _items(*catalogues)
    if "lists" not in content:
        return content
    users = [_user_hashes(of["prepare"]) for of in (live, now)]
    content["users"] = {"new": len(np.setdiff1d(users[1], users[0])), "gone": len(np.setdiff1d(users[0], users[1]))}
    return content | movers(listed(live["recommend"]), listed(now["recommend"]), catalogues)


def _catalogue(prepared: str) -> pa.Table:
    path = storage.join(prepared, "catalogue.parquet")
    with storage.open_parquet(path) as file:
        there = file.schema_arrow.names
    return storage.read_parquet(path, [name for name in ("item_id", "title", "events") if name in there])


def _counts(before: Mapping[str, float], now: Mapping[str, float]) -> list[list[Any]]:
    """Each count in the order of tonight's, those that only one has with None."""
    names = [*now, *(name for name in before if name not in now)]
    return [[name, before.get(name), now.get(name)] for name in names]


def _rejects(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[list[Any]]:
    """Each reason of either, as shares of the input's rows; those that changed most first."""
    rows = [
        [source, reason, before.get(source, {}).get(reason, 0.0), now.get(source, {}).get(reason, 0.0)]
        for source in dict.fromkeys([*now, *before])
        for reason in dict.fromkeys([*now.get(source, {}), *before.get(source, {})])
    ]
    return sorted(rows, key=lambda row: (-abs(row[3] - row[2]), row[0], row[1]))


def _user_hashes(prepared: str) -> np.ndarray:
    folder = storage.join(prepared, "histories")
    return np.concatenate(
        [hash_ids(storage.read_parquet(p, ["user_id"])["user_id"]) for p in storage.parquet_files(folder)]
    )


def _items(before: pa.Table, now: pa.Table) -> dict[str, Any]:
    """How many items of the catalogue are new and gone, and those of them that are sold most, by title."""
    sides: dict[str, Any] = {}
    for name, own, other in (("new", now, before), ("gone", before, now)):
        alone = own.filter(pc.invert(pc.is_in(own["item_id"], value_set=other["item_id"].combine_chunks())))
        sold = np.asarray(alone["events"]) if "events" in alone.column_names else np.zeros(len(alone))
        order = np.argsort(-sold, kind="stable")[:MOST]
        titles = Titles(alone)
        sides[name] = {"items": len(alone), "most": [titles[row] for row in order]}
    return sides


def listed(recommended: str) -> pa.Table:
    """In how many lists each item is: item_id, lists; a part of the lists is read at a time."""
    folder = storage.join(recommended, "recommendations")
    parts = []
    for path in storage.parquet_files(folder):
        counts = storage.read_parquet(path, ["item_id"])["item_id"].value_counts()
        parts.append(pa.table({"item_id": counts.field("values"), "lists": counts.field("counts")}))
    return (
        pa.concat_tables(parts).group_by("item_id").aggregate([("lists", "sum")]).rename_columns(["item_id", "lists"])
    )


def movers(before: pa.Table, now: pa.Table, catalogues: Sequence[pa.Table]) -> dict[str, Any]:
    """The items in more and in fewer lists than before, in lists now only and before only; see :func:`changes`.

    before, now: as of :func:`listed`. catalogues: before and now, for titles.
    """
    ids = pc.unique(pa.concat_arrays([table["item_id"].combine_chunks() for table in (now, before)]))
    was, there = (_aligned(table, ids) for table in (before, now))
    names = [Titles(catalogue) for catalogue in catalogues]
    order = np.asarray(pc.rank(ids))  # of as many lists, by id
    moved = there - was
    sides = {
        "climbers": ((was > 0) & (moved > 0), -moved),
        "fallers": ((there > 0) & (moved < 0), moved),
        "entering": ((was == 0) & (there > 0), -there),
        "leaving": ((there == 0) & (was > 0), -was),
    }
    result: dict[str, Any] = {}
    for name, (kept, key) in sides.items():
        rows = np.flatnonzero(kept)
        most = rows[np.lexsort((order[rows], key[rows]))][:MOST]
        titles = names[name != "leaving"].of(ids.take(pa.array(most)).to_pylist())
        result[name] = {
            "items": len(rows),
            "most": [[title, int(was[i]), int(there[i])] for title, i in zip(titles, most, strict=True)],
        }
    return result


def _aligned(table: pa.Table, ids: pa.Array) -> np.ndarray:
    """The lists of some items, 0 for one that is in none, (n,) int64."""
    counts = table["lists"].combine_chunks().take(pc.index_in(ids, value_set=table["item_id"].combine_chunks()))
    return np.asarray(pc.fill_null(counts, 0))
