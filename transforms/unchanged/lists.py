"""Lists for every user, of which most are those of the night before."""

import numpy as np
import pyarrow as pa
from apache_beam.utils.shared import Shared

from topkin.artifacts import storage
from topkin.recommend.lists import Lists, build_queries, fallback_reasons, longest
from topkin.recommend.unchanged.carry import SHARE
from topkin.recommend.unchanged.rows import OldLists, lists_column, numbers_of
from topkin.recommend.unchanged.searcher import CarryingSearcher
from topkin.transforms.recommend import ListMaker, RecommendInputs
from topkin.transforms.unchanged.before import Before


class ListUpdater(ListMaker):
    """As :class:`ListMaker`, of whose lists it gives the same rows, where bought items are excluded."""

    def __init__(self, inputs: RecommendInputs, held: Shared | None = None, *, before: Before) -> None:
        super().__init__(inputs, held)
        self.before, context, scores = before, self.items.context, self.items.scores
        vectors = scores.vectors, scores.in_vectors
        same, rules = before.same_items(context.item_ids, *vectors, context.allowed, inputs.settings)
        self.same_items = same & rules
        root = storage.join(before.folder, "recommendations")
        self.table = f"recommendations/{storage.folders(root)[0]}"

    def lists(self, part: int, segments: pa.Table, repeats: pa.Table, neighbours: pa.Table | None = None) -> Lists:
        """See :meth:`LoadedItems.lists`."""
        inputs, context = self.items.inputs, self.items.context
        histories, vectors = self.items.users(part)
        users = build_queries(histories, vectors, context, inputs.settings, inputs.as_of)
        why = fallback_reasons(users.history, self.searcher.knows(users), inputs.settings.min_history)
        served = np.flatnonzero(why < 0)
        same = self.before.same_users(part, histories, vectors)[served]
        if (~self.same_items).mean() > SHARE or not same.any():
            return super().lists(part, segments, repeats)
        table, k = self.before.part(self.table, part), longest(inputs.settings.k, len(context.item_ids))
        numbers = numbers_of(table["item_id"], context.item_ids, self.same_items & context.allowed)
        old = OldLists.of(table, histories["user_id"].take(pa.array(served)).combine_chunks(), numbers, k)
        most = inputs.settings.because
        because = lists_column(table["because"], old.row.ravel(), context.item_ids, most).reshape(*old.row.shape, most)
        searcher = CarryingSearcher(self.searcher, same=same, old=old, because=because, changed=~self.same_items)
        return self.items.lists(part, segments, repeats, searcher)
