"""What a model must beat, by name, or is; and how it is kept between those who fit it and those who score.

Use: ``BASELINES[name]().fit(history).scores(some)`` gives a dense block of scores, and :func:`best_of` the lists
that they make, a block of users at a time. Both histories hold purchases before the cut, aged
at the cut; ``some`` may be of users never fitted. Everything, recency too, is computed from them. On Online
Retail, as its readme splits it, they give the figures printed there.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol, Self

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage
from topkin.baselines import als
from topkin.baselines.knn import GraphFilter, ItemKNN, UserKNN
from topkin.baselines.popularity import OwnFrequency, Popularity, RecentPopularity
from topkin.errors import ArtifactError
from topkin.interactions import Interactions
from topkin.search.topk import BUDGET_BYTES, Exclude, TopK, top_k_of_scores

CELL_BYTES = 32  # of a user and an item: the score, what it is made of, what ranks it


class Baseline(Protocol):
    """A recommender of few parameters, whose users are their histories."""

    def fit(self, history: Interactions) -> Self:
        """Learn from the purchases before the cut; gives itself back."""

    def scores(self, history: Interactions) -> np.ndarray:
        """Scores of all items for some users, (n_users, n_items) float32, by what they bought.

        A score orders the items of one user and means nothing else; all are finite. The array is the
        caller's own, and is dense: ask for a block of users at a time.
        """

    def state(self) -> dict[str, np.ndarray]:
        """What was learned, by name."""

    def restore(self, state: dict[str, np.ndarray]) -> Self:
        """Take what another of the same settings learned; gives itself back."""


BASELINES: dict[str, Callable[[], Baseline]] = {
    "popularity": Popularity,
    "recent_popularity": RecentPopularity,
    "recent_popularity_30": partial(RecentPopularity, days=30.0),
    "own_frequency": OwnFrequency,
    "item_knn": ItemKNN,
    "item_knn_recent": partial(ItemKNN, recency=0.65),
    "user_knn": UserKNN,
    "graph_filter": GraphFilter,
    "ials": als.IALS,
}


def left_out(names: Sequence[str]) -> dict[str, str]:
    """Those of the baselines that cannot be fitted here, and why not."""
    return {name: als.NOT_INSTALLED for name in names if name == "ials" and not als.installed()}


def make_baselines(names: Sequence[str], neighbours: int) -> dict[str, Baseline]:
    """Baselines by name that are not fitted yet, in the order of BASELINES, without :func:`left_out`.

    neighbours: of an item in item-kNN and of a user in user-kNN.
    """
    missing = left_out(names)
    made = {name: make() for name, make in BASELINES.items() if name in names and name not in missing}
    for baseline in made.values():
        if isinstance(baseline, ItemKNN | UserKNN):
            baseline.neighbours = neighbours
    return made


def fit_baselines(history: Interactions, names: Sequence[str], neighbours: int) -> dict[str, Baseline]:
    """The baselines of :func:`make_baselines`, fitted on the purchases before the as-of date."""
    fitted = make_baselines(names, neighbours)
    for baseline in fitted.values():
        baseline.fit(history)
    return fitted


def best_of(
    baseline: Baseline,
    history: Interactions,
    k: int,
    *,
    exclude: Exclude | None = None,
    allowed: np.ndarray | None = None,
    budget_bytes: int = BUDGET_BYTES,
) -> TopK:
    """The k items that a fitted baseline scores highest for each user: ids (n, k) int32, scores (n, k) float32.

    history: the users' purchases; ``exclude=(history.indptr, history.items)`` leaves out what they bought. exclude,
    allowed and the order as in ``topk.top_k_of_scores``. budget_bytes: bound of the working memory, but for one
    user's row and what the baseline needs beside its scores.
    """
    ids, scores = np.full((history.n_users, k), -1, np.int32), np.full((history.n_users, k), -np.inf, np.float32)
    rows = max(1, budget_bytes // (CELL_BYTES * max(history.n_items, 1)))
    for start in range(0, history.n_users, rows):
        users = np.arange(start, min(start + rows, history.n_users))
        part = None
        if exclude is not None:
            indptr = exclude[0][start : users[-1] + 2]
            part = indptr - indptr[0], exclude[1][indptr[0] : indptr[-1]]
        found = baseline.scores(history.take(users))
        ids[users], scores[users] = top_k_of_scores(found, k, exclude=part, allowed=allowed)
    return ids, scores


def known_purchases(
    prepared: str, parts: int, item_ids: pa.Array | pa.ChunkedArray, as_of: datetime
) -> list[Interactions]:
    """What each part's users bought before the as-of date, from a folder of the stage prepare.

    A part is read at a time, as item numbers: the ids of all purchases need not fit in memory, nor in one Arrow array.
    """
    files = [storage.join(prepared, "histories", storage.part_name(part, parts)) for part in range(parts)]
    tables = (storage.read_parquet(file, ["items", "times", "weights"]) for file in files)
    return [Interactions.from_histories(table, item_ids, as_of) for table in tables]


def save_baselines(baselines: Mapping[str, Baseline], folder: str) -> None:
    """Write what baselines learned, an array a file."""
    for name, baseline in baselines.items():
        for part, values in baseline.state().items():
            table = pa.table({"values": values.reshape(-1)}, metadata={"shape": ",".join(map(str, values.shape))})
            storage.write_parquet(table, storage.join(folder, name, f"{part}.parquet"))


def load_baselines(folder: str, names: Sequence[str], neighbours: int) -> dict[str, Baseline]:
    """The baselines of :func:`make_baselines` with what :func:`save_baselines` wrote.

    Raises ArtifactError where a file is missing or damaged.
    """
    made = make_baselines(names, neighbours)
    for name, baseline in made.items():
        state = {}
        for file in storage.files(storage.join(folder, name)):
            table = storage.read_parquet(storage.join(folder, name, file))
            shape = [int(n) for n in table.schema.metadata[b"shape"].split(b",")]
            state[file.removesuffix(".parquet")] = np.asarray(table["values"].combine_chunks()).reshape(shape)
        if not state:
            raise ArtifactError(f"{folder} holds no baseline {name}: run topkin evaluate again with --force")
        baseline.restore(state)
    return made
