"""The purchases that workers read a part of, and where they leave files for each other."""

from dataclasses import dataclass

import pyarrow as pa
from apache_beam.utils.shared import Shared

from topkin.artifacts import storage
from topkin.interactions import Interactions
from topkin.models.data.histories import PreparedHistories, before_cut


@dataclass(frozen=True, kw_only=True)
class PartInputs:
    """What a sum over parts reads.

    purchases: their parts before a cut, without item ids. catalogue: the file that has these. scratch: where all
    workers read and write.
    """

    purchases: PreparedHistories
    catalogue: str
    n_items: int
    scratch: str

    def path(self, *names: object) -> str:
        """A file in scratch."""
        return storage.join(self.scratch, *(f"{n:05d}" if isinstance(n, int) else str(n) for n in names)) + ".arrays"

    def part(self, name: str, shared: Shared) -> Interactions:
        """The purchases of a part before the cut, aged at it; the ids are read once a process."""
        held: _ItemIds = shared.acquire(lambda: _ItemIds(self.catalogue), tag=self.catalogue)
        return before_cut(self.purchases.with_ids(held.ids).part(name), self.purchases.days)


class _ItemIds:
    """The ids of a catalogue, as a holder that Beam can share."""

    def __init__(self, catalogue: str) -> None:
        self.ids: pa.ChunkedArray = storage.read_parquet(catalogue, ["item_id"])["item_id"]
