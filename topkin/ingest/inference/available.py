"""Whether an item may be recommended, read from what catalogues have for it: flags, words, counts of stock."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import value_kind
from topkin.ingest.sql import number_form

YES = (
    "Y", "YES", "TRUE", "T", "1", "ACTIVE", "AVAILABLE", "IN STOCK", "IN_STOCK", "INSTOCK", "ENABLED", "PUBLISHED",
    "LIVE", "ON", "ON SALE", "LISTED", "VISIBLE", "IN PRINT", "IP", "SELLABLE", "LOW STOCK", "LOW_STOCK", "ONLINE",
    "CURRENT", "JA", "J", "OUI", "SI", "SÍ", "DISPONIBLE", "VERFÜGBAR",
)  # fmt: skip
NO = (
    "N", "NO", "FALSE", "F", "0", "INACTIVE", "UNAVAILABLE", "OUT OF STOCK", "OUT_OF_STOCK", "OUTOFSTOCK",
    "DISABLED", "DRAFT", "ARCHIVED", "DISCONTINUED", "HIDDEN", "OFF", "DELETED", "SOLD OUT", "SOLD_OUT",
    "OUT OF PRINT", "OP", "RETIRED", "UNPUBLISHED", "BLOCKED", "OFFLINE", "DELISTED", "OBSOLETE", "NEIN",
    "NON", "AGOTADO", "",
)  # fmt: skip
NEGATIVE_WORDS = {
    "deleted",
    "removed",
    "discontinued",
    "hidden",
    "archived",
    "retired",
    "obsolete",
    "blocked",
    "inactive",
    "disabled",
}
_STOCK_WORDS = {
    "stock", "inventory", "quantity", "qty", "hand", "available", "availability", "units", "count", "lagerbestand",
    "bestand", "voorraad", "existencias", "qoh", "soh",
}  # fmt: skip


class Availability(NamedTuple):
    """How sure it is that a column says so (0: it does not), why, and the SQL form that makes it a boolean."""

    score: float
    why: str
    form: str = ""


def availability(words: Sequence[str], kind: pa.DataType, values: pa.ChunkedArray) -> Availability:
    """What a column says of the availability of items, from the words of its name, its type and values without null."""
    against = bool(NEGATIVE_WORDS & set(words))
    name = value_kind(kind)
    if not len(values):
        return Availability(0, "")
    if name == "boolean":
        share = float(np.mean(np.asarray(values)))
        return Availability(1, f"boolean, {share:.0%} true", "NOT {}" if against else "")
    if name in ("integer", "float"):
        numbers = np.asarray(values).astype(np.float64)
        share = float(np.mean(numbers > 0))
        column = number_form(kind)
        if set(np.unique(numbers)) <= {0.0, 1.0}:
            form = f"{column} = 0" if against else f"{column} = 1"
            return Availability(0.9, f"{kind}, 0 or 1, {share:.0%} of them 1", form)
        if name == "integer" or np.all(numbers == np.round(numbers)):
            score = 0.6 if _STOCK_WORDS & set(words) and not against else 0.0
            return Availability(score, f"{kind}, counts of stock, {share:.0%} of them above 0", f"{column} > 0")
        return Availability(0, "")
    if name == "text":
        distinct = pc.unique(pc.utf8_upper(pc.utf8_trim_whitespace(values.cast(pa.string())))).to_pylist()
        yes, no = ([v for v in distinct if v in known] for known in (YES, NO))
        if yes and len(yes) + len(no) == len(distinct):
            listed = ", ".join(f"'{v}'" for v in sorted(yes))
            several = f"{'NOT ' * against}IN ({listed})" if len(yes) > 1 else f"{'<>' if against else '='} {listed}"
            form = f"upper(trim({{}})) {several}"
            return Availability(0.9, f"text, {', '.join(sorted(v or 'blank' for v in distinct))}", form)
    return Availability(0, "")
