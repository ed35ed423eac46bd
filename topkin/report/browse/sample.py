"""Which users and items a page holds, by rules that it states, and their rows in a run's tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.artifacts.partition import hash_ids

USERS, ITEMS = 2000, 5000
"""Users and items of a page, at most."""
HISTORY = ["user_id", "items", "times", "segment"]
DRAWN = 0.2
"""Share of the items that a hash draws; the others are the best sold."""


@dataclass(frozen=True, kw_only=True)
class People:
    """The rows of some users in the tables by user, each sorted by user as they are stored.

    near: ``schemas.similar_users``; None where these were not made. listed: sorted by user and rank.
    """

    histories: pa.Table
    listed: pa.Table
    heldout: pa.Table
    near: pa.Table | None

    def least(self, most: int) -> "People":
        """Those whose ids have the least hashes."""
        users = self.histories["user_id"].combine_chunks()
        if len(users) <= most:
            return self
        kept = np.sort(np.argsort(hash_ids(users), kind="stable")[:most])
        users = users.take(pa.array(kept))

        def own(table: pa.Table) -> pa.Table:
            return table.filter(pc.is_in(table["user_id"], value_set=users))

        near = None if self.near is None else own(self.near)
        return People(
            histories=self.histories.take(pa.array(kept)), listed=own(self.listed), heldout=own(self.heldout), near=near
        )


def read_people(folders: Mapping[str, str], most: int = USERS) -> People | None:
    """About ``most`` users by a hash of their ids: those of the first parts, no more of which are read than hold them.

    folders: by stage; those of prepare, recommend and, if it is there, similar are read. None where there is no list.
    """
    prepared, lists = folders["prepare"], storage.join(folders["recommend"], "recommendations")
    near = storage.join(folders["similar"], "similar_users") if "similar" in folders else None
    parts: list[People] = []
    for path in (name for name in storage.files(lists) if name.endswith(".parquet")):
        if sum(len(part.histories) for part in parts) >= most:
            break
        name = path.rpartition("/")[2]
        parts.append(
            People(
                histories=storage.read_parquet(storage.join(prepared, "histories", name), HISTORY),
                listed=storage.read_parquet(storage.join(lists, path)),
                heldout=storage.read_parquet(storage.join(prepared, "heldout", name), ["user_id", "item_id"]),
                near=storage.read_parquet(storage.join(near, name)) if near and storage.exists(near) else None,
            ).least(most)
        )
    if not parts:
        return None
    near_tables = [part.near for part in parts if part.near is not None]
    return People(
        histories=pa.concat_tables([part.histories for part in parts]),
        listed=pa.concat_tables([part.listed for part in parts]),
        heldout=pa.concat_tables([part.heldout for part in parts]),
        near=pa.concat_tables(near_tables) if near_tables else None,
    ).least(most)


def sample_items(catalogue: pa.Table, most: int = ITEMS) -> np.ndarray:
    """The rows of the items, best sold first, (n,) int64: the best sold, and others that a hash of the id draws.

    catalogue: item_id and, where there are users, events. All items where they are no more than ``most``.
    """
    n = len(catalogue)
    events = np.asarray(catalogue["events"]) if "events" in catalogue.column_names else np.zeros(n, np.int64)
    best = np.argsort(-events, kind="stable")
    if n <= most:
        return best
    drawn = round(DRAWN * most) if events.any() else most
    rest = best[most - drawn :]
    hashes = hash_ids(catalogue["item_id"].combine_chunks().take(pa.array(rest)))
    return np.concatenate([best[: most - drawn], rest[np.sort(np.argsort(hashes, kind="stable")[:drawn])]])


def rows_of(folder: str, column: str, ids: pa.Array, columns: Sequence[str]) -> pa.Table:
    """The rows of a table whose id is one of some; a file of it is read at a time."""
    tables = []
    for path in storage.parquet_files(folder):
        table = storage.read_parquet(path, columns)
        tables.append(table.filter(pc.is_in(table[column], value_set=ids)))
    return pa.concat_tables(tables)


def read_neighbours(folder: str | None, ids: pa.Array) -> pa.Table | None:
    """``schemas.similar_items`` of some items from the folder of the stage similar; None where it made none."""
    place = storage.join(folder, "similar_items") if folder else ""
    if not place or not storage.exists(place):
        return None
    return rows_of(place, "item_id", ids, ["item_id", "neighbour_id", "score"])
