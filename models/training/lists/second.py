"""The second stage, chosen on the periods of validation: each with the sources as they were before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from topkin.baselines.fitted import fit_baselines
from topkin.baselines.registry import BASELINES, Baseline
from topkin.interactions import Interactions, concatenate
from topkin.linalg.csr import Csr
from topkin.models.data.histories import PreparedHistories, before_cut
from topkin.models.training.block_kinds import BlockHyperparameters
from topkin.models.training.context import TrainingContext
from topkin.models.training.selection import ValidationPeriods, with_trained
from topkin.models.training.trainer import Trainer
from topkin.models.training.validation import SplitBlocks, sample
from topkin.recommend.second import tuning
from topkin.recommend.second.candidates import Candidates, candidates, users_at_once
from topkin.recommend.second.chosen import KEPT, TRIED_DEPTH, TRIED_ON, judges
from topkin.recommend.second.tuning import Case, Choice
from topkin.search.topk import top_k
from topkin.telemetry.freed import give_back


class Period(NamedTuple):
    """A period of validation: the encoder's blocks over its users, and the days from its start to the as-of date."""

    split: SplitBlocks
    days: float


@dataclass(frozen=True)
class Sources:
    """The sources as they were before periods, beyond TRIED_ON purchases on those of fewer users.

    Args:
        context: settings and seed, with the names of the sources.
        purchases: all interactions before the as-of date, as validation parts them.
    """

    context: TrainingContext
    purchases: PreparedHistories
    _fitted: dict[float, dict[str, Baseline]] = field(default_factory=dict)

    def before(self, days: float, names: Sequence[str]) -> dict[str, Baseline]:
        """Some of them, of the purchases until so many days before the as-of date, about TRIED_ON of them."""
        fitted = self._fitted.setdefault(days, {})
        if lacking := [name for name in names if name not in fitted]:
            before = replace(self.purchases, days=days)
            parts: list[Interactions] = []
            for name in before.names():  # of users by their hash, so that the first ones are as good as any
                parts.append(before_cut(before.part(name), days))
                if sum(len(part.items) for part in parts) >= TRIED_ON:
                    break
            whole = concatenate(parts)
            del parts
            give_back()
            fitted |= fit_baselines(whole, lacking, self.context.neighbours)
        return {name: fitted[name] for name in names}

    def forget(self, days: float) -> None:
        """Hold none of a period any more where neighbours are large: few of those that are tried take part."""
        fitted = self._fitted.get(days, {})
        arrays = {id(values): values.nbytes for source in fitted.values() for values in source.state().values()}
        if sum(arrays.values()) > KEPT:
            del self._fitted[days]


def choose_second_stage(
    sources: Sources,
    periods: Sequence[Period],
    settings: Mapping[str, BlockHyperparameters],
    *,
    users: int | None = None,
) -> dict[str, Any]:
    """``blend.json``, see ``topkin.recommend.second.tuning.Choice``.

    Args:
        sources: those asked for.
        periods: those in which all blocks of the encoder are.
        settings: of the blocks that take part.
        users: who judge, at most; by default as many as memory and time allow.
    """
    names = sources_of(sources.context)
    if not names:
        return Choice({}, "no sources are asked for").to_json()
    if not periods:
        return Choice({}, "nothing was validated").to_json()
    most = -(-(users or users_judging(sources.context, periods[0].split, names)) // len(periods))
    judged: list[Case] = []
    for period in periods:
        case = _case(sources, period, settings, names, most)
        judged += [] if case is None else [case]
        sources.forget(period.days)
    if not judged:
        return Choice({}, "no block of the encoder pools histories").to_json()
    return tuning.choose(judged, names).to_json()


def users_judging(context: TrainingContext, split: SplitBlocks, names: Sequence[str]) -> int:
    """How many users say whether these sources help, of all periods, see ``second.chosen.judges``."""
    return judges(1 + len(names), len(split.cut.sold), context.train.validation_users)


def dated(periods: ValidationPeriods) -> list[Period]:
    """All periods, the last first, with the blocks that each of them has."""
    return [Period(search, periods.days * (number + 1)) for number, search in enumerate(periods.searches)]


def judges_of(
    sources: Sources,
    periods: ValidationPeriods,
    settings: Mapping[str, BlockHyperparameters],
    trainers: Sequence[Trainer],
) -> list[Period]:
    """The periods that can tell of the encoder of these blocks, with as many users as judge a second stage.

    They are all, or the last alone, which has the trained blocks. Where a period has more users than validation drew,
    others are drawn.
    """
    names = sources_of(sources.context)
    if periods.index is None or not names:
        return []
    trained = any(trainer.name in settings for trainer in trainers)
    chosen: list[Period] = []
    for split, days in dated(periods)[: 1 if trained else None]:
        wider: SplitBlocks = split
        most = -(-users_judging(sources.context, split, names) // (1 if trained else len(periods.searches)))
        if split.cut.drawn and most > split.cut.known.n_users:
            before = replace(sources.purchases, days=days)
            cut = sample(before, split.cut.counts, most, sources.context.seed, until=days - periods.days)
            wider = split if cut is None else split.over(cut)
        chosen.append(Period(with_trained(wider, trainers, periods.index) if trained else wider, days))
    return chosen


def sources_of(context: TrainingContext) -> list[str]:
    """The sources asked for, without those that tell nothing where times or an order lack, or that lack a library."""
    times = context.timed and not context.by_position
    asked = [(name, entry) for name, entry in BASELINES.items() if name in context.sources and entry.missing is None]
    return [name for name, entry in asked if entry.tells(times=times, order=context.by_position)]


def _case(
    sources: Sources,
    period: Period,
    settings: Mapping[str, BlockHyperparameters],
    names: Sequence[str],
    most: int,
) -> Case | None:
    """At most so many users of a period, with the candidates of the encoder and of the sources fitted before it."""
    cut = period.split.cut
    some = np.arange(cut.known.n_users)
    if len(some) > most:
        some = np.sort(np.random.default_rng([sources.context.seed, 4]).choice(len(some), most, replace=False))
    lists = candidates_of(sources, period, settings, names, some)
    return None if lists is None else Case(lists, cut.truth.take(some))


def candidates_of(
    sources: Sources,
    period: Period,
    settings: Mapping[str, BlockHyperparameters],
    names: Sequence[str],
    users: np.ndarray,
    *,
    own: bool = False,
) -> Candidates | None:
    """What the encoder, and sources fitted before a period, bring for some of its users.

    Args:
        sources: those asked for.
        period: with the blocks.
        settings: of those that take part.
        names: of those that bring something.
        users: (n,) int, their rows.
        own: whether bought items are candidates, all of them.

    Returns:
        None where no block pools histories.
    """
    cut, blocks = period.split.cut, period.split.taking_part(settings)
    if not any(name in period.split.sides for name, _ in blocks):
        return None
    factors = [(np.float32(setting.weight), period.split.blocks[name].factors(setting)) for name, setting in blocks]
    queries = np.hstack([weight * users for weight, (users, _) in factors])
    vectors = np.hstack([items for _, (_, items) in factors])
    fitted = sources.before(period.days, names)
    queries, known = queries[users], cut.known.take(users)
    exclude = Csr.empty(len(users)) if own else known.distinct().pattern
    ids, _ = top_k(queries, vectors, TRIED_DEPTH, exclude=exclude, allowed=cut.sold)
    lists: list[Candidates] = []
    size = users_at_once(len(vectors), len(names) + 1, TRIED_DEPTH)
    for start in range(0, len(users), size):
        some = np.arange(start, min(start + size, len(users)))
        lists.append(
            candidates(
                ids[some],
                fitted,
                history=known.take(some),
                exclude=exclude.take(some),
                queries=queries[some],
                vectors=vectors,
                allowed=cut.sold,
                own=own,
            )
        )
    return Candidates.joined(lists)
