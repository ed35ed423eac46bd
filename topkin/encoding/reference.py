"""The night on which an encoder was trained: what it took the sales of the items to be.

An item's vector holds its sales and recent sales, a user's holds those of the items bought. As long as an encoder is
kept, both are counted as of its own night: so the vector of what did not change is the same number night by night, and
what was found with it holds.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas, storage

FILE = "reference.parquet"
"""In the folder of the stage ``train``, where an encoder may be kept (``train.every_days``)."""
SALES = ("events", "users", "recent")
_AS_OF, _COLUMNS = b"topkin.as_of", b"topkin.catalogue"


def columns_of(schema: pa.Schema) -> str:
    """Names and types of columns in a text that is equal for equal ones."""
    return "; ".join(f"{field.name}: {field.type}" for field in schema)


@dataclass(frozen=True)
class Reference:
    """The date of a training and the sales of the items as of it.

    sales: item_id, then the columns SALES of the catalogue, int64. columns: names and types of the catalogue's, among
    them the length of the items' own vectors, and of the users' features, which the encoder takes as they were.
    """

    as_of: datetime
    sales: pa.Table
    columns: str

    @classmethod
    def of(cls, catalogue: pa.Table, columns: pa.Schema, as_of: datetime) -> "Reference":
        """As of tonight. columns: what the encoder takes as it is."""
        return cls(as_of, catalogue.select(["item_id", *SALES]), columns_of(columns))

    @classmethod
    def read(cls, folder: str) -> "Reference | None":
        """That of the encoder in a folder; None for one that is not kept: the catalogue's own sales count."""
        path = storage.join(folder, FILE)
        if not storage.exists(path):
            return None
        table = storage.read_parquet(path)
        metadata = table.schema.metadata
        return cls(datetime.fromisoformat(metadata[_AS_OF].decode()), table, metadata[_COLUMNS].decode())

    def write(self, folder: str, encoder: str) -> None:
        """Beside the encoder. encoder: its hash."""
        metadata = {_AS_OF: self.as_of.isoformat().encode(), _COLUMNS: self.columns.encode()}
        schema = self.sales.schema.with_metadata(metadata)
        table = self.sales.cast(schemas.with_encoder(schema, encoder))
        storage.write_parquet(table, storage.join(folder, FILE))

    def buyers(self, item_ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Distinct buyers of items, (n,) int64; 0 of one that came later."""
        return np.asarray(self._of("users", item_ids))

    def counted(self, catalogue: pa.Table) -> pa.Table:
        """Rows of a catalogue with the sales as of the training in the place of their own, as far as they have some."""
        for name in SALES:
            if name in catalogue.column_names:
                place = catalogue.schema.get_field_index(name)
                field = catalogue.schema.field(name)
                catalogue = catalogue.set_column(place, field, self._of(name, catalogue["item_id"]).cast(field.type))
        return catalogue

    def _of(self, name: str, item_ids: pa.Array | pa.ChunkedArray) -> pa.Array:
        known = self.sales["item_id"]
        row = pc.index_in(item_ids, value_set=known.combine_chunks())
        values = pc.fill_null(self.sales[name].take(row), 0)
        return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
