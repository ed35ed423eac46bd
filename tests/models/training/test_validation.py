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


class Known:
    """Values of each user that are given for each weight, in place of lists."""

    def __init__(self, of_weight):
        self.of_weight = of_weight

    def values(self, settings):
        return self.of_weight(settings["trained"].weight)


START = {"svd": BlockHyperparameters(), "trained": BlockHyperparameters(weight=0.0)}
WEIGHT = [("trained", "weight", (0.0, 0.5, 1.0, 2.0))]
USERS = np.random.default_rng(0).random(100)


def weight_of(*searches):
    return choose(searches, START, WEIGHT)[0]["trained"].weight


def test_the_best_is_chosen_where_it_is_better_for_everybody():
    assert weight_of(Known(lambda w: USERS - abs(w - 1))) == 1
    _, value = choose([Known(lambda w: USERS - abs(w - 1))], START, WEIGHT)
    assert value == pytest.approx(USERS.mean())
    assert choose([Known(lambda w: USERS)], START, []) == (START, pytest.approx(USERS.mean()))


def test_a_difference_below_its_noise_leaves_the_block_out():
    noise = np.random.default_rng(1).normal(0, 1, 100)
    noise += 0.05 - noise.mean()  # half a standard error above nothing
    assert weight_of(Known(lambda w: USERS + noise * (w == 2))) == 0
    assert weight_of(Known(lambda w: USERS + noise * (w == 2) + 0.3 * (w >= 0.5))) == 0.5  # the least that is as good


def test_all_periods_count_alike_and_the_noise_of_all_is_less():
    rise = np.random.default_rng(2).normal(0, 1, 100)
    rise += 0.08 - rise.mean()
    assert weight_of(Known(lambda w: USERS + rise * (w == 1))) == 0
    searches = [Known(lambda w: USERS + rise * (w == 1))] * 4
    assert weight_of(*searches) == 1
    other = Known(lambda w: USERS - 0.2 * (w == 1))
    assert weight_of(searches[0], other) == 0


def test_beyond_the_end_of_what_is_tried_it_goes_on_while_it_gets_better():
    assert weight_of(Known(lambda w: USERS - abs(w - 8))) == 8
    assert weight_of(Known(lambda w: USERS + w)) == 2 * 2**4  # not for ever
    assert validation.beyond("recency_lift", (0.0, 0.5, 0.8), 0) == pytest.approx(1.1)
    assert validation.beyond("half_life_days", (None, 90.0, 45.0), 1) == pytest.approx(11.25)


def test_what_sells_leads_unless_more_than_noise_says_otherwise():
    start = {"svd": BlockHyperparameters(), "recency": BlockHyperparameters(weight=4.0)}
    noise = np.random.default_rng(3).normal(0, 1, 100)
    noise += 0.15 - noise.mean()  # a standard error and a half

    class Recency(Known):
        def values(self, settings):
            return self.of_weight(settings["recency"].weight)

    tried = [("recency", "weight", (0.0, 1.0, 4.0))]
    fewer = Recency(lambda w: USERS + noise * (w == 1))
    assert choose([fewer], start, tried)[0]["recency"].weight == 1
    assert choose([fewer], start, tried, errors=1.96)[0]["recency"].weight == 4


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
