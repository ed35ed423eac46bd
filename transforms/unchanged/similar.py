"""Neighbours of every item and every user, of which most are those of the night before."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage
from topkin.artifacts.embeddings import read_items, read_users
from topkin.recommend.similar import items_table
from topkin.recommend.unchanged.carry import SHARE
from topkin.recommend.unchanged.similar import NeighbourCandidates, similar_items_again, similar_part_again
from topkin.search.topk import TopK
from topkin.transforms.similar import NeighbourFinder, SimilarInputs
from topkin.transforms.unchanged.before import Before


class NeighbourUpdater(NeighbourFinder):
    """As :class:`NeighbourFinder`, of whose tables it gives the same rows."""

    def __init__(self, sources: SimilarInputs, before: Before) -> None:
        super().__init__(sources)
        self.before = before
        catalogue = storage.read_parquet(storage.join(sources.prepared, "catalogue.parquet"), ["item_id", "events"])
        items = read_items(sources.embeddings, sources.encoder)
        same, rules = before.same_items(items.ids, items.vectors, items.in_vectors, self.allowed, sources.rules)
        self.same_rules = bool(rules[np.asarray(catalogue["events"]) > 0].all())
        self.candidates = NeighbourCandidates.of(self.ids, same & rules, self.vectors, self.allowed)
        self.users_now = self._users() if sources.settings.users else None

    def _users(self) -> NeighbourCandidates | None:
        """The users, of whom those who changed are in memory; None where these are too many, and all is done again."""
        sources = self.sources
        ids, sames, changed, searched = [], [], [], 0
        for part in range(sources.parts):
            histories = sources.histories(part)
            _, vectors = read_users(sources.embeddings, part, sources.parts, sources.encoder)
            same = self.before.same_users(part, histories, vectors)
            searched += int((~same).sum())
            if searched > SHARE * self.firsts[-1]:
                return None
            ids.append(histories["user_id"].combine_chunks())
            sames.append(same)
            changed.append(sources.preferences(vectors[~same]))
        same = np.concatenate(sames)
        names = pa.concat_arrays([chunk for one in ids for chunk in getattr(one, "chunks", [one])])
        return NeighbourCandidates(names, same, np.flatnonzero(~same), np.concatenate(changed))

    @cached_property
    def _items_before(self) -> pa.Table:
        parts = [self.before.part("similar_items", part) for part in range(self.before.parts)]
        return pa.concat_tables(parts).combine_chunks()

    def items(self, part: int) -> pa.Table:
        """``schemas.similar_items`` of a run of catalogue rows."""
        n, k = len(self.ids), self.sources.settings.items
        rows = np.arange(part * n // self.sources.parts, (part + 1) * n // self.sources.parts)
        if not k or (~self.candidates.same).mean() > SHARE:
            return super().items(part)
        neighbours = similar_items_again(self.vectors, rows, self.candidates, self.allowed, self._items_before, k)
        return items_table(self.ids, rows, neighbours, self.sources.encoder)

    def users(self, part: int, neighbours: TopK | None = None) -> tuple[pa.Table, pa.Table]:
        """``schemas.similar_users`` and ``schemas.neighbours_bought`` of a part's users."""
        sources, now = self.sources, self.users_now
        if now is None or not now.same.any():
            return super().users(part)
        return similar_part_again(
            sources.histories(part),
            sources.vectors(part),
            self.firsts[part],
            now,
            (self.before.part("similar_users", part), self.before.part("neighbours_bought", part)),
            same_rules=self.same_rules,
            blocks=self._blocks,
            tables=self._tables,
            item_ids=self.ids,
            allowed=self.allowed,
            as_of=sources.as_of,
            settings=sources.settings,
            encoder=sources.encoder,
        )

    def _blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        return ((self.firsts[part], self.sources.vectors(part)) for part in range(self.sources.parts))

    def _tables(self) -> Iterator[tuple[int, pa.Table]]:
        return ((self.firsts[part], self.sources.histories(part)) for part in range(self.sources.parts))
