"""Weighing blocks on candidates gives what the vectors give."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from topkin.metrics.ranking import ranking_metrics
from topkin.models.training import validation
from topkin.models.training.assembly import finished
from topkin.models.training.block_kinds import BlockHyperparameters, inverse_popularities
from topkin.models.training.feature_trainer import FeatureTrainer
from topkin.models.training.lists.repurchase import repurchase_case
from topkin.models.training.selection import computed_towers
from topkin.models.training.trainer import Trainer
from topkin.models.training.validation import (
    AT,
    METRIC,
    BlockWeightSearch,
    choose,
    sample,
)
from topkin.models.two_tower.encoder import encode_features
from topkin.search.topk import top_k


@pytest.fixture(scope="module")
def contest(context, purchases, catalogue):
    before = replace(purchases, days=14.0)
    known = context.index(before, catalogue)
    cut = sample(before, known.counts, 200, 0)
    trainer = Trainer(context, before, "validation", known)
    trainer.run_epoch(1)
    by_content = FeatureTrainer.of(context.changed(feature_dim=4), before, "validation", known)
    by_content.run_epoch(1)
    towers = {**computed_towers(context, before, known), "trained": trainer.model, "features": by_content.model}
    sides = {name: encode_features(tower, known.features, 64) for name, tower in towers.items()}
    return BlockWeightSearch(cut, sides, inverse_popularities(context.train)), towers, known


SETTINGS = [
    {"svd": BlockHyperparameters()},
    {"svd": BlockHyperparameters(recency_lift=0.5, half_life_days=20.0), "recency": BlockHyperparameters(weight=0.3)},
    {
        "svd": BlockHyperparameters(),
        "trained": BlockHyperparameters(weight=0.7),
        "recency": BlockHyperparameters(weight=0.1),
    },
    {"trained": BlockHyperparameters(), "recency": BlockHyperparameters(weight=2.0)},
    {
        "svd": BlockHyperparameters(),
        "next_item": BlockHyperparameters(weight=0.7, half_life_days=20.0),
        "trained": BlockHyperparameters(weight=0.3),
    },
    {"svd": BlockHyperparameters(), "features": BlockHyperparameters(weight=1.4)},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_value_of_settings_is_that_of_the_encoders_vectors(contest, context, catalogue, settings):
    judged, towers, known = contest
    encoder = finished(context, {n: t for n, t in towers.items() if n in settings}, settings, known)
    counts = judged.cut.counts
    then = catalogue  # as the catalogue was at the cut
    for name in ("recent", "events"):
        at = catalogue.schema.names.index(name)
        then = then.set_column(at, catalogue.schema.field(name), [getattr(counts, name)])
    vectors, in_vectors = encoder.encode_items(then)
    users = encoder.encode_users(judged.cut.known, in_vectors, counts.buyers)
    ids, _ = top_k(users, vectors, AT, exclude=judged.cut.known.pattern, allowed=judged.cut.sold)
    wanted = ranking_metrics(ids, judged.cut.truth, (AT,))[METRIC].mean()
    assert judged.value(settings) == pytest.approx(wanted, abs=2e-3)  # last bits decide ties of alike items
    assert 0 < wanted < 1


def test_few_candidates_cost_little(contest, monkeypatch):
    judged = contest[0]
    monkeypatch.setattr(validation, "CANDIDATES", AT)
    fewer = BlockWeightSearch(judged.cut, judged.sides, judged.inverse_popularity)
    assert fewer.value(SETTINGS[0]) == pytest.approx(judged.value(SETTINGS[0]), abs=1e-6)


def test_lists_of_another_contest_of_the_cut_change_no_value(contest):
    judged = contest[0]
    some = BlockWeightSearch(judged.cut, {"svd": judged.sides["svd"]}, judged.inverse_popularity)
    given = dict(some.lists)
    again = BlockWeightSearch(judged.cut, judged.sides, judged.inverse_popularity, lists=given)
    assert [again.value(settings) for settings in SETTINGS] == [judged.value(settings) for settings in SETTINGS]
    assert all(given[which] is made for which, made in some.lists.items())


def test_choosing_never_ends_below_its_start_and_finds_the_best_of_one_field(contest):
    judged = contest[0]
    start = {"svd": BlockHyperparameters(), "recency": BlockHyperparameters(weight=0.0)}
    weights = (0.0, 0.5, 5.0)
    chosen, value = choose([judged], start, [("recency", "weight", weights)])
    values = {w: judged.value({**start, "recency": BlockHyperparameters(weight=w)}) for w in weights}
    assert value == max(values.values()) == values[chosen["recency"].weight]
    same, unchanged = choose([judged], start, [])
    assert same == start
    assert unchanged == judged.value(start)


def test_the_periods_before_the_last_one_do_not_see_what_came_after_them(purchases):
    from topkin.models.data.histories import count

    before = replace(purchases, days=28.0)
    cut = sample(before, count(before, 7.0), 500, 0, until=14.0)
    later = sample(replace(purchases, days=14.0), count(replace(purchases, days=14.0), 7.0), 500, 0)
    assert cut is not None
    assert later is not None
    # Together the purchases of both periods are those of one of twice the length.
    both = sample(before, count(before, 7.0), 500, 0)
    assert len(cut.truth[1]) < len(both.truth[1])
    assert (cut.known.ages >= 0).all()
    assert cut.counts.events.sum() < later.counts.events.sum()


@pytest.mark.parametrize("settings", SETTINGS)
def test_weights_of_bought_items_are_judged_beside_lists_of_the_encoders_vectors(contest, context, catalogue, settings):
    judged, towers, known = contest
    case = repurchase_case(judged, settings, catalogue["category"])
    encoder = finished(context, {n: t for n, t in towers.items() if n in settings}, settings, known)
    counts, then = judged.cut.counts, catalogue
    for name in ("recent", "events"):
        then = then.set_column(
            catalogue.schema.names.index(name), catalogue.schema.field(name), [getattr(counts, name)]
        )
    vectors, in_vectors = encoder.encode_items(then)
    users = encoder.encode_users(judged.cut.known, in_vectors, counts.buyers)
    ids, _ = top_k(users, vectors, AT, allowed=judged.cut.sold)
    by_model, _ = case.pairs.ranked(np.ones(len(case.own.items)), 0.0, AT)
    shared = np.mean([len(np.intersect1d(a, b)) for a, b in zip(ids, by_model, strict=True)]) / AT
    assert shared > 0.98  # last bits decide ties of alike items


def test_what_was_bought_again_is_true_too(contest, purchases, catalogue):
    cut = contest[0].cut
    parts = [purchases.part(name) for name in purchases.names()]
    wanted, histories = [], []
    for part in parts:
        for user in range(part.n_users):
            one = part.take(np.array([user]))
            old = one.ages >= 14
            histories.append([(i, a - 14) for i, a in zip(one.items[old], one.ages[old], strict=True)])
            new = set(one.items[~old].tolist())
            if old.any() and new - set(one.items[old].tolist()):
                wanted.append({i for i in new if cut.counts.events[i]})
    truth = [set(cut.later[1][s:e].tolist()) for s, e in zip(cut.later[0][:-1], cut.later[0][1:], strict=True)]
    assert truth == wanted
    assert sum(cut.habits["buyers"].to_pylist()) == sum(len({i for i, _ in h}) for h in histories)
