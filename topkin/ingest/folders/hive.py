"""Columns that stand in the names of folders, as Hive, Spark and DuckDB write them: ``order_date=2024-01-02/``."""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

import pyarrow as pa

from topkin.ingest.folders.file import Constants

NULL = "__HIVE_DEFAULT_PARTITION__"
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")


def is_key(part: str) -> bool:
    """Whether a part of a path is a column and its value."""
    return part.find("=") > 0


def keys_of(path: str, root: str) -> dict[str, str | None]:
    """The columns that a file's folders name: those below ``root``, and those in which ``root`` itself ends.

    Percent-encoded bytes are read; Hive's word for no value is None; of two folders of one name the inner one counts.
    """
    *folders, _ = path.split("/")
    fixed = path[: len(root)].rstrip("/").split("/") if path.startswith(root) else []
    at = min(len(fixed), len(folders))
    while at and is_key(folders[at - 1]):
        at -= 1
    pairs = (part.partition("=")[::2] for part in folders[at:] if is_key(part))
    return {_decoded(name): None if value == NULL else _decoded(value) for name, value in pairs}


def constants(keys: Sequence[Mapping[str, str | None]]) -> list[Constants]:
    """The keys of each file as typed values, each key of one type in all files.

    Whole numbers without leading zeros are int64, all else is a string.
    """
    texts: dict[str, dict[str | None, None]] = {}
    for of_file in keys:
        for name, text in of_file.items():
            texts.setdefault(name, {})[text] = None
    scalars = {name: dict(zip(values, _typed(list(values)), strict=True)) for name, values in texts.items()}
    return [tuple((name, scalars[name][text]) for name, text in of_file.items()) for of_file in keys]


def _typed(values: list[str | None]) -> pa.Array:
    texts = [v for v in values if v is not None]
    if texts and all(map(_is_int64, texts)):
        return pa.array([None if v is None else int(v) for v in values], pa.int64())
    return pa.array(values, pa.string())


def _is_int64(text: str) -> bool:
    return _WHOLE.fullmatch(text) is not None and -(2**63) <= int(text) < 2**63


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text
