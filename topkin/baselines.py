"""What a model must beat, by name; and how it is kept between those who fit it and those who score.

Use: ``BASELINES[name]().fit(history).scores(some)`` gives a dense block of scores, to be ranked by
``top_k_of_scores`` with the exclusions of the evaluation. Both histories hold purchases before the cut, aged
at the cut; ``some`` may be of users never fitted. Everything, recency too, is computed from them. On Online
Retail, as its readme splits it, they give the figures printed there.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, Self

import numpy as np
import pyarrow as pa

from topkin import factors, storage
from topkin.errors import ArtifactError
from topkin.interactions import Interactions
from topkin.neighbours import GraphFilter, ItemKNN, UserKNN
from topkin.popular import OwnFrequency, Popularity, RecentPopularity


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
    "ials": factors.IALS,
}


def left_out(names: Sequence[str]) -> dict[str, str]:
    """Those of the baselines that cannot be fitted here, and why not."""
    return {name: factors.NOT_INSTALLED for name in names if name == "ials" and not factors.installed()}


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
