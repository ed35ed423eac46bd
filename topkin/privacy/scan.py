"""The proof: every file below a folder is read for the ids of some users."""

import re
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from topkin.artifacts import ids as kinds
from topkin.artifacts import storage
from topkin.privacy.forgotten import Forgotten, Id
from topkin.privacy.tables import NEIGHBOUR, USER

ROWS = 1 << 16


def occurrences(folder: str, ids: Iterable[Id], *, neighbours_are_users: bool = True) -> dict[str, int]:
    """Where ids of users stand below a folder: file -> how often, hidden files too.

    Tables are read value by value, lists and structs too: user ids as such, and every text. Other files are read byte
    by byte for ids that stand alone, between characters that no id has. Ids of digits alone are looked for as user ids
    of tables and in texts: in other files any count may be the same number.

    Args:
        folder: What is read.
        ids: The users'.
        neighbours_are_users: Whether a ``neighbour_id`` beside a ``user_id`` names a user.
    """
    wanted = list(ids)
    who = Forgotten.none().with_users(wanted)
    raw = {i if isinstance(i, bytes) else str(i).encode("utf-8", "surrogatepass") for i in wanted}
    raw = {i for i in raw if not i.isdigit()}
    alphabet = bytes(sorted({byte for i in raw for byte in i}))
    runs = re.compile(b"[" + re.escape(alphabet) + b"]+") if raw else None
    found: dict[str, int] = {}
    for name in storage.files(folder, hidden=True):
        path = storage.join(folder, name)
        if name.endswith(".parquet"):
            count = sum(_in_table(table, who, neighbours_are_users) for table in _tables(path))
        else:
            count = sum(run in raw for run in runs.findall(storage.read_bytes(path))) if runs else 0
        if count:
            found[name] = count
    return found


def _tables(path: str) -> Iterator[pa.Table]:
    fs, inner = storage.filesystem(path)
    with pq.ParquetFile(inner, filesystem=fs) as file:
        for batch in file.iter_batches(ROWS):
            yield pa.Table.from_batches([batch])


def _in_table(table: pa.Table, who: Forgotten, neighbours_are_users: bool) -> int:
    users = {USER, NEIGHBOUR} if neighbours_are_users and USER in table.column_names else {USER}
    count = 0
    for name in table.column_names:
        column = table[name]
        for values in _leaves(column):
            if name in users or kinds.value_kind(values.type) == "text":
                count += int(who.among(values).sum())
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
