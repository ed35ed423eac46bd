"""The rules of recommending for all users alike: which items nobody gets (``bought`` has those of one user).

A rule is an invariant, not a preference: what it takes away is never listed, and a list that gets short
stays short with its reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from topkin.artifacts import storage
from topkin.artifacts.ids import canonical, canonical_type
from topkin.config.sections import RecommendSettings
from topkin.errors import InputError
from topkin.interactions import encode_ids


@dataclass(frozen=True)
class Allowed:
    """The items that may be listed at all.

    mask: (n_items,) bool. filtered_counts: how many items each rule takes away, an item once, under the first
    rule of: unavailable, denied, not_allowed. unknown: ids on the lists that the catalogue lacks.
    """

    mask: np.ndarray
    filtered_counts: Mapping[str, int]
    unknown: Mapping[str, int]


def allowed_items(
    catalogue: pa.Table,
    *,
    allow: pa.Array | pa.ChunkedArray | None = None,
    deny: pa.Array | pa.ChunkedArray | None = None,
) -> Allowed:
    """Which rows of the catalogue may be listed: available, not denied, and on the allow-list if there is one.

    catalogue: columns item_id and available. allow, deny: ids of the catalogue's type; repeats do no harm.
    An empty allow-list allows nothing. Raises TypeError where a list has ids of another type.
    """
    mask = np.array(catalogue["available"], bool)
    filtered = {"unavailable": int((~mask).sum()), "denied": 0, "not_allowed": 0}
    unknown = {"allow": 0, "deny": 0}
    if deny is not None:
        denied, unknown["deny"] = _listed(deny, catalogue["item_id"])
        filtered["denied"] = int((mask & denied).sum())
        mask &= ~denied
    if allow is not None:
        listed, unknown["allow"] = _listed(allow, catalogue["item_id"])
        filtered["not_allowed"] = int((mask & ~listed).sum())
        mask &= listed
    return Allowed(mask, filtered, unknown)


def _listed(ids: pa.Array | pa.ChunkedArray, item_ids: pa.ChunkedArray) -> tuple[np.ndarray, int]:
    """Which items are on a list, (n_items,) bool, and how many of its ids are no item's."""
    rows = encode_ids(ids, item_ids)
    listed = np.zeros(len(item_ids), bool)
    listed[rows[rows >= 0]] = True
    return listed, int((rows < 0).sum())


def allowed_of(settings: RecommendSettings, catalogue: pa.Table) -> Allowed:
    """The items that availability and the configured lists allow.

    Raises InputError for a list that cannot be used, and for an allow-list with ids none of which is an item's.
    """
    lists = read_item_lists(settings, catalogue.schema.field("item_id").type)
    allowed = allowed_items(catalogue, **lists)
    given = lists.get("allow")
    if given is not None and len(given) and allowed.unknown["allow"] == len(given):
        raise InputError(
            f"recommend.allow = {settings.allow}: none of its {len(given):,} ids is an item of the shop, such as "
            f"{given[0].as_py()!r}, so that nothing could be listed: items are such as "
            f"{catalogue['item_id'][0].as_py()!r}, write the list with the ids as the purchases have them"
        )
    return allowed


def cooldown_days(
    categories: pa.Array | pa.ChunkedArray, days: float, by_category: Mapping[str, float] | None = None
) -> np.ndarray:
    """The days that each item stays away after a purchase, (n_items,) float32.

    categories: string, null where the item has none; ``by_category`` replaces ``days`` for its keys.
    """
    days_of = np.full(len(categories), days, np.float32)
    for category, own in (by_category or {}).items():
        days_of[np.asarray(pc.fill_null(pc.equal(categories, category), False), dtype=bool)] = own
    return days_of


def as_ids(values: pa.ChunkedArray, item_type: pa.DataType, where: str, column: str = "item_id") -> pa.ChunkedArray:
    """Listed ids in the catalogue's type: any integer width for int64, any string or binary layout.

    ``where`` and ``column`` name the list and its column in messages. Raises InputError for another kind of type or a
    null.
    """
    if canonical_type(values.type) != canonical_type(item_type):
        raise InputError(
            f"{where}: column {column} must be of the catalogue's type {item_type}, got {values.type}: "
            "write the list with the ids as the purchases have them"
        )
    ids = canonical(values)
    if values.null_count:
        raise InputError(f"{where}: {column} must not be null, got {values.null_count} nulls: take them out")
    if ids.null_count:
        raise InputError(
            f"{where}: {column} does not fit {item_type}: {ids.null_count} are above its largest, take them out"
        )
    return ids


def read_item_list(path: str, item_type: pa.DataType, key: str, column: str = "item_id") -> pa.ChunkedArray:
    """The ids of an allow-list or a deny-list: a column of a Parquet file or a folder of them.

    ``key`` is the configuration key that named the path; the column's has ``_column`` after it. Raises InputError where
    there is no such file, it is not Parquet, or it has no such column that can be used.
    """
    pieces = []
    for name in _list_files(path, key):
        fs, inner = storage.filesystem(name)
        try:
            with fs.open_input_file(inner) as source, pq.ParquetFile(source) as file:
                names = file.schema_arrow.names
                if names.count(column) != 1:
                    has = f"the column {column}" if column not in names else f"one column {column}"
                    raise InputError(
                        f"{key}: {name} must have {has}, it has {', '.join(names)}: set {key}_column to the one with "
                        "the item's id"
                    )
                values = file.read(columns=[column])[column]
                pieces.append(as_ids(values, item_type, f"{key} = {name}", column))
        except (OSError, pa.ArrowInvalid) as e:
            raise InputError(f"{key}: {name} cannot be read as Parquet ({e})") from e
    return pa.chunked_array([c for piece in pieces for c in piece.chunks], item_type)


def read_item_lists(settings: RecommendSettings, item_type: pa.DataType) -> dict[str, pa.ChunkedArray]:
    """The ids of the configured lists, by ``allow`` and ``deny``. Raises InputError where one cannot be used."""
    return {
        name: read_item_list(path, item_type, f"recommend.{name}", column)
        for name, path, column in _item_lists(settings)
    }


def item_lists_fingerprint(settings: RecommendSettings) -> list[list[str]]:
    """[key, column, file, SHA-256] of every file of both lists: what tells that a list is another.

    Raises InputError where a list has no file.
    """
    keys = [(f"recommend.{name}", path, column) for name, path, column in _item_lists(settings)]
    return [[key, column, f, storage.sha256(f)] for key, path, column in keys for f in _list_files(path, key)]


def _item_lists(settings: RecommendSettings) -> list[tuple[str, str, str]]:
    """Name, path and column of the lists that there are."""
    lists = (("allow", settings.allow, settings.allow_column), ("deny", settings.deny, settings.deny_column))
    return [(name, path, column) for name, path, column in lists if path is not None]


def _list_files(path: str, key: str) -> list[str]:
    fs, inner = storage.filesystem(path)
    if fs.get_file_info(inner).is_file:
        return [path]
    names = [storage.join(path, n) for n in storage.files(path) if n.endswith(".parquet")]
    if not names:
        raise InputError(f"{key} = {path}: no Parquet file there: give a file or a folder, or leave {key} out")
    return names
