"""Lists where an item has pieces for so many users: candidates of every part, one pass over all, then the lists.

What is between is in files of the scratch folder: the candidates of each part, then its lists. The pass is one process:
see ``topkin.recommend.rules.allot`` for what is in its memory.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import AsSingleton, PCollection

from topkin.artifacts import storage
from topkin.artifacts.partition import hash_ids
from topkin.artifacts.shuffle import read_arrow, write_arrow
from topkin.recommend.rules.allot import PartFiles, allot, candidates_table, chosen, found_of
from topkin.recommend.rules.found import Found
from topkin.transforms.counters import counted
from topkin.transforms.recommend import ListDoFn, RecommendParts, list_outputs, outputs_of

Stored = tuple[int, str, int]
"""A part, the file of its candidates or lists, and how many items its searcher has."""


class _FindCandidates(ListDoFn):
    """(part, what all shards found for its users, if there are any) to the part's candidates, in a file."""

    folder = ""

    @counted
    def process(self, element: tuple[int, pa.Table | None], segments: pa.Table, repeats: pa.Table) -> Iterator[Stored]:
        part, table = element
        searcher, items = self.loaded.searcher_of(table), self.loaded.items
        users = items.part_users(part, segments, repeats, searcher)
        rules = items.context.rules
        assert rules is not None, "a capacity is a rule"
        depth = min(rules.depth(users.k), max(len(items.context.item_ids), 1))
        candidates = users.find(np.arange(len(users.why)), depth)
        path = storage.join(self.folder, storage.part_name(part, self._inputs.parts))
        write_arrow(candidates_table(candidates, hash_ids(users.histories["user_id"])), path)
        yield part, path, searcher.n_candidates(items.context.allowed)


class _Allot(ListDoFn):
    """The candidates of all parts to the lists of each, in files."""

    @counted
    def process(self, stored: Iterable[Stored], segments: pa.Table, repeats: pa.Table) -> Iterator[Stored]:
        files, number = [], 0
        ordered = sorted(set(stored))
        for part, path, _ in ordered:
            files.append(PartFiles.of(part, number, path))
            number += len(files[-1].tie)
        items = self.loaded.items
        rules, k = items.context.rules, self._inputs.list_width(len(items.context.item_ids))
        assert rules is not None, "a capacity is a rule"

        def deepen(part: int, rows: np.ndarray, depth: int, barred: np.ndarray) -> Found:
            users = items.part_users(part, segments, repeats, self.loaded.searcher_of(None), rows)
            return users.find(np.arange(len(rows)), depth, barred)

        allotment = allot(files, rules, k, deepen)
        for one, (part, path, offered) in zip(files, ordered, strict=True):
            lists, few = chosen(one, allotment, rules, k)
            table = candidates_table(lists, one.tie).append_column("few", pa.array(few))
            write_arrow(table, f"{path}.lists")
            yield part, f"{path}.lists", offered


class _TellLists(ListDoFn):
    """A part's lists in a file to their tables."""

    @counted
    def process(self, stored: Stored, segments: pa.Table, repeats: pa.Table) -> Iterator[object]:
        part, path, offered = stored
        users = self.loaded.items.part_users(part, segments, repeats, self.loaded.searcher_of(None, offered))
        table = read_arrow(path)
        yield from list_outputs(part, users.tables(found_of(table), np.asarray(table["few"])))


@dataclass(kw_only=True)
class LimitedParts(RecommendParts):
    """As :class:`RecommendParts`, where an item is in no more lists than its capacity. folder: for what is between."""

    folder: str

    def outputs(self, source: PCollection, segments: AsSingleton, repeats: AsSingleton) -> Any:
        """See :meth:`RecommendParts.outputs`."""
        how = self.inputs, self.maker, self.shared
        find = _FindCandidates(*how)
        find.folder = self.folder
        lists = (
            source
            | "FindCandidates" >> beam.ParDo(find, segments, repeats).with_output_types(Stored)
            | "OneKey" >> beam.Map(lambda stored: (0, stored)).with_output_types(tuple[int, Stored])
            | "Together" >> beam.GroupByKey()
            | "All" >> beam.Values()
            | "Allot" >> beam.ParDo(_Allot(*how), segments, repeats).with_output_types(Stored)
            | "Apart" >> beam.Reshuffle()
        )
        return lists | "TellLists" >> outputs_of(beam.ParDo(_TellLists(*how), segments, repeats))
