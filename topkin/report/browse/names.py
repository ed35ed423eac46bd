"""Ids, titles and other texts of the data as a page shows them."""

import unicodedata
from collections.abc import Sequence

import pyarrow as pa

from topkin.artifacts.lookup import Id, format_id
from topkin.interactions import encode_ids

LONGEST = 120
"""Characters of a text of the data, shown."""


def clean(text: str, most: int = LONGEST) -> str:
    """A text on one line, without control characters, cut to ``most`` characters with an ellipsis."""
    text = " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in text).split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def show_id(value: Id) -> str:
    """An id as ``topkin show`` takes it."""
    return str(format_id(value))


class Titles:
    """The titles of a catalogue's items, by row or by id; an item without a title is called by its id."""

    def __init__(self, catalogue: pa.Table):
        self._ids, self._titles = catalogue["item_id"].combine_chunks(), catalogue["title"].combine_chunks()

    def own(self, row: int) -> str:
        """The title of a row; empty where it has none."""
        return clean(self._titles[int(row)].as_py() or "")

    def id(self, row: int) -> str:
        """The id of a row."""
        return show_id(self._ids[int(row)].as_py())

    def __getitem__(self, row: int) -> str:
        return self.own(row) or clean(self.id(row))

    def rows(self, items: Sequence[Id]) -> list[int]:
        """The rows of some ids, -1 for one that the catalogue lacks."""
        rows: list[int] = encode_ids(pa.array(items, self._ids.type), self._ids).tolist()
        return rows

    def of(self, items: Sequence[Id]) -> list[str]:
        """The titles of some ids; one that the catalogue lacks is shown as it is."""
        return [
            self[row] if row >= 0 else clean(show_id(item)) for row, item in zip(self.rows(items), items, strict=True)
        ]
