"""Weighing blocks on candidates gives what the vectors give."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tensorflow")

from benchmarks.training import patience
from topkin.interactions import concatenate
from topkin.metrics.ranking import ranking_metrics
from topkin.models.data.histories import before_cut
from topkin.models.data.in_memory import InMemoryInteractions
from topkin.models.training import selection, validation
from topkin.models.training.assembly import finished
from topkin.models.training.block_kinds import BlockHyperparameters, inverse_popularities
from topkin.models.training.feature_trainer import FeatureTrainer
from topkin.models.training.lists.repurchase import blended_case, repurchase_case
from topkin.models.training.lists.second import Period, Sources
from topkin.models.training.profile_trainer import ProfileTrainer
from topkin.models.training.selection import computed_towers
from topkin.models.training.trainer import Trainer
from topkin.models.training.validation import (
    AT,
    METRIC,
    BlockWeightSearch,
    choose,
    is_better,
    rises,
    sample,
)
from topkin.models.two_tower.encoder import encode_features
from topkin.recommend.repurchase.blend import Weights
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
    profiled = ProfileTrainer.of(context.changed(user_feature_dim=4), with_clubs(before), "validation", known)
    profiled.run_epoch(1)
    towers["profile"] = profiled.model
    sides = {name: encode_features(tower, known.features, 64) for name, tower in towers.items()}
    profiles = {"profile": profiled.profiles_of(cut.rows)}
    search = BlockWeightSearch(cut, sides, inverse_popularities(context.train), profiles=profiles)
    return search, towers, known, profiled


def with_clubs(purchases):
    """The same histories of users who told the category they keep to, all but every fifth."""
    parts = [purchases.part(name) for name in purchases.names()]
    kind = pa.struct({"club": pa.string()})
    clubs = [part.items[part.indptr[:-1]] // 12 for part in parts]
    users = [
        pa.table({"features": pa.array([{"club": f"c{c}"} if n % 5 else None for n, c in enumerate(of)], kind)})
        for of in clubs
    ]
    return InMemoryInteractions("", purchases.item_ids, purchases.as_of, days=purchases.days, parts=parts, users=users)


def users_of(encoder, in_vectors, cut, profiled):
    """The vectors of the users of a cut by a finished encoder, whose profiles are rotated."""
    profiles = None
    if encoder.profiles is not None:
        names, features = profiled.purchases.names(), profiled.purchases.user_features
        taken = [features(n).take(pa.array(rows)) for n, rows in zip(names, cut.rows, strict=True)]
        profiles = encoder.profiles.of(pa.concat_tables(taken))
        assert (~profiles.any(axis=1)).any()
    return encoder.encode_users(cut.known, in_vectors, cut.counts.buyers, profiles=profiles)


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
    {
        "svd": BlockHyperparameters(),
        "profile": BlockHyperparameters(weight=2.0, prior_purchases=3.0),
        "recency": BlockHyperparameters(weight=0.3),
    },
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_value_of_settings_is_that_of_the_encoders_vectors(contest, context, catalogue, settings):
    judged, towers, known, profiled = contest
    taking_part = {n: t for n, t in towers.items() if n in settings}
    encoder = finished(context, taking_part, settings, known, profiles=profiled.rows)
    counts = judged.cut.counts
    then = catalogue  # as the catalogue was at the cut
    for name in ("recent", "events"):
        at = catalogue.schema.names.index(name)
        then = then.set_column(at, catalogue.schema.field(name), [getattr(counts, name)])
    vectors, in_vectors = encoder.encode_items(then)
    users = users_of(encoder, in_vectors, judged.cut, profiled)
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
    again = BlockWeightSearch(
        judged.cut, judged.sides, judged.inverse_popularity, lists=given, profiles=judged.profiles
    )
    assert [again.value(settings) for settings in SETTINGS] == [judged.value(settings) for settings in SETTINGS]
    assert all(given[which] is result for which, result in some.lists.items())


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
    _, (best,) = choose([Known(lambda w: USERS - abs(w - 1))], START, WEIGHT)
    assert best == pytest.approx(USERS)
    assert choose([Known(lambda w: USERS)], START, [])[0] == START


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
    judged, towers, known, profiled = contest
    case = repurchase_case(judged, settings, catalogue["category"])
    taking_part = {n: t for n, t in towers.items() if n in settings}
    encoder = finished(context, taking_part, settings, known, profiles=profiled.rows)
    counts, then = judged.cut.counts, catalogue
    for name in ("recent", "events"):
        then = then.set_column(
            catalogue.schema.names.index(name), catalogue.schema.field(name), [getattr(counts, name)]
        )
    vectors, in_vectors = encoder.encode_items(then)
    users = users_of(encoder, in_vectors, judged.cut, profiled)
    ids, _ = top_k(users, vectors, AT, allowed=judged.cut.sold)
    by_model, _ = case.pairs.ranked(np.ones(len(case.own.items)), 0.0, AT)
    shared = np.mean([len(np.intersect1d(a, b)) for a, b in zip(ids, by_model, strict=True)]) / AT
    assert shared > 0.98  # last bits decide ties of alike items


def test_beside_a_blend_weights_are_judged_by_lists_of_its_candidates(contest, context, purchases, catalogue):
    """The encoder alone as a blend makes the lists that its cosine makes, and all sold items of a user are ranked."""
    judged, settings, weights = contest[0], SETTINGS[0], Weights(fade=0.2)
    plain = repurchase_case(judged, settings, catalogue["category"])
    given = Sources(context, purchases), Period(judged, 14.0), settings, catalogue["category"]
    case = blended_case(*given, {"encoder": 1.0})
    same = np.isclose(case.judged(weights), plain.judged(weights))
    assert same.mean() > 0.98  # last bits decide ties of alike items
    other = blended_case(*given, {"encoder": 1.0, "item_knn": 3.0})
    assert not np.allclose(other.judged(weights), plain.judged(weights))
    own = judged.cut.known.take(np.flatnonzero(judged.cut.later.lengths)).distinct().items
    for result in (case, other):
        assert (result.pairs.own >= 0).sum() == judged.cut.sold[own].sum()


def test_sources_learn_from_the_first_parts_that_have_enough_purchases(context, purchases, monkeypatch):
    names = purchases.names()
    parts = {name: before_cut(purchases.part(name), 14.0) for name in names}
    for most, some in {1: names[:1], len(parts[names[0]].items) + 1: names[:2], 10**9: names}.items():
        monkeypatch.setattr("topkin.models.training.lists.second.TRIED_ON", most)
        fitted = Sources(context, purchases).before(14.0, ["popularity"])["popularity"]
        bought = concatenate([parts[name] for name in some]).distinct().items
        assert (
            fitted.scores(parts[names[0]])[0].tolist()
            == np.bincount(bought, minlength=len(purchases.item_ids)).tolist()
        )


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


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=12))
def test_a_curve_rises_where_the_line_of_least_squares_through_it_does(values):
    slope = np.polyfit(np.arange(len(values)), values, 1)[0]
    assert rises(values) == bool(slope > 1e-9)


def test_a_curve_that_rises_slowly_is_not_ended_and_a_flat_one_is():
    """Of simulated curves, by the rule of before and of now."""
    rising, flat, falling = (
        [patience.shares(shape, trend=trend, curves=150) for trend in (False, True)]
        for shape in ("rising", "flat", "falling")
    )
    lost, long = 2, 1
    assert rising[1][lost] < 0.3 < 0.6 < rising[0][lost]
    assert flat[1][long] < 0.45
    assert falling[1][long] < 0.05


def test_the_rule_of_the_training_is_that_of_the_simulated_curves(context):
    """The same epochs are run and the same one is kept."""
    rng, rule = np.random.default_rng(3), context.changed(patience=patience.PATIENCE, epochs=patience.EPOCHS)
    for scale in (0.0, 0.001, 0.004) * 4:
        values = rng.random(200) + scale * np.arange(8)[:, None] + rng.normal(0, 0.05, (8, 200))
        curve, best = [], values[0]
        while not selection._stopped(rule, curve):
            own = values[len(curve)]
            better = not curve or is_better(own, best)
            best = own if better else best
            curve.append({"epoch": len(curve) + 1, f"best_{METRIC}": own.mean(), "better": better})
        assert (len(curve), selection.best_epoch(curve)["epoch"]) == patience.ended(values, trend=True)
