"""What is listed for a user of whom the encoder knows nothing: what sells.

Best first: what sold recently in the user's segment, then what sold recently at all, then what sold ever.
Each step lists what the steps before it did not, by purchases, then item number; an item that never sold
is not popular and is not listed. ``source`` says which step listed an item, ``score`` is its purchases there.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.schemas import SOURCES, TIME
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr

SEGMENT_COUNTS = pa.schema(
    [
        pa.field("segment", pa.string(), False),
        pa.field("item", pa.int32(), False),  # row in the catalogue
        pa.field("count", pa.int64(), False),
    ]
)
_BUDGET = 1 << 24
_SEGMENT, _RECENT, _EVER = range(1, len(SOURCES))  # 0 is the model's


def segment_counts(history: Interactions, histories: pa.Table, as_of: datetime, recent_days: float) -> pa.Table:
    """Purchases of the last ``recent_days`` by segment and item: a table of SEGMENT_COUNTS, in its columns' order.

    They are counted from the same instant as the catalogue's ``recent``.
    history: of the rows of histories, which are ``schemas.histories``; users without a segment count for none.
    """
    start = pa.scalar(as_of - timedelta(days=recent_days), TIME)
    recent = np.asarray(pc.greater_equal(pc.list_flatten(histories["times"]), start))
    segments = histories["segment"].take(pa.array(history.users[recent]))
    items = pa.array(history.items[recent])
    table = pa.table({"segment": segments, "item": items, "count": pa.array(np.ones(len(items), np.int64))})
    return merge_segment_counts([table.filter(pc.is_valid(table["segment"]))])


def merge_segment_counts(tables: list[pa.Table]) -> pa.Table:
    """The sum of tables of SEGMENT_COUNTS, in any order and grouping."""
    if not tables:
        return SEGMENT_COUNTS.empty_table()
    summed = pa.concat_tables(tables).group_by(["segment", "item"], use_threads=False).aggregate([("count", "sum")])
    table = summed.rename_columns(["segment", "item", "count"]).select(SEGMENT_COUNTS.names)
    return table.cast(SEGMENT_COUNTS).sort_by([("segment", "ascending"), ("item", "ascending")])


@dataclass(frozen=True)
class SegmentPopularity:
    """What sold. events, recent: (n_items,) int64 purchases ever and lately; segments: SEGMENT_COUNTS."""

    events: np.ndarray
    recent: np.ndarray
    segments: pa.Table

    def ranking(self, segment: str | None, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All items that sold and are allowed, best first for a segment: items int32, scores float32, sources int8."""
        own = np.zeros(len(self.events), np.int64)
        if segment is not None:
            rows = self.segments.filter(pc.equal(self.segments["segment"], segment))
            own[np.asarray(rows["item"])] = np.asarray(rows["count"])
        left = allowed.copy()
        items, scores, sources = [], [], []
        for source, counts in ((_SEGMENT, own), (_RECENT, self.recent), (_EVER, self.events)):
            sold = np.flatnonzero(left & (counts > 0))
            sold = sold[np.argsort(-counts[sold], kind="stable")]
            left[sold] = False
            items.append(sold.astype(np.int32))
            scores.append(counts[sold].astype(np.float32))
            sources.append(np.full(len(sold), source, np.int8))
        return np.concatenate(items), np.concatenate(scores), np.concatenate(sources)


def popular_lists(
    segments: pa.Array | pa.ChunkedArray,
    exclude: Csr,
    popularity: SegmentPopularity,
    allowed: np.ndarray,
    k: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists by popularity, each (n, k): ids int32 padded -1, scores float32 padded -inf, sources int8 padded -1.

    segments: (n,) string with nulls. exclude: what each of the n users may not get. sources are
    numbers in ``schemas.SOURCES``.
    """
    n = len(segments)
    ids = np.full((n, k), -1, np.int32)
    scores = np.full((n, k), -np.inf, np.float32)
    sources = np.full((n, k), -1, np.int8)
    words = segments.combine_chunks() if isinstance(segments, pa.ChunkedArray) else segments
    coded = words.dictionary_encode()
    codes = np.asarray(pc.fill_null(coded.indices, -1)).astype(np.int64)
    taken = exclude.lengths
    place = np.full(len(allowed), -1, np.int64)
    for code in np.unique(codes):
        segment = None if code < 0 else coded.dictionary[int(code)].as_py()
        best, counts, source = popularity.ranking(segment, allowed)
        place[:] = -1
        place[best] = np.arange(len(best))
        users = np.flatnonzero(codes == code)
        users = users[np.argsort(taken[users], kind="stable")]  # alike many exclusions, alike long prefixes
        while len(users):
            width = min(len(best), k + int(taken[users[min(len(users), 1024) - 1]]))
            block = users[: min(len(users), 1024, max(1, _BUDGET // max(width, 1)))]
            users = users[len(block) :]
            width = min(len(best), k + int(taken[block[-1]]))
            free = np.ones((len(block), width), bool)
            where = place[exclude.take(block).indices]
            near = (where >= 0) & (where < width)
            free[np.repeat(np.arange(len(block)), taken[block])[near], where[near]] = False
            rank = np.cumsum(free, axis=1) - 1
            row, column = np.nonzero(free & (rank < k))
            target = block[row], rank[row, column]
            ids[target], scores[target], sources[target] = best[column], counts[column], source[column]
    return ids, scores, sources
