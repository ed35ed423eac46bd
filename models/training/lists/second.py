"""The second stage, chosen on the periods of validation: each with the sources as they were before it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from topkin.baselines.fitted import fit_baselines
from topkin.baselines.registry import BASELINES
from topkin.interactions import concatenate
from topkin.models.data.histories import PreparedHistories, before_cut
from topkin.models.training.block_kinds import BlockHyperparameters
from topkin.models.training.context import TrainingContext
from topkin.models.training.selection import ValidationPeriods, with_trained
from topkin.models.training.trainer import Trainer
from topkin.models.training.validation import BlockWeightSearch
from topkin.recommend.second import tuning
from topkin.recommend.second.candidates import Candidates, candidates, users_at_once
from topkin.recommend.second.tuning import Case, Choice
from topkin.search.topk import top_k

DEPTH = 100
"""Candidates of each ranker here: the first AT of a list hardly come from further down."""


class Period(NamedTuple):
    """A period of validation: the encoder's blocks over its users, and the days from its start to the as-of date."""

    search: BlockWeightSearch
    days: float


def choose_second_stage(
    context: TrainingContext,
    purchases: PreparedHistories,
    periods: Sequence[Period],
    settings: Mapping[str, BlockHyperparameters],
) -> dict[str, Any]:
    """``blend.json``, see ``topkin.recommend.second.tuning.Choice``.

    Args:
        context: settings and seed, with the names of the sources.
        purchases: all interactions before the as-of date, as validation parts them.
        periods: those in which all blocks of the encoder are.
        settings: of the blocks that take part.
    """
    names = sources_of(context)
    if not names:
        return Choice({}, "no sources are asked for").to_json()
    if not periods:
        return Choice({}, "nothing was validated").to_json()
    most = -(-tuning.USERS // len(periods))
    cases = [_case(context, purchases, period, settings, names, most) for period in periods]
    judged = [case for case in cases if case is not None]
    if not judged:
        return Choice({}, "no block of the encoder pools histories").to_json()
    return tuning.choose(judged, names).to_json()


def periods_of(
    periods: ValidationPeriods, settings: Mapping[str, BlockHyperparameters], trainers: Sequence[Trainer]
) -> list[Period]:
    """The periods that can tell of the encoder of these blocks: all, or the last alone, which has the trained ones."""
    dated = [Period(search, periods.days * (number + 1)) for number, search in enumerate(periods.searches)]
    if periods.index is None or not any(trainer.name in settings for trainer in trainers):
        return dated
    return [Period(with_trained(dated[0].search, trainers, periods.index), dated[0].days)]


def sources_of(context: TrainingContext) -> list[str]:
    """The sources asked for, without those that tell nothing where there are no times, or lack a library."""
    times = context.timed and not context.by_position
    asked = [(name, entry) for name, entry in BASELINES.items() if name in context.sources and entry.missing is None]
    return [name for name, entry in asked if times or not entry.by_time]


def _case(
    context: TrainingContext,
    purchases: PreparedHistories,
    period: Period,
    settings: Mapping[str, BlockHyperparameters],
    names: Sequence[str],
    most: int,
) -> Case | None:
    """At most so many users of a period, with the candidates of the encoder and of the sources fitted before it."""
    search = period.search
    cut, blocks = search.cut, search.taking_part(settings)
    if not any(name in search.sides for name, _ in blocks):
        return None
    factors = [(np.float32(setting.weight), search.blocks[name].factors(setting)) for name, setting in blocks]
    queries = np.hstack([weight * users for weight, (users, _) in factors])
    vectors = np.hstack([items for _, (_, items) in factors])
    before = replace(purchases, days=period.days)
    whole = concatenate([before_cut(before.part(name), before.days) for name in before.names()])
    sources = fit_baselines(whole, names, context.neighbours)
    n = cut.known.n_users
    some = np.arange(n)
    if n > most:
        some = np.sort(np.random.default_rng([context.seed, 4]).choice(n, most, replace=False))
    found: list[Candidates] = []
    size = users_at_once(whole.n_items, len(names) + 1, DEPTH)
    for start in range(0, len(some), size):
        users = some[start : start + size]
        known = cut.known.take(users)
        exclude = known.distinct().pattern
        ids, _ = top_k(queries[users], vectors, DEPTH, exclude=exclude, allowed=cut.sold)
        found.append(
            candidates(
                ids,
                sources,
                history=known,
                exclude=exclude,
                queries=queries[users],
                vectors=vectors,
                allowed=cut.sold,
            )
        )
    return Case(Candidates.joined(found), cut.truth.take(some))
