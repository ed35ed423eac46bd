"""An index of today's items grown from an earlier one: its graphs stay as they are, what is new becomes one more.

NMSLIB's graph takes no point after it is saved, and gives none back. So items that are gone, or whose vector is another
one, become tombstones, which are never found; items that are new, or changed, are built into a shard of their own. The
last shards are built anew with it while they hold no more items than are new, or than :data:`SMALL`: a year of nights
leaves as many shards as the logarithm of what came (as in a log-structured merge tree, O'Neil and others 1996). When
what came and went is more than :data:`SHARE` of the items, all are built anew into one.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.errors import ArtifactError
from topkin.search.hnsw.build import (
    HnswSettings,
    build_index,
    described,
    drawn,
    graphs_of,
    made_by,
    parameters,
    point_counts,
    shard_rows,
    unit_or_zero,
    with_recall,
)
from topkin.search.hnsw.engines import DEFAULT, engine_of
from topkin.search.hnsw.files import (
    Places,
    fingerprint,
    read_places,
    save_graph,
    sealed,
    shard_files,
    write_places,
)
from topkin.search.hnsw.index import Folding, points_of
from topkin.search.norm_bands import norms

SMALL = 1_000
"""Items of a shard that is always built anew with what comes after it, if one shard holds both."""
SHARE = 0.2
"""Most tombstones and items of grown shards, as a share of the indexed items."""
NEAR = 1e-4
"""Most distance of an item's vector from that of before: sums of an encoder differ in the last digits by the batch."""


class ItemChanges(NamedTuple):
    """What became of the places of an earlier index, and what has no place there.

    rows: (n_places,) int32, the row of each place, -1 for a tombstone. fresh: (n,) int32, ascending, the rows with a
    vector and no place; changed: how many of these had another vector before. removed: items that are gone, or without
    a vector.
    """

    rows: np.ndarray
    fresh: np.ndarray
    changed: int
    removed: int

    @classmethod
    def of(cls, before: Places, ids: pa.Array, vectors: np.ndarray) -> "ItemChanges":
        """ids: (n_items,) distinct, of the type of the earlier ones; vectors: (n_items, dim) float32, zero for none."""
        rows = np.full(len(before.rows), -1, np.int32)
        had = np.flatnonzero(before.rows >= 0)
        row = pc.index_in(before.item_ids.take(pa.array(had)), value_set=ids).fill_null(-1).to_numpy()
        known = (vectors != 0).any(axis=1)
        stays = (row >= 0) & known[row] if len(known) else row >= 0
        row, once = np.unique(row[stays], return_index=True)
        had = had[stays][once]
        gone = int((before.rows >= 0).sum()) - len(had)
        same = np.linalg.norm(vectors[row] - before.vectors[had], axis=1) <= NEAR
        rows[had[same]] = row[same]
        known[row[same]] = False
        return cls(rows, np.flatnonzero(known).astype(np.int32), int((~same).sum()), gone)


class _Plan(NamedTuple):
    """Which shards are taken, how many places and points they have, and the rows that are built into new ones."""

    taken: list[dict[str, Any]]
    places: int
    points: int
    built: np.ndarray

    @classmethod
    def of(cls, shards: list[dict[str, Any]], delta: ItemChanges, settings: HnswSettings) -> "_Plan":
        taken, built, end = list(shards), delta.fresh, len(delta.rows)
        while taken and len(delta.fresh):
            last = delta.rows[end - taken[-1]["items"] : end]
            last = last[last >= 0]
            if len(last) > max(len(built), SMALL) or len(last) + len(built) > settings.shard_items:
                break
            built, end = np.concatenate([built, last]), end - taken.pop()["items"]
        return cls(taken, end, sum(s["points"] for s in taken), np.sort(built))

    def refusal(self, delta: ItemChanges) -> str | None:
        """Why all is to be built anew; None where it is not."""
        rows = delta.rows[: self.places]
        indexed = int((rows >= 0).sum()) + len(self.built)
        if not self.taken:
            return f"what is new and the shards that join it are all {indexed:,} items"
        grown = sum(s["items"] for s in self.taken if s.get("grown")) + len(self.built)
        moved = grown + int((rows < 0).sum())
        if moved > SHARE * indexed:
            return (
                f"{moved:,} items came, changed or went since all were built, more than {SHARE:.0%} of the {indexed:,}"
            )
        return None


def grow_index(
    earlier: str,
    folder: str,
    vectors: np.ndarray,
    settings: HnswSettings,
    seed: int,
    *,
    ids: pa.Array | pa.ChunkedArray,
    encoder: str,
    threads: int = 0,
) -> dict[str, Any]:
    """Write an index of the items into ``folder``, grown from an earlier one, or built anew where that cannot be.

    The files of the graphs that are taken are verified, and are those of the earlier index, by a hard link where the
    disk can. The recall is measured anew, on a sample of the items.

    Args:
        earlier: Folder of the earlier index.
        folder: Where the index goes.
        vectors: (n_items, dim) float32, unit rows; zero for an item without a vector.
        settings: How graphs are built.
        seed: Draws the sample.
        ids: (n_items,) item ids, distinct.
        encoder: The hash of what made the vectors.
        threads: Shards built at a time, 0 for one a processor.

    Returns:
        The content of index.json. Its ``growth`` tells ``from``, the hash of the earlier one's content, how many items
        were ``added``, ``changed`` and ``removed``, and the shards ``taken``; or under ``built_anew`` why nothing was
        taken: the earlier index is damaged, of another encoder, dimension or type of ids, or was built with other
        settings, or too much came and went.

    Raises:
        TypeError: For vectors that are not floats.
        ValueError: For vectors that are not finite unit rows or zero, or ids that are not distinct.
    """
    vectors = unit_or_zero(vectors, len(ids))
    ids = ids if isinstance(ids, pa.Array) else ids.combine_chunks()
    if pc.count_distinct(ids, mode="all").as_py() < len(ids):
        raise ValueError("ids must be distinct to grow an index, some come twice: keep one row of each")

    def built_anew(why: str, **counts: int) -> dict[str, Any]:
        info = build_index(vectors, folder, settings, seed, ids=ids, encoder=encoder, threads=threads)
        info = sealed({**info, "growth": {**counts, "built_anew": why}})
        storage.write_json(info, storage.join(folder, "index.json"))
        return info

    try:
        before = read_places(earlier, encoder=encoder, dim=vectors.shape[1])
    except ArtifactError as e:
        return built_anew(str(e).partition(": run topkin")[0].partition("; run topkin")[0])
    if (why := _other_kind(before, ids, settings)) is not None:
        return built_anew(why)
    delta = ItemChanges.of(before, ids, vectors)
    counts = {"added": len(delta.fresh) - delta.changed, "changed": delta.changed, "removed": delta.removed}
    plan = _Plan.of(before.info["shards"], delta, settings)
    if (why := plan.refusal(delta)) is not None:
        return built_anew(why, **counts)
    engine, first = engine_of(settings.engine), len(plan.taken)
    shards = _write(earlier, folder, before, delta, plan, vectors, ids, settings, threads)
    here = np.sort(np.concatenate([delta.rows[: plan.places], plan.built]))
    here = here[here >= 0]
    new_files = ["ids.parquet", *(name for number in range(first, len(shards)) for name in shard_files(engine, number))]
    description = {
        **described(settings, encoder, vectors.shape[1], len(ids), len(here)),
        "points": sum(shard["points"] for shard in shards),
        "tombstones": sum(shard["items"] for shard in shards) - len(here),
        "split_by_length": False,
        "trial": None,
        "shards": shards,
        "growth": {"from": before.info["sha256"], **counts, "taken": first},
        "files": {name: before.info["files"][name] for number in range(first) for name in shard_files(engine, number)}
        | {name: fingerprint(storage.join(folder, name)) for name in new_files},
    }
    return with_recall(description, folder, drawn(vectors[here], settings, seed), "items")


def _write(
    earlier: str,
    folder: str,
    before: Places,
    delta: ItemChanges,
    plan: _Plan,
    vectors: np.ndarray,
    ids: pa.Array,
    settings: HnswSettings,
    threads: int,
) -> list[dict[str, Any]]:
    """Take the graphs of a plan, build the others and write ``ids.parquet``; what index.json says of each shard."""
    storage.make_folder(folder)
    engine = engine_of(settings.engine)
    for number in range(len(plan.taken)):
        for name in shard_files(engine, number):
            storage.take_file(storage.join(earlier, name), storage.join(folder, name))
    new = vectors[plan.built]
    sizes = [len(rows) for rows in shard_rows(norms(new), settings, by_length=False)]
    points = points_of(new, sizes)
    counts = point_counts(points, sizes)

    def save(number: int, graph: object) -> None:
        save_graph(engine, graph, folder, len(plan.taken) + number)

    graphs_of(new[Folding.of(points).first], counts, settings, False, threads, save)
    rows = delta.rows[: plan.places]
    old = before.vectors[: plan.places].copy()
    old[rows >= 0] = vectors[rows[rows >= 0]]
    places = Places(
        {},
        np.concatenate([rows, plan.built]),
        pa.concat_arrays([before.item_ids.slice(0, plan.places), ids.take(pa.array(plan.built))]),
        np.concatenate([before.points[: plan.places], points + np.int32(plan.points)]),
        np.concatenate([old, new]),
    )
    write_places(folder, places, before.info["encoder"])
    return [*plan.taken, *({"items": n, "points": m, "grown": True} for n, m in zip(sizes, counts, strict=True))]


def _other_kind(before: Places, ids: pa.Array, settings: HnswSettings) -> str | None:
    """Why an index of these settings cannot be grown from an earlier one, whatever its items are."""
    info = before.info
    if info["parameters"] != parameters(settings):
        return f"the earlier index was built with {info['parameters']}"
    engine = info.get("engine", DEFAULT)
    if {name: info.get(name) for name in made_by(engine_of(settings.engine))} != made_by(engine_of(settings.engine)):
        return f"the earlier index was built by {engine} {info[engine]}"
    if info["split_by_length"]:
        return "the earlier index is split by length"
    if before.item_ids.type != ids.type:
        return f"the earlier index has ids of type {before.item_ids.type}, not {ids.type}"
    return None
