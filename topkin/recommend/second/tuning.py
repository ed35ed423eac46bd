"""Which sources stand beside the encoder and how they weigh: what ranks the lists of validation clearly better."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from topkin.linalg.csr import Csr
from topkin.metrics.bootstrap import paired_bootstrap
from topkin.metrics.ranking import hits_of, ndcg_of_ranks, ranked_above
from topkin.recommend.second.candidates import ENCODER, Candidates
from topkin.recommend.second.stage import blended

AT = 20
METRIC = f"ndcg@{AT}"
GRID = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
WIDEST = 52.0
"""Weights that are tried beside the encoder's 1; where the best is the highest, twice it too, up to this."""
FOLDS = 5


@dataclass(frozen=True)
class Case:
    """Users of one period: their candidates, and what each bought after it and not before, at least one item."""

    some: Candidates
    truth: Csr

    def fold(self, number: int) -> "Case":
        """Every FOLDS-th user from the ``number``-th on."""
        users = np.arange(number, self.truth.n_rows, FOLDS)
        return Case(self.some.take(users), self.truth.take(users))

    def judged(self, weights: np.ndarray) -> np.ndarray:
        """The NDCG@20 of each user's list, (n_users,) float64. weights: (n_rankers,) float64."""
        users, some, rows, columns = self._found
        values = np.where(some.items < 0, np.float32(-np.inf), blended(some.features, weights))
        return ndcg_of_ranks(users[rows], 1 + ranked_above(values, rows, columns), self.truth.lengths, AT)

    @cached_property
    def _found(self) -> tuple[np.ndarray, Candidates, np.ndarray, np.ndarray]:
        """The users of whose items some are candidates, (m,); their candidates; row and column of each such item."""
        hits = hits_of(self.some.items, self.truth)
        users = np.flatnonzero(hits.any(axis=1))  # no weights make the lists of the others worth anything
        rows, columns = np.nonzero(hits[users])
        return users, self.some.take(users), rows, columns


@dataclass(frozen=True)
class Choice:
    """What validation says of a second stage.

    Args:
        weights: of the encoder and of the sources that take part, by name; empty where the encoder ranks alone.
        reason: why it does; empty where it does not.
        users: who judged, of all periods.
        periods: how many there were.
        values: mean NDCG@20 over the users of the encoder, of each source alone, and of the ``second_stage`` by weights
            that other users chose.
        interval: 95 %, of the second stage's value less the encoder's, paired by users.
    """

    weights: Mapping[str, float]
    reason: str = ""
    users: int = 0
    periods: int = 0
    values: Mapping[str, float] | None = None
    interval: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """``blend.json``."""
        interval = None if self.interval is None else list(self.interval)
        return {
            "weights": dict(self.weights),
            "reason": self.reason,
            "users": self.users,
            "periods": self.periods,
            "metric": METRIC,
            "values": dict(self.values or {}),
            "interval": interval,
        }


def choose(cases: Sequence[Case], names: Sequence[str]) -> Choice:
    """The blend that ranks best, source by source; the encoder alone unless validation is sure of more.

    Each turn takes the source that gains most of those whose mean gain is above two of its standard errors, at the
    least weight within a standard error of its best; turns end where there is none. So many tries find some gain by
    chance: it is measured on users who did not choose, each fifth by the weights of the others, and what all users
    choose is used where the 95 % interval of that gain over the encoder lies above zero.

    Args:
        cases: Of each period, features of the encoder and of the sources in the order of ``names``.
        names: Of the sources.
    """
    rankers = (ENCODER, *names)
    one = np.eye(len(rankers))
    alone = {name: float(_judged(cases, row).mean()) for name, row in zip(rankers, one, strict=True)}
    users = sum(case.truth.n_rows for case in cases)
    choice = Choice({}, users=users, periods=len(cases), values=alone)
    weights = _weights(cases, one[0])
    if not weights[1:].any():
        return replace(choice, reason="no source beside the encoder clearly raised validation")
    folds = [[case.fold(number) for case in cases if case.truth.n_rows >= FOLDS] for number in range(FOLDS)]
    blend, encoder = [], []
    for number, judges in enumerate(folds):
        choosing = [case for other, fold in enumerate(folds) if other != number for case in fold]
        blend.append(_judged(judges, _weights(choosing, one[0])))
        encoder.append(_judged(judges, one[0]))
    values = np.concatenate(blend)
    low, _, high = paired_bootstrap(values, np.concatenate(encoder))
    choice = replace(choice, values={**alone, "second_stage": float(values.mean())}, interval=(low, high))
    if low <= 0:
        return replace(choice, reason="beside the encoder the sources may gain nothing: the interval holds zero")
    return replace(choice, weights={n: float(w) for n, w in zip(rankers, weights, strict=True) if w or n == ENCODER})


def _judged(cases: Sequence[Case], weights: np.ndarray) -> np.ndarray:
    return np.concatenate([case.judged(weights) for case in cases])


def _weights(cases: Sequence[Case], start: np.ndarray) -> np.ndarray:
    """The weights found turn by turn, (n_rankers,) float64, from those of the encoder alone.

    A source that gained less than a standard error in the turn before is tried no more: others say what it says.
    """
    weights, values, tried = start, _judged(cases, start), list(range(1, len(start)))
    for _ in range(2 * len(start)):
        turns = {number: _turn(cases, weights, values, number) for number in tried}
        tried = [number for number, turn in turns.items() if _sure(turn[1] - values, 1.0)]
        sure = [turns[number] for number in tried if _sure(turns[number][1] - values, 2.0)]
        if not sure:
            break
        weights, values = max(sure, key=lambda turn: float(turn[1].mean()))  # the first of equal ones
    return weights


def _turn(cases: Sequence[Case], weights: np.ndarray, values: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The weights with another one of one source, and what each user's list is then worth."""
    tried: list[tuple[np.ndarray, np.ndarray]] = []
    options = [0.0, *GRID]
    while options:
        option = options.pop(0)
        other = weights.copy()
        other[number] = option
        tried.append((other, values if option == weights[number] else _judged(cases, other)))
        top = max(range(len(tried)), key=lambda i: float(tried[i][1].mean()))
        if not options and top == len(tried) - 1 and 2 * option <= WIDEST:
            options.append(2 * option)
    best = tried[top][1]
    return next(one for one in tried if not _sure(best - one[1], 1.0))


def _sure(gain: np.ndarray, errors: float) -> bool:
    """Whether the mean gain over users is above so many of its standard errors, and above nothing."""
    return bool(gain.mean() > errors * gain.std() / math.sqrt(len(gain)) + 1e-9)
