"""Which partition an id belongs to: the same on any machine, in any version, for any chunking.

Strings and binary ids are hashed as polynomials of their bytes modulo 2**64, integers as they are; a
finaliser (splitmix64: Steele, Lea and Flood 2014) then spreads every bit. Nothing here guards
against an adversary: the hash balances work, it does not tell ids apart.
"""

from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import Values, decoded

_P = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_P_INVERSE = pow(_P, -1, 2**64)
_BLOCK = 1 << 14
_CACHED = 1 << 20  # powers that are computed once: a block of 64 bytes each


def _mix(h: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser, (n,) uint64."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def _powers(base: int, n: int) -> np.ndarray:
    """``base ** [0, 1, …, n - 1]`` modulo 2**64, (n,) uint64."""
    return _cached_powers(base)[:n] if n <= _CACHED else _compute_powers(base, n)


@cache
def _cached_powers(base: int) -> np.ndarray:
    return _compute_powers(base, _CACHED)


def _compute_powers(base: int, n: int) -> np.ndarray:
    factors = np.full(n, np.uint64(base), np.uint64)
    factors[:1] = 1
    return np.multiply.accumulate(factors)


def _hash_bytes(ids: pa.Array) -> np.ndarray:
    """The polynomial of each value's bytes, first byte first, plus its length; (n,) uint64.

    One cumulative sum over all bytes gives each value's part as a difference, which the inverse of the
    base's power at its start moves to the power 0.
    """
    wide = pa.types.is_large_string(ids.type) or pa.types.is_large_binary(ids.type)
    _, offsets_buffer, data = ids.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64 if wide else np.int32)[ids.offset : ids.offset + len(ids) + 1]
    first = int(offsets[0])
    starts = (offsets - first).astype(np.int64)
    size = int(starts[-1])
    sums = np.zeros(size + 1, np.uint64)
    if size:
        values = np.frombuffer(data, np.uint8)[first : first + size].astype(np.uint64) + np.uint64(1)
        np.cumsum(values * _powers(_P, size), out=sums[1:])
    back = _powers(_P_INVERSE, size + 1)[starts[:-1]]
    return (sums[starts[1:]] - sums[starts[:-1]]) * back + np.diff(starts).astype(np.uint64)


def hash_ids(ids: Values) -> np.ndarray:
    """A stable 64-bit hash of each id, (n,) uint64; a string and its bytes have the same.

    Raises TypeError for ids that are not int64, string or binary, ValueError for a null.
    """
    if ids.null_count:
        raise ValueError(f"ids must not be null, got {ids.null_count} nulls")
    chunks = ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]
    hashes = [np.zeros(0, np.uint64)]
    for chunk in chunks:
        for at in range(0, len(chunk), _BLOCK):
            block = chunk.slice(at, _BLOCK)
            if pa.types.is_int64(block.type):
                hashes.append(_mix(np.asarray(block).view(np.uint64)))
            elif _has_bytes(block.type):
                hashes.append(_mix(_hash_bytes(block)))
            else:
                raise TypeError(
                    f"ids must be int64, string or binary, got {block.type}: see topkin.artifacts.ids.canonical"
                )
    return np.concatenate(hashes)


def _has_bytes(t: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(t) or pa.types.is_binary(t) or pa.types.is_large_string(t) or pa.types.is_large_binary(t)
    )


def hash_rows(table: pa.Table) -> np.ndarray:
    """A hash of each row's values in all columns, (n,) uint64; nulls count as a value of their own.

    Equal numbers, instants and texts hash alike whatever width, unit or encoding holds them.
    Raises TypeError for nested columns.
    """
    hashes = np.zeros(len(table), np.uint64)
    for name in table.column_names:
        values = table[name]
        column = _mix(_hash_values(values, name) + np.uint64(1))
        if values.null_count:
            column[np.asarray(pc.is_null(values))] = 0
        hashes = _mix(hashes * np.uint64(_P) + column)
    return hashes


def _hash_values(values: pa.ChunkedArray, name: str) -> np.ndarray:
    """A number for each value of a column, equal for equal values, (n,) uint64; nulls have any."""
    values = decoded(values)
    kind = values.type
    if pa.types.is_null(kind):
        return np.zeros(len(values), np.uint64)
    if pa.types.is_decimal(kind):
        values, kind = values.cast(pa.string()), pa.string()
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        values, kind = values.cast(pa.binary()), pa.binary()
    if _has_bytes(kind):
        return hash_ids(pc.fill_null(values, "" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else b""))
    if pa.types.is_floating(kind):
        numbers = np.asarray(pc.fill_null(values.cast(pa.float64()), 0)) + 0.0  # -0.0 becomes 0.0
        return np.where(np.isnan(numbers), np.nan, numbers).view(np.uint64)
    if pa.types.is_uint64(kind):
        return np.asarray(pc.fill_null(values, 0))
    factor = 1
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind) or pa.types.is_time(kind):
        factor = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}[kind.unit]
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        values = values.cast(pa.int32())
        factor = 86_400 * 10**9 if pa.types.is_date32(kind) else factor
    if pa.types.is_nested(kind):
        raise TypeError(f"column {name!r} must hold single values, got {kind}")
    whole = np.asarray(pc.fill_null(values.cast(pa.int64()), 0)).astype(np.int64)
    return whole.view(np.uint64) * np.uint64(factor)


def partition_of(ids: Values, parts: int) -> np.ndarray:
    """The partition of each id, (n,) int32 in [0, parts). Raises as :func:`hash_ids` does."""
    if parts < 1:
        raise ValueError(f"parts must be at least 1, got {parts}")
    return (hash_ids(ids) % np.uint64(parts)).astype(np.int32)


def in_first_half(ids: Values) -> np.ndarray:
    """Which half each id belongs to, (n,) bool, whatever the number of partitions. Raises as :func:`hash_ids` does."""
    return hash_ids(ids) < np.uint64(1 << 63)


def in_sample(ids: Values, share: float, seed: int) -> np.ndarray:
    """Which ids are drawn, (n,) bool: about ``share`` of any, by the seed, whatever the number of partitions.

    Those of a smaller share are among those of a larger one; a share of 1 is all. Raises as :func:`hash_ids` does.
    """
    limit = int(share * 2.0**64)
    if limit >= 2**64:
        return np.ones(len(ids), bool)
    return _mix(hash_ids(ids) + np.uint64((seed + 1) * _P % 2**64)) < np.uint64(limit)


def split_by_partition(table: pa.Table, column: str, parts: int) -> dict[int, pa.Table]:
    """The table's rows by the partition of an id column: partition -> rows, in the table's order.

    Partitions without rows are left out.
    """
    if parts == 1:
        return {0: table} if len(table) else {}
    part = partition_of(table[column], parts)
    ordered = table.take(pa.array(np.argsort(part, kind="stable")))
    ends = np.cumsum(np.bincount(part, minlength=parts))
    starts = ends - np.bincount(part, minlength=parts)
    return {p: ordered.slice(s, e - s) for p, (s, e) in enumerate(zip(starts, ends, strict=True)) if e > s}
