"""Columns beside a table's own: those of its items, what orders a list, and how much of a score each reason gave."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.config.shop.columns import COMPUTED, PLAIN, SHARES

SHARES_TYPE = pa.list_(pa.field("element", pa.float32()))


def catalogue_columns(names: Sequence[str]) -> list[str]:
    """The columns of the catalogue where those named lie."""
    return list(dict.fromkeys(name if name in PLAIN else "features" for name in names if name not in COMPUTED))


@dataclasses.dataclass(frozen=True)
class ItemColumns:
    """Columns of items by id. ids: (n_items,). values: a row an item."""

    ids: pa.Array
    values: pa.Table

    @classmethod
    def of(cls, catalogue: pa.Table, names: Sequence[str]) -> "ItemColumns | None":
        """Those named that are the catalogue's; None where none is."""
        mine = [name for name in names if name not in COMPUTED]
        columns = [catalogue[n] if n in PLAIN else pc.struct_field(catalogue["features"], [n]) for n in mine]
        return cls(catalogue["item_id"].combine_chunks(), pa.table(columns, names=mine)) if mine else None

    def joined(self, table: pa.Table, key: str) -> pa.Table:
        """The table with these columns of the item in the column ``key`` at its end; its metadata stays."""
        rows = self.values.take(pc.index_in(table[key].combine_chunks(), value_set=self.ids))
        for name in rows.column_names:
            table = table.append_column(pa.field(name, rows[name].type), rows[name])
        return table


def with_shares(table: pa.Table, shares: np.ndarray) -> pa.Table:
    """Recommendations with ``because_shares`` at their end.

    shares: (len(table), most) float32 of each row's reasons in their order; NaN where one has none, and beyond them.
    """
    lengths = np.asarray(pc.list_value_length(table["because"])).astype(np.int64)
    named = shares[np.arange(shares.shape[1]) < lengths[:, None]]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    values = pa.array(named, pa.float32(), mask=np.isnan(named))
    column = pa.ListArray.from_arrays(offsets, values).cast(SHARES_TYPE)
    return table.append_column(pa.field(SHARES, SHARES_TYPE, False), column)
