"""What training reads of the prepared histories: purchases before a cut, streamed part by part, and counted."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from topkin.artifacts import storage
from topkin.encoding.svd import SpectralSettings, Spectrum
from topkin.errors import ArtifactError
from topkin.interactions import COLUMNS, Interactions, concatenate
from topkin.models.data.feature_rows import FeatureRows
from topkin.models.data.purchase_weights import COLUMN, flat, read_features

if TYPE_CHECKING:
    from topkin.config.sections import Settings  # workers, who need none, would take a sixth of a second to read it

BUFFER_PURCHASES = 20_000_000  # shuffled at a time: about 250 MB
ROWS_LEARNED = 2_000_000  # purchases that labels and knots of their features are learned of


def before_cut(history: Interactions, days: float) -> Interactions:
    """The purchases more than ``days`` old, with their ages counted from then: as at an as-of date, none of its own."""
    known = _where(history, history.ages > days, days)
    return known if history.inputs is None else replace(known, inputs=before_cut(history.inputs, days))


def after_cut(history: Interactions, days: float) -> Interactions:
    """The purchases at most ``days`` old, without inputs."""
    return _where(history, history.ages <= days, 0.0)


def fresh(history: Interactions, days: float) -> Interactions:
    """The distinct items that each user bought in the last ``days`` and not before."""
    after = after_cut(history, days).distinct()
    users = np.flatnonzero(np.diff(after.indptr))  # few of them: what the others bought before says nothing
    before = before_cut(history.take(users), days).distinct()
    keys = after.users.astype(np.int64) * history.n_items + after.items
    bought = users[before.users] * history.n_items + before.items
    return _where(after, ~np.isin(keys, bought), 0.0)


def _where(history: Interactions, keep: np.ndarray, days: float) -> Interactions:
    kept = history.keep(keep)
    return replace(kept, ages=kept.ages - np.float32(days))


class Workers(Protocol):
    """What does passes over all parts elsewhere than in this process."""

    def decompose(
        self,
        purchases: "PreparedHistories",
        weigh: Callable[[Interactions], sp.csr_matrix],
        settings: SpectralSettings,
    ) -> Spectrum:
        """As ``svd.decompose`` of what ``weigh`` makes of each part before the cut; of more items than columns."""
        ...

    def next_item_ridge(
        self,
        purchases: "PreparedHistories",
        in_vectors: np.ndarray,
        buyers: np.ndarray,
        settings: Any,
    ) -> np.ndarray:
        """As ``next_item_ridge.next_item_ridge`` of the parts before the cut."""
        ...


@dataclass(frozen=True)
class PreparedHistories:
    """The histories of a prepared folder, part by part.

    item_ids: the catalogue's, whose row numbers the histories get. days: how many days before the as-of date
    the known purchases end: 0 for all, more to keep the last ones for validation. featured: whether parts have the
    features of purchases. workers: who decomposes them; this process where there are none. some: whether the ids
    are not all that the histories name: purchases of others are not there. epoch: of how many purchases the parts are
    of which one pass of :meth:`named_groups` consists, drawn anew for each; all by default.
    """

    folder: str
    item_ids: pa.ChunkedArray
    as_of: datetime
    days: float = 0.0
    buffer: int = BUFFER_PURCHASES
    featured: bool = False
    workers: Workers | None = None
    some: bool = False
    epoch: float = math.inf

    def with_ids(self, item_ids: pa.ChunkedArray) -> Self:
        """The same with these ids."""
        return replace(self, item_ids=item_ids)

    def to_send(self) -> Self:
        """The same for workers, who read the ids from the catalogue, and need no features for a closed form."""
        none = pa.chunked_array([], self.item_ids.type)  # a slice of none would be pickled with all ids
        return replace(self, item_ids=none, featured=False, workers=None)

    @cached_property
    def rows(self) -> FeatureRows | None:
        """How features of purchases are read: by what ROWS_LEARNED known ones are, and none that came after the cut."""
        if not self.featured:
            return None
        tables: list[pa.Table] = []
        for name in self.names():
            table = self._table(name, [*COLUMNS, COLUMN])
            ages = self._interactions(table).ages
            tables.append(flat(table).filter(pa.array(ages > self.days)))
            if sum(map(len, tables)) >= ROWS_LEARNED:
                break
        return FeatureRows.of(pa.concat_tables(tables))

    def names(self) -> list[str]:
        """The part files, in order. Raises ArtifactError where there is none."""
        names = [n for n in storage.files(self.folder) if n.endswith(".parquet")]
        if not names:
            raise ArtifactError(f"{self.folder} holds no Parquet file: run topkin prepare again with --force")
        return names

    def part(self, name: str) -> Interactions:
        """One part as it was at the as-of date, the last ``days`` included."""
        table = self._table(name, [*COLUMNS, *([COLUMN] if self.featured else [])])
        part = self._interactions(table)
        if self.rows is not None:
            part = replace(part, features=read_features(self.rows, table))
        return part.of_known_items() if self.some else part

    def _interactions(self, table: pa.Table) -> Interactions:
        return Interactions.from_histories(table, self.item_ids, self.as_of, lacking=self.some)

    def _table(self, name: str, columns: Sequence[str]) -> pa.Table:
        return storage.read_parquet(storage.join(self.folder, name), columns)

    def user_ids(self, name: str) -> pa.ChunkedArray:
        """The ids of a part's users, in their order."""
        return storage.read_parquet(storage.join(self.folder, name), ["user_id"])["user_id"]

    def user_features(self, name: str) -> pa.Table:
        """``user_id`` and ``features`` of a part's users, in their order; the first alone where they have none."""
        return storage.read_parquet(storage.join(self.folder, name), ["user_id", "features"])

    def groups(self, rng: np.random.Generator) -> Iterator[Interactions]:
        """The known purchases in groups of parts that are shuffled together, the parts in random order.

        Of all parts, or of those drawn first that have ``epoch`` purchases together.
        """
        return (purchases for _, purchases in self.named_groups(rng))

    def named_groups(self, rng: np.random.Generator) -> Iterator[tuple[list[str], Interactions]]:
        """As :meth:`groups`, with the names of each group's parts, in the order of its users."""
        names: list[str] = []
        group: list[Interactions] = []
        read = 0
        for name in rng.permutation(self.names()):
            if read >= self.epoch:
                break
            names.append(str(name))
            group.append(before_cut(self.part(str(name)), self.days))
            read += len(group[-1].items)
            if sum(len(p.items) for p in group) >= self.buffer:
                yield names, concatenate(group)
                names, group = [], []
        if group:
            yield names, concatenate(group)


def open_prepared(
    prepared: str, catalogue: pa.Table, as_of: datetime, settings: "Settings"
) -> tuple[pa.Table, PreparedHistories]:
    """The items of a prepared folder that are learned, rows of its catalogue, and the histories of its users in them.

    Those are all, or the ``train.max_items`` that sold most.
    """
    learned = sold_most(catalogue, settings.train.max_items)
    return learned, PreparedHistories(
        storage.join(prepared, "histories"),
        learned["item_id"],
        as_of,
        featured=bool(settings.purchases.features),
        some=len(learned) < len(catalogue),
        epoch=settings.train.max_purchases,
    )


def sold_most(catalogue: pa.Table, most: int) -> pa.Table:
    """The ``most`` items of a catalogue that sold most, in its order; of equal sales those that come first."""
    if len(catalogue) <= most:
        return catalogue
    sales = np.asarray(catalogue["events"]).astype(np.int64)
    return catalogue.take(pa.array(np.sort(np.argsort(-sales, kind="stable")[:most])))


@dataclass(frozen=True)
class ItemCounts:
    """What training counts of each item before the cut, each (n_items,) int64.

    events: purchases. buyers: distinct users. recent: purchases of the last days. targets: examples that
    have the item as target. inputs: events of any type that histories pool, where that is not the purchases.
    """

    events: np.ndarray
    buyers: np.ndarray
    recent: np.ndarray
    targets: np.ndarray
    inputs: np.ndarray | None = None

    @property
    def examples(self) -> int:
        """Examples of one epoch."""
        return int(self.targets.sum())


def count(purchases: PreparedHistories, recent_days: float) -> ItemCounts:
    """Count, in one pass over the parts."""
    n = len(purchases.item_ids)
    events, buyers, recent, targets = (np.zeros(n, np.int64) for _ in range(4))
    inputs: np.ndarray | None = None
    for name in purchases.names():
        history = before_cut(purchases.part(name), purchases.days)
        events += np.bincount(history.items, minlength=n)
        recent += np.bincount(history.items[history.ages <= recent_days], minlength=n)
        distinct = history.distinct()
        buyers += np.bincount(distinct.items, minlength=n)
        targets += np.bincount(distinct.items[_asked_for(distinct)], minlength=n)
        if history.inputs is not None:
            inputs = np.bincount(history.inputs.items, minlength=n) + (0 if inputs is None else inputs)
    return ItemCounts(events, buyers, recent, targets, inputs)


def _asked_for(distinct: Interactions) -> np.ndarray:
    """The distinct purchases that training asks for: those of users of whom it knows another item, (n,) bool."""
    others = distinct.pooled.distinct()
    mine = np.repeat(np.diff(others.indptr), np.diff(distinct.indptr))
    if distinct.inputs is None:
        return np.asarray(mine > 1)
    keys = others.users.astype(np.int64) * others.n_items + others.items
    return np.asarray(mine > np.isin(distinct.users.astype(np.int64) * distinct.n_items + distinct.items, keys))
