"""One pass over the candidates of all users, which lie in files: ``capacity.Allotment``, band by band of scores.

In memory are the pairs of one band, some 60 bytes each and BAND of them or little more, and 12 bytes for each place of
a list. A user whose candidates run out gets more, and what is not above the highest of the new pairs is given out anew:
among more pairs a piece of an item goes to no lower score, so that an item which is given out to higher scores than a
user can have is not looked for.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from topkin.artifacts.shuffle import read_arrow, write_arrow
from topkin.recommend.rules.capacity import Allotment, CandidatePairs
from topkin.recommend.rules.found import BUDGET, MORE, Found
from topkin.recommend.rules.greedy import first
from topkin.recommend.rules.shop import FEW_PER, FEW_STOCK, REASONS, ShopRules
from topkin.recommend.second.stage import BlendedLists

BAND = 1 << 24
"""Pairs that are settled at a time."""
_SAMPLED = 4096
_POPULAR = np.float32(-1e30)  # below all scores of a model

Deepen = Callable[[int, np.ndarray, int, np.ndarray], Found]
"""Candidates of a part's users: the part, rows, how many of each, and (n_items,) bool, the items not looked for."""


def priorities(candidates: Found) -> np.ndarray:
    """By what the candidates of all users are compared, (n, depth) float32, which never rises within a user.

    The final score, or where a personal part ranks the lowest one so far. What sells comes after all of a model: by its
    source, then by how often it sold.
    """
    order = np.minimum.accumulate(candidates.final, axis=1)
    selling = candidates.sources > 0
    if selling.any():
        popular = _POPULAR * (1 + candidates.sources[selling] - np.log1p(candidates.scores[selling]) / 64)
        order[selling] = popular.astype(np.float32)
    return order


def candidates_table(candidates: Found, tie: np.ndarray) -> pa.Table:
    """Candidates as they lie in a file: a row a user. tie: (n,) uint64, see ``capacity.Allotment``."""
    columns = dict(zip(("ids", "scores", "sources"), candidates[:3], strict=True)) | {
        "priority": priorities(candidates)
    }
    if candidates.blend is not None:
        columns |= {
            "cosines": candidates.blend.cosines,
            "final": candidates.blend.final,
            "decided": candidates.blend.decided,
        }
    width = candidates.ids.shape[1]
    lists = {n: pa.FixedSizeListArray.from_arrays(pa.array(v.reshape(-1)), width) for n, v in columns.items()}
    return pa.table({"tie": pa.array(tie), **lists})


def _column(table: pa.Table, name: str) -> np.ndarray:
    width = table.schema.field(name).type.list_size
    return np.asarray(table[name].combine_chunks().flatten()).reshape(-1, width)


@dataclass
class PartFiles:
    """The candidates of a part's users, in files: those of all, then of some more of each.

    number: of its first user. paths, rows: of each file, and whose candidates it has. file: (n,) which counts. more:
    (n,) bool, whose candidates are not all that there are.
    """

    part: int
    number: int
    paths: list[str]
    rows: list[np.ndarray]
    tie: np.ndarray
    more: np.ndarray
    file: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.file = np.zeros(len(self.tie), np.int64)

    @classmethod
    def of(cls, part: int, number: int, path: str) -> "PartFiles":
        """From the first file, which has all candidates of a user who has no last one."""
        table = read_arrow(path, ["tie", "ids"])
        tie, more = np.asarray(table["tie"]), _column(table, "ids")[:, -1] >= 0
        return cls(part, number, [path], [np.arange(len(tie))], tie, more)

    @property
    def users(self) -> slice:
        """Their numbers."""
        return slice(self.number, self.number + len(self.tie))

    def tables(
        self, columns: list[str] | None = None, asking: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray, pa.Table]]:
        """Of each file the users whose candidates it has, their rows in it, and the table; asking: of whom."""
        for number, (path, rows) in enumerate(zip(self.paths, self.rows, strict=True)):
            mine = self.file[rows] == number
            at = np.flatnonzero(mine if asking is None else mine & asking[rows])
            yield rows[at], at, read_arrow(path, columns)

    def pairs(self, low: float, high: float, asking: np.ndarray) -> CandidatePairs:
        """The pairs with a priority from ``low`` on and below ``high``, by user. asking: (n,) bool, whose."""
        pairs = []
        for rows, at, table in self.tables(["ids", "priority"], asking):
            ids, priority = _column(table, "ids"), _column(table, "priority")
            if len(at) < len(ids):
                ids, priority = ids[at], priority[at]
            some = (ids >= 0) & (priority >= low) & (priority < high)
            user = np.repeat((rows + self.number).astype(np.int32), some.sum(axis=1))
            place = np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape)[some]
            pairs.append(CandidatePairs(user, ids[some], priority[some], place))
        if len(pairs) == 1:
            return pairs[0]
        whole = CandidatePairs(*map(np.concatenate, zip(*pairs, strict=True)))
        return CandidatePairs(*(values[np.argsort(whole.user, kind="stable")] for values in whole))

    def candidates(self, rows: np.ndarray) -> Found:
        """The candidates of some users, (m,) ascending, as wide as those of the widest."""
        place = np.full(len(self.tie), -1)
        place[rows] = np.arange(len(rows))
        parts = [(place[of], found_of(table).take(at)) for of, at, table in self.tables()]
        width = max(candidates.ids.shape[1] for _, candidates in parts)
        every = np.concatenate([of for of, _ in parts])
        whole = Found.joined([candidates.wide(width) for _, candidates in parts])
        order = np.argsort(every, kind="stable")
        return whole.take(order[np.searchsorted(every[order], np.arange(len(rows)))])

    def short(self, allotment: Allotment) -> np.ndarray:
        """The users who have fewer items than a list has, and may get more candidates, (m,) int."""
        return np.flatnonzero(self.more & (allotment.count[self.users] < allotment.items.shape[1]))

    def add(
        self, rows: np.ndarray, candidates: Found, least: np.ndarray, *, had: np.ndarray, more: np.ndarray
    ) -> float:
        """Candidates of some users beside those they had, in a file; returns the highest priority of the new ones.

        least: (n_items,) float32, below which a pair cannot have an item.
        """
        path, table = f"{self.paths[0]}.{len(self.paths)}", candidates_table(candidates, self.tie[rows])
        write_arrow(table, path)
        new = (np.arange(candidates.ids.shape[1]) >= had[:, None]) & (candidates.ids >= 0)
        self.file[rows], self.more[rows] = len(self.paths), more
        self.paths.append(path)
        self.rows.append(rows)
        priority, items = _column(table, "priority")[new], candidates.ids[new]
        return float(priority[priority >= least[items]].max(initial=-np.inf))

    def sample(self) -> np.ndarray:
        """Some priorities, of all users alike."""
        table = read_arrow(self.paths[0], ["priority"])
        step = max(1, len(table) // _SAMPLED)
        return _column(table, "priority")[::step].reshape(-1)


def allot(parts: Sequence[PartFiles], rules: ShopRules, k: int, deepen: Deepen, band: int = BAND) -> Allotment:
    """Give the items out to the users of all parts, and ask for more candidates where they run out.

    Args:
        parts: All of them, in the order of their users' numbers; files of more candidates are added.
        rules: With a capacity.
        k: Length of a list.
        deepen: What finds more candidates.
        band: CandidatePairs that are settled at a time.
    """
    assert rules.capacity is not None, "it is asked for with a capacity alone"
    n_items, depth = len(rules.capacity), rules.depth(k)
    tie = np.concatenate([np.zeros(0, np.uint64), *(part.tie for part in parts)])
    allotment, top = Allotment.empty(rules.capacity, rules.caps, tie, k), np.inf
    while True:
        asking = allotment.count < k
        for low, high in _bands(parts, int(asking.sum()) * depth, band, top) if top > -np.inf else ():
            some = [part.pairs(low, high, asking[part.users]) for part in parts]
            allotment.take(CandidatePairs(*map(np.concatenate, zip(*some, strict=True))))
        if not any(len(part.short(allotment)) for part in parts):
            return allotment
        depth = min(MORE * depth, n_items)
        lowest = allotment.lowest
        top = max(_more(part, allotment, lowest, depth, deepen) for part in parts)
        allotment.back_to(top)


def _bands(parts: Sequence[PartFiles], pairs: int, band: int, top: float) -> list[tuple[float, float]]:
    """From where up to where the scores of each band go, the highest first, down from ``top``, which is in it."""
    n, end = -(-pairs // band), np.nextafter(np.float32(top), np.float32(np.inf))
    if n < 2:
        return [(-np.inf, end)]
    sample = np.concatenate([part.sample() for part in parts])
    sample = sample[np.isfinite(sample) & (sample <= top)]
    edges = np.unique(np.quantile(sample, np.arange(1, n) / n, method="nearest")).tolist() if len(sample) else []
    return list(itertools.pairwise([-np.inf, *edges, end]))[::-1]


def _more(part: PartFiles, allotment: Allotment, lowest_given: np.ndarray, depth: int, deepen: Deepen) -> float:
    """Add candidates to those of a part's users who are short; returns the highest priority of those that may have an
    item, -inf for none. lowest_given: ``made.lowest``.
    """
    n_items, rows = len(allotment.stock), part.short(allotment)
    size, given_out, top = max(1, BUDGET // depth), allotment.stock == 0, -np.inf
    least = np.where(given_out, lowest_given, np.float32(-np.inf))
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        old = part.candidates(some)
        lowest = np.where(old.ids >= 0, priorities(old), np.float32(np.inf)).min(axis=1)
        new = deepen(part.part, some, depth, given_out & (lowest_given > lowest.max()))
        of = np.arange(len(some))[:, None] * n_items
        again = np.isin(of + new.ids, of + old.ids) | (new.ids < 0)
        both = old.beside(new.without(again))
        whole = both.at(first(both.ids, both.ids.shape[1]))
        more = (new.ids[:, -1] >= 0) & (depth < n_items)
        top = max(top, part.add(some, whole, least, had=(old.ids >= 0).sum(axis=1), more=more))
    return top


def chosen(part: PartFiles, allotment: Allotment, rules: ShopRules, k: int) -> tuple[Found, np.ndarray]:
    """The lists of a part's users, and why the short ones are, as ``deepen.ruled_lists`` gives them."""
    own = allotment.places[part.users]
    places = np.sort(np.where(own < 0, np.iinfo(np.int32).max, own), axis=1)
    places = np.where(np.arange(k) < allotment.count[part.users, None], places, np.int32(-1))
    lists, few = None, np.full(len(part.tie), -1, np.int8)
    for number, (rows, at, table) in enumerate(part.tables()):
        candidates, of = found_of(table), part.rows[number]
        some = candidates.at(np.where((part.file[of] == number)[:, None], places[of], -1))
        if lists is None:
            lists = some
            short = np.flatnonzero(places[:, -1] < 0)
            left, last = candidates.ids[short], candidates.ids[short, -1] >= 0
            full = rules.chosen(left, candidates.final[short], k, by_relevance=False)[:, -1] >= 0
            enough = (left >= 0).sum(axis=1) >= k
            few[short] = np.where(full | last, REASONS.index(FEW_STOCK), np.where(enough, REASONS.index(FEW_PER), -1))
        else:
            lists.put(rows, some.take(at))
    assert lists is not None, "there is a first file"
    if lists.blend is not None:  # a candidate that was found later may have a higher score
        lists = lists.at(np.argsort(-lists.final, axis=1, kind="stable"))
    return lists, few


def found_of(table: pa.Table) -> Found:
    """The candidates or lists of a :func:`candidates_table`."""
    ids, scores, sources = (_column(table, name) for name in ("ids", "scores", "sources"))
    if "final" not in table.column_names:
        return Found(ids, scores, sources)
    return Found(ids, scores, sources, BlendedLists(ids, *(_column(table, n) for n in ("cosines", "final", "decided"))))
