"""All baselines by name: what a model must beat, or may be in ``recommend.model``.

To add one, write it as a class with the methods of :class:`Baseline` in a module of this folder and enter it below:
the configuration, the jobs, the plan and the report read it from here. This module imports nothing heavy, so that a
configuration is checked without NumPy.
"""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    import numpy as np
    import scipy.sparse as sp

    from topkin.interactions import Interactions


class Baseline(Protocol):
    """A recommender of few parameters, whose users are their histories."""

    def fit(self, history: "Interactions") -> Self:
        """Learn from the purchases before the cut; gives itself back."""

    def scores(self, history: "Interactions") -> "np.ndarray":
        """Scores of all items for some users, (n_users, n_items) float32, by what they bought.

        A score orders the items of one user and means nothing else; all are finite. The array is the
        caller's own, and is dense: ask for a block of users at a time.
        """

    def sparse_scores(self, history: "Interactions") -> "sp.csr_array | None":
        """The scores that are not 0, (n_users, n_items) float32, column numbers ascending and distinct.

        None where a baseline makes rows of all items: then there are :meth:`scores` alone.
        """

    def common_scores(self) -> "np.ndarray | None":
        """The scores of all items, (n_items,) float32, where every user has the same; otherwise None."""

    def explain(self, history: "Interactions", ids: "np.ndarray", most: int) -> "np.ndarray":
        """The bought items that add most to each listed item's score, (n_users, k, most) int32 padded -1.

        ids: (n_users, k) int32 padded -1, distinct within a user. Most first, ties by item number; all -1
        where nothing can be named.
        """

    def state(self) -> dict[str, "np.ndarray"]:
        """What was learned, by name."""

    def restore(self, state: dict[str, "np.ndarray"]) -> Self:
        """Take what another of the same settings learned; gives itself back."""


@dataclass(frozen=True, kw_only=True)
class BaselineEntry:
    """A baseline as the rest of topkin knows it.

    Args:
        label: Its name in the report.
        meaning: What it does, in one line of the report.
        source: Module of this folder, and class.
        options: Arguments of the class.
        neighbours: Whether the class takes ``evaluate.neighbours``.
        explains: Whether it names the bought items that a listed item comes from.
        requires: A library that it needs and topkin does not; it is then not among the defaults of
            ``evaluate.baselines``.
        cost: Time of a user's scores, in those of one dense row of all items, for the plan.
        by_time: Whether it tells something only where purchases have times.
        by_order: Whether it does only where they have times or another order.
        default: Whether it is among the defaults of ``evaluate.baselines``; what is not is a source of topkin's own
            lists, and is measured where it is named.
    """

    label: str
    meaning: str
    source: tuple[str, str]
    options: Mapping[str, float] = field(default_factory=dict)
    neighbours: bool = False
    explains: bool = False
    requires: str | None = None
    cost: float = 1.0
    by_time: bool = False
    by_order: bool = False
    default: bool = True

    def tells(self, *, times: bool, order: bool) -> bool:
        """Whether it tells something of purchases with these: times are an order too."""
        return times or not (self.by_time or (self.by_order and not order))

    def make(self, neighbours: int = 100) -> Baseline:
        """One that is not fitted yet; neighbours: of an item or a user, where it has any."""
        module, name = self.source
        options = {**self.options, "neighbours": neighbours} if self.neighbours else self.options
        baseline: Baseline = getattr(importlib.import_module(f"topkin.baselines.{module}"), name)(**options)
        return baseline

    @property
    def missing(self) -> str | None:
        """Why it cannot be fitted here; None where it can."""
        if self.requires is None or importlib.util.find_spec(self.requires) is not None:
            return None
        return f"the library {self.requires} is not installed: pip install {self.requires}"


BASELINES: Mapping[str, BaselineEntry] = {
    "popularity": BaselineEntry(
        label="Popularity",
        meaning="items by how many users bought them",
        source=("popularity", "Popularity"),
    ),
    "recent_popularity": BaselineEntry(
        label="Recent popularity",
        meaning="items by purchases in the last seven days",
        source=("popularity", "RecentPopularity"),
        by_time=True,
    ),
    "recent_popularity_30": BaselineEntry(
        label="Popularity of 30 days",
        meaning="items by purchases in the last thirty days",
        source=("popularity", "RecentPopularity"),
        options={"days": 30.0},
        by_time=True,
    ),
    "own_frequency": BaselineEntry(
        label="Own frequency",
        meaning="what the user bought most often, then popularity",
        source=("popularity", "OwnFrequency"),
    ),
    "item_knn": BaselineEntry(
        label="Item-kNN",
        meaning="items bought by the same users as the user's items",
        source=("knn", "ItemKNN"),
        neighbours=True,
        explains=True,
    ),
    "item_knn_recent": BaselineEntry(
        label="Item-kNN × recency",
        meaning="item-kNN, lifted by what sells now",
        source=("knn", "ItemKNN"),
        options={"recency": 0.65},
        neighbours=True,
        explains=True,
        by_time=True,
    ),
    "item_knn_position": BaselineEntry(
        label="Item-kNN by position",
        meaning="item-kNN, in which what the user bought last counts most",
        source=("knn", "ItemKNN"),
        options={"position": 1.0},
        neighbours=True,
        explains=True,
        by_order=True,
    ),
    "item_knn_nearby": BaselineEntry(
        label="Item-kNN of nearby purchases",
        meaning="items bought in the same basket as what the user bought last, or soon before or after",
        source=("knn", "ItemKNN"),
        options={"position": 1.0, "window": 30},
        neighbours=True,
        explains=True,
        by_order=True,
    ),
    "next_items": BaselineEntry(
        label="Next items",
        meaning="items that were bought soon after what the user bought last, or soon before",
        source=("knn", "NextItems"),
        options={"position": 1.0},
        neighbours=True,
        explains=True,
        by_order=True,
        default=False,
    ),
    "random_walk": BaselineEntry(
        label="Random walk",
        meaning="where walks from the user's items lead, over their buyers to what these bought",
        source=("knn", "RandomWalk"),
        neighbours=True,
        explains=True,
    ),
    "user_knn": BaselineEntry(
        label="User-kNN",
        meaning="what users who bought alike bought",
        source=("knn", "UserKNN"),
        neighbours=True,
    ),
    "user_knn_rarity": BaselineEntry(
        label="User-kNN by rarity",
        meaning="what users bought who share what few others bought",
        source=("rarity_knn", "RarityKNN"),
        explains=True,
        default=False,
    ),
    "graph_filter": BaselineEntry(
        label="Graph filter",
        meaning="two steps over the graph of purchases, in closed form",
        source=("graph_filter", "GraphFilter"),
    ),
    "ials": BaselineEntry(
        label="iALS",
        meaning="factors of the purchases, by least squares",
        source=("als", "IALS"),
        requires="implicit",
    ),
}


SOURCES = (
    *("recent_popularity_30", "item_knn_recent", "item_knn_position", "item_knn_nearby"),
    *("next_items", "random_walk", "user_knn_rarity"),
)
"""Those that are tried beside the encoder, see ``recommend.sources``: the ones that validation took anywhere."""
SOURCES_BY_TIME = ("recent_popularity_30", "item_knn_recent", "next_items", "user_knn_rarity")
"""Those of them that are tried where purchases have times, and no sources were asked for."""


def left_out(names: Sequence[str]) -> dict[str, str]:
    """Those of the baselines that cannot be fitted here, and why not."""
    return {name: why for name in names if (why := BASELINES[name].missing)}


def make_baselines(names: Sequence[str], neighbours: int) -> dict[str, Baseline]:
    """Baselines by name that are not fitted yet, in the order of BASELINES, without :func:`left_out`."""
    return {
        name: entry.make(neighbours) for name, entry in BASELINES.items() if name in names and entry.missing is None
    }
