"""The proof: every file below a folder is read for the ids of some users."""

import html
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from topkin.artifacts import ids as kinds
from topkin.artifacts import storage
from topkin.privacy.forgotten import Forgotten, Id
from topkin.privacy.tables import NEIGHBOUR, RECORD, USER, shown

ROWS = 1 << 16
SHORTEST = 6
"""Bytes from which on an id is no chance: a gigabyte at random has a given text of six bytes once in 250,000 times."""
ITEMS = frozenset({"item_id", "items", "input_items", "because", NEIGHBOUR})
"""Columns of items' ids, which may be called as a user is; a NEIGHBOUR beside a USER may be a user."""
_WORDS = re.compile(rb"[A-Za-z_-]*|[0-9]*")
_PLAIN = re.compile(rb"[A-Za-z0-9_\x80-\xff-]+")
_ENDS = rb"(?![A-Za-z0-9_\x80-\xff-])"  # what stands before may be the letter of an escape


def stands_out(user: Id) -> bool:
    """Whether an id, wherever it is read, is the user's: not short, no word, no number that any count may be."""
    raw = _raw(user)
    return len(raw) >= SHORTEST and _WORDS.fullmatch(raw) is None


def occurrences(
    folder: str, ids: Iterable[Id], *, of_items: Iterable[Id] = (), neighbours_are_users: bool = True
) -> dict[str, int]:
    """Where ids of users stand below a folder: file -> how often, hidden files too.

    Columns of users' ids, and records of rejects, are read for all of them. For those that :func:`stands_out` every
    other text of tables is, within lists and structs too, but for ids of items; and files that are no tables byte by
    byte, where an id counts between characters that no id like it has, also as JSON and HTML write it.

    Args:
        folder: What is read.
        ids: The users'.
        of_items: Those that items have too: none of them stands out.
        neighbours_are_users: Whether a ``neighbour_id`` beside a ``user_id`` names a user.
    """
    wanted, items = list(ids), {*of_items}
    alone = [user for user in wanted if stands_out(user) and user not in items]
    everybody, plain = (Forgotten.none().with_users(some) for some in (wanted, alone))
    texts = _Texts.of(alone)
    counts: dict[str, int] = {}
    for name in storage.files(folder, hidden=True):
        path = storage.join(folder, name)
        if name.endswith(".parquet"):
            count = sum(_in_table(table, everybody, plain, neighbours_are_users) for table in _tables(path))
        else:
            count = texts.count(storage.read_bytes(path))
        if count:
            counts[name] = count
    return counts


def _raw(user: Id) -> bytes:
    return user if isinstance(user, bytes) else str(user).encode("utf-8", "surrogatepass")


class _Texts:
    """Ids as they may stand in bytes.

    groups: of ids with the same characters beside letters and digits, what a stretch of such characters looks like, and
    the ids. quoted: what those with a quotation mark look like, which stands beside any text too, with no letter nor
    digit after them.
    """

    def __init__(
        self, groups: Sequence[tuple[re.Pattern[bytes], set[bytes]]], quoted: Sequence[re.Pattern[bytes]]
    ) -> None:
        self.groups, self.quoted = groups, quoted

    @classmethod
    def of(cls, ids: Iterable[Id]) -> "_Texts":
        """Of some ids, as they are and as JSON and HTML write them."""
        forms = {form for user in ids for form in _written(user)}
        quoted = {form for form in forms if b'"' in form}
        by_marks: dict[bytes, set[bytes]] = {}
        for form in forms - quoted:
            by_marks.setdefault(bytes(sorted({*_PLAIN.sub(b"", form)})), set()).add(form)
        groups = []
        for same in by_marks.values():
            alphabet = bytes(sorted({byte for form in same for byte in form}))
            groups.append((re.compile(b"[" + re.escape(alphabet) + b"]+"), same))
        return cls(groups, [re.compile(re.escape(form) + _ENDS) for form in sorted(quoted)])

    def count(self, data: bytes) -> int:
        """How often they stand in some bytes."""
        alone = sum(run in same for runs, same in self.groups for run in runs.findall(data))
        return alone + sum(len(form.findall(data)) for form in self.quoted)


def _written(user: Id) -> set[bytes]:
    """An id as it may stand in a file that is no table."""
    raw = _raw(user)
    if isinstance(user, bytes):
        return {raw}
    texts = [str(user), *(json.dumps(str(user), ensure_ascii=ascii)[1:-1] for ascii in (True, False))]
    texts.append(texts[1].translate({ord(c): f"\\u{ord(c):04x}" for c in "<>&'"}))  # JSON within a page
    return {_raw(text) for one in texts for text in (one, html.escape(one), html.escape(one, quote=False))}


def _tables(path: str) -> Iterator[pa.Table]:
    fs, inner = storage.filesystem(path)
    with pq.ParquetFile(inner, filesystem=fs) as file:
        for batch in file.iter_batches(ROWS):
            yield pa.Table.from_batches([batch])


def _in_table(table: pa.Table, everybody: Forgotten, plain: Forgotten, neighbours_are_users: bool) -> int:
    """plain: those of everybody whose ids stand out."""
    users = {USER, NEIGHBOUR} if neighbours_are_users and USER in table.column_names else {USER}
    return sum(_in_column(name, table[name], everybody, plain, users) for name in table.column_names)


def _in_column(
    name: str, column: pa.ChunkedArray, everybody: Forgotten, plain: Forgotten, users: Collection[str]
) -> int:
    if name == RECORD and pa.types.is_string(column.type):
        return int(shown(column, everybody).sum())
    if name in ITEMS and name not in users:
        return 0
    who, count = everybody if name in users else plain, 0
    for values in _leaves(column):
        if name in users or kinds.value_kind(values.type) == "text":
            count += int(np.count_nonzero(who.among(values)))
    return count


def _leaves(column: pa.ChunkedArray) -> Iterator[pa.ChunkedArray]:
    """The values within lists and structs that may be ids."""
    if pa.types.is_struct(column.type):
        for n in range(column.type.num_fields):
            yield from _leaves(pa.chunked_array([chunk.field(n) for chunk in column.chunks], column.type.field(n).type))
    elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        yield from _leaves(pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type))
    elif kinds.canonical_type(column.type) is not None:
        yield kinds.decoded(column)
