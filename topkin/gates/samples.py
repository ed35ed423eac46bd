"""Samples of the tables by user and of the vectors, read a row group at a time.

The users are drawn by the hash by which parts are made: a sample needs some files only, and two versions with as many
parts have the same users in files of the same name.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.artifacts.embeddings import vectors_of
from topkin.artifacts.partition import hash_ids

MOST_USERS = 10_000
MOST_VECTORS = 10_000
_PART = re.compile(r"part-(\d+)-of-(\d+)\.parquet$")


@dataclass(frozen=True)
class UserSample:
    """Those users whose hash lies in the first ``taken`` of ``parts`` parts, of these one in ``step``."""

    parts: int
    taken: int
    step: int

    @classmethod
    def of(cls, users: int, parts: int, most: int = MOST_USERS) -> "UserSample":
        """About ``most`` of so many users, or all, from as few parts as hold them."""
        taken = min(parts, max(1, -(-most * parts // max(users, 1))))
        return cls(parts, taken, max(1, users * taken // parts // most))

    def has(self, ids: pa.ChunkedArray) -> np.ndarray:
        """Whether each user belongs to it, (n,) bool."""
        hashes = hash_ids(ids)
        parts, step = np.uint64(self.parts), np.uint64(self.step)
        return np.asarray((hashes % parts < np.uint64(self.taken)) & (hashes // parts % step == 0))

    def rows(self, folder: str, columns: Sequence[str]) -> pa.Table:
        """The rows of its users in a table by user; only files that may hold some are opened."""
        groups = [group for name in self._names(folder) for group in _groups(storage.join(folder, name), columns)]
        return pa.concat_tables([group.filter(pa.array(self.has(group["user_id"]))) for group in groups])

    def _names(self, folder: str) -> list[str]:
        """All files, or those of its parts where the table has as many; the first at least, for its columns."""
        names = [name for name in storage.files(folder) if name.endswith(".parquet")]
        placed = [_PART.search(name) for name in names]
        if any(part is None or int(part[2]) != self.parts for part in placed):
            return names
        return [name for name, part in zip(names, placed, strict=True) if part and int(part[1]) < self.taken]


def _groups(path: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    with storage.open_parquet(path) as file:
        yield file.schema_arrow.empty_table().select(list(columns))
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=list(columns))


def sample_vectors(folder: str, most: int = MOST_VECTORS) -> np.ndarray:
    """Every so many-th vector of a table, (n, dim) float32, at most ``most`` of them; (0, 0) where there is no file."""
    names = [storage.join(folder, name) for name in storage.files(folder) if name.endswith(".parquet")]
    sizes = []
    for name in names:
        with storage.open_parquet(name) as file:
            sizes.append(file.metadata.num_rows)
    step, first, drawn = max(1, -(-sum(sizes) // most)), 0, []
    for name in names:
        for group in _groups(name, ["vector"]):
            drawn.append(vectors_of(group)[-first % step :: step])
            first += len(group)
    return np.concatenate(drawn) if drawn else np.zeros((0, 0), np.float32)


def lists_of(ranked: pa.Table, users: pa.Array, items: pa.Array, k: int) -> np.ndarray:
    """The first k items of some users' lists, (n_users, k) int64 numbers among ``items``, -1 where a list is short.

    ranked: rows with user_id, rank (from 1) and item_id. items: every id that is listed.
    """
    row = np.asarray(pc.fill_null(pc.index_in(ranked["user_id"], value_set=users), -1))
    rank = np.asarray(ranked["rank"])
    number = np.asarray(pc.fill_null(pc.index_in(ranked["item_id"], value_set=items), -1))
    lists = np.full((len(users), k), -1, np.int64)
    kept = (row >= 0) & (rank <= k)
    lists[row[kept], rank[kept] - 1] = number[kept]
    return lists


def purchases_of(histories: pa.Table, *, timed: bool) -> pa.Table:
    """One row a purchase of some histories: user_id, item_id and, where they have times, time."""
    lengths = np.asarray(pc.list_value_length(histories["items"]))
    users = histories["user_id"].take(pa.array(np.repeat(np.arange(len(histories)), lengths)))
    columns = {"user_id": users, "item_id": pc.list_flatten(histories["items"])}
    return pa.table(columns | ({"time": pc.list_flatten(histories["times"])} if timed else {}))
