"""Who says whether sources help: as many users of a period as memory and time allow."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from topkin.models.training.block_kinds import BlockHyperparameters
from topkin.models.training.lists import second
from topkin.models.training.lists.second import Sources, choose_second_stage, dated, judges_of
from topkin.models.training.selection import validation_periods, validation_trainers

COMPUTED = {"svd": BlockHyperparameters()}
TRAINED = {**COMPUTED, "trained": BlockHyperparameters(weight=0.5)}


@pytest.fixture(scope="module")
def validated(context, purchases, catalogue):
    """Sources, periods that hold thirty users each, and the trained block of the last one."""
    context = replace(context, sources=("item_knn",))
    context = context.changed(validation_users=30, validation_days=14.0, epochs=1)
    periods = validation_periods(context, purchases, catalogue)
    trainers = validation_trainers(context, purchases, periods)
    trainers[0].run_epoch(1)
    return Sources(context, context.validated(purchases)), periods, trainers


def everyone(purchases, days, until):
    """How many users bought before a period and something else in it, counted one by one."""
    count = 0
    for name in purchases.names():
        part = purchases.part(name)
        for start, end in zip(part.indptr[:-1], part.indptr[1:], strict=True):
            ages, items = part.ages[start:end], part.items[start:end]
            old, new = items[ages >= days], items[(ages < days) & (ages >= until)]
            count += bool(len(old) and set(new.tolist()) - set(old.tolist()))
    return count


def test_all_users_of_each_period_judge_where_validation_drew_some(validated, purchases):
    sources, periods, trainers = validated
    judges = judges_of(sources, periods, COMPUTED, trainers)
    assert [period.days for period in judges] == [period.days for period in dated(periods)]
    for period, search in zip(judges, periods.searches, strict=True):
        assert search.cut.known.n_users <= 32  # of each part alike
        wanted = everyone(purchases, period.days, period.days - periods.days)
        assert period.split.cut.known.n_users == wanted > 32
        assert period.split.cut.counts is search.cut.counts
        assert all(mine is theirs for mine, theirs in zip(period.split.sides["svd"], search.sides["svd"], strict=True))


def test_those_with_a_trained_block_are_of_the_last_period_and_have_it(validated):
    sources, periods, trainers = validated
    (period,) = judges_of(sources, periods, TRAINED, trainers)
    assert period.split.cut.known.n_users > 32
    queries, items = period.split.blocks["trained"].factors(BlockHyperparameters())
    assert len(queries) == period.split.cut.known.n_users
    assert np.isfinite(queries).all()
    assert len(items) == len(period.split.cut.sold)
    choice = choose_second_stage(sources, [period], TRAINED)
    assert choice["users"] == period.split.cut.known.n_users
    assert set(choice["values"]) >= {"encoder", "item_knn"}


def test_who_was_not_drawn_judges_as_it_is(context, purchases, catalogue):
    context = replace(context, sources=("item_knn",)).changed(validation_users=100_000, validation_days=14.0, epochs=0)
    periods = validation_periods(context, purchases, catalogue)
    judges = judges_of(Sources(context, purchases), periods, COMPUTED, [])
    assert [period.split for period in judges] == list(periods.searches)


def test_without_sources_nobody_is_drawn_again(validated):
    sources, periods, trainers = validated
    assert judges_of(replace(sources, context=replace(sources.context, sources=())), periods, COMPUTED, trainers) == []


def test_sources_stay_for_the_encoder_that_judges_a_night_unless_their_neighbours_are_large(validated, monkeypatch):
    sources = Sources(validated[0].context, validated[0].purchases)
    first = sources.before(14.0, ["item_knn"])["item_knn"]
    sources.forget(14.0)
    assert sources.before(14.0, ["item_knn"])["item_knn"] is first
    monkeypatch.setattr(second, "KEPT", 0)
    sources.forget(14.0)
    again = sources.before(14.0, ["item_knn"])["item_knn"]
    assert again is not first
    np.testing.assert_array_equal(again.similarities, first.similarities)
