"""How tables travel between workers, as an Arrow IPC stream, never pickled, and how many become one."""

from collections.abc import Callable, Iterable

import apache_beam as beam
import pyarrow as pa
from apache_beam import coders
from apache_beam.typehints import with_input_types, with_output_types


class TableCoder(coders.Coder):
    """Encodes a ``pa.Table`` with its schema as an LZ4-compressed IPC stream.

    A slice is sent as the slice: pickling one would send the whole buffer behind it.
    """

    def encode(self, value: pa.Table) -> bytes:
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_stream(sink, value.schema, options=options) as writer:
            writer.write_table(value.combine_chunks())
        return sink.getvalue().to_pybytes()

    def decode(self, encoded: bytes) -> pa.Table:
        with pa.ipc.open_stream(encoded) as reader:
            return reader.read_all()

    def estimate_size(self, value: pa.Table) -> int:
        """The bytes in memory: Beam asks for the first tables of each step, and would encode them to know."""
        return int(value.nbytes)

    def is_deterministic(self) -> bool:
        return False

    def to_type_hint(self) -> type:
        return pa.Table


coders.registry.register_coder(pa.Table, TableCoder)


_ROWS = 1 << 22


@with_input_types(pa.Table)
@with_output_types(pa.Table)
class MergeTables(beam.CombineFn):
    """Combines tables by an associative, commutative function of a list of them; those without rows are left out.

    A table that comes first stays as it is until another comes or the end: most bundles have one. Of many, no more
    are held at once than make a few million rows, or twice what they come to.
    """

    def __init__(self, merge: Callable[[list[pa.Table]], pa.Table], schema: pa.Schema) -> None:
        self._merge = merge
        self._schema = schema

    def create_accumulator(self) -> pa.Table:
        return self._schema.empty_table()

    def add_input(self, accumulator: pa.Table, table: pa.Table) -> pa.Table:
        return self.merge_accumulators([accumulator, table])

    def merge_accumulators(self, accumulators: Iterable[pa.Table]) -> pa.Table:
        empty = self._schema.empty_table()
        held, more = list[pa.Table](), 0
        for table in accumulators:
            if len(table):
                more += len(table) if held else 0
                held.append(table)
                if more > max(_ROWS, 2 * len(held[0])):
                    held, more = [self._merge(held)], 0
            elif table.num_columns:
                empty = table
        return self._merge(held) if len(held) > 1 else held[0] if held else empty

    def extract_output(self, accumulator: pa.Table) -> pa.Table:
        return self._merge([accumulator]) if len(accumulator) else accumulator

    def get_accumulator_coder(self) -> TableCoder:
        return TableCoder()
