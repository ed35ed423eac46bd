"""Plans: more of anything never costs less, shards fit their workers, and a refusal names a setting that helps."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from topkin.baselines.registry import SOURCES
from topkin.config.sections import Settings
from topkin.errors import ConfigError
from topkin.pipelines.engine.stages import ORDER
from topkin.pipelines.engine.stages import plan_stages as plan
from topkin.pipelines.recommend import shards_of as shards_of_load
from topkin.pipelines.similar import clustered
from topkin.planning.costs import MEASURED
from topkin.planning.estimate import InputCounts, Machine, Plan, Workload, duration, refuse, size
from topkin.recommend.second.chosen import HELD, TRIED_ON

ROOMY = Machine(memory=1e15, cores=2)


def settings_of(**sections: dict[str, Any]) -> Settings:
    return Settings.model_validate({"purchases": {"path": "x"}, **sections})


def counts_of(users: int, items: int, history: float = 10, **more: int) -> InputCounts:
    return InputCounts(purchases=int(users * history) + 1, known=int(users * history), users=users, items=items, **more)


def shards_of(counts: InputCounts, settings: Settings, machine: Machine) -> int:
    return shards_of_load(Workload(counts=counts, settings=settings, machine=machine))


some_settings = st.builds(
    lambda parts, dim, k, how, because, exact: settings_of(
        run={"parts": parts},
        train={"dim": dim},
        recommend={"k": k, "because": because, **how},
        similar={"exact_users": exact},
    ),
    st.sampled_from([1, 8, 1000]),
    st.sampled_from([8, 64, 512]),
    st.sampled_from([1, 20, 1000]),
    st.sampled_from(
        [  # with sources that are asked for: those that are not end at some size, where a plan gets less
            {"search": "exact", "sources": []},
            {"search": "exact", "sources": SOURCES},
            {"search": "index", "sources": []},
            {"model": "item_knn"},
            {"search": "exact", "sources": [], "capacity": 9},
        ]
    ),
    st.sampled_from([0, 3]),
    st.sampled_from([1, 10**12]),  # always in clusters, or never: beyond the size a plan gets less
)
some_counts = st.builds(counts_of, st.integers(0, 10**8), st.integers(0, 10**7), st.floats(0, 100))


@given(
    some_counts,
    some_settings,
    st.sampled_from(["purchases", "known", "users", "items", "vector_dim"]),
    st.floats(1, 50),
)
def test_more_of_anything_costs_no_less(counts, settings, what, factor):
    more = replace(counts, **{what: int(getattr(counts, what) * factor) + 1})
    of_similar = clustered(settings, counts.users), clustered(settings, more.users)
    assume(of_similar[0] == of_similar[1])  # beyond a size users are compared with fewer
    least = settings.train.advanced.svd_workers_from
    assume((counts.known >= least) == (more.known >= least))  # and the workers decompose the purchases
    for one, other in zip(plan(counts, settings, ROOMY).stages, plan(more, settings, ROOMY).stages, strict=True):
        for cost in ("rows", "bytes_read", "bytes_written", "flops", "cpu_seconds", "seconds", "memory"):
            assert getattr(one, cost) <= getattr(other, cost) * (1 + 1e-9), (one.stage, cost)


@given(some_counts, some_settings, st.floats(1.2e9, 1e12))
def test_the_fewest_shards_that_fit_are_taken(counts, settings, memory):
    machine = Machine(memory=memory)
    [stage] = plan(counts, settings, machine, ["recommend"]).stages
    assert stage.shards == shards_of(counts, settings, machine)
    if stage.shards > 1:
        assert stage.mode == "sharded"
        assert stage.memory <= memory
        tighter = replace(machine, memory=stage.memory * (1 - 1e-6))
        assert shards_of(counts, settings, tighter) != stage.shards
    else:
        assert stage.mode == ("index" if settings.recommend.search == "index" else "resident")


@given(some_counts, some_settings, st.floats(2e8, 1e11))
def test_a_refused_plan_fits_with_the_setting_that_is_named(counts, settings, memory):
    planned = plan(counts, settings, Machine(memory=memory))
    assert {s.stage for s in planned.stages if s.memory > memory} == {r.partition(" ")[0] for r in planned.refusals}
    for refusal in planned.refusals:
        assert "of memory a worker, run.worker_memory is" in refusal
        machine, asked = Machine(memory=memory), settings
        parts, search, more = (re.search(p, refusal) for p in (r"parts = (\d+)", r"search = ", r"worker_memory = (.+)"))
        if parts:
            asked = settings.model_copy(update={"run": settings.run.model_copy(update={"parts": int(parts[1])})})
        elif search:
            exact = settings.recommend.model_copy(update={"search": "exact"})
            asked = settings.model_copy(update={"recommend": exact})
        elif of_train := re.search(r"set train\.(advanced\.)?(\w+) = (\d+)", refusal):
            change = {of_train[2]: int(of_train[3])}
            change = {"advanced": settings.train.advanced.model_copy(update=change)} if of_train[1] else change
            asked = settings.model_copy(update={"train": settings.train.model_copy(update=change)})
        else:
            assert more, refusal
            machine = Machine(memory=float(more[1]) * 1e9)
        stage = refusal.partition(" ")[0]
        assert not plan(counts, asked, machine, [stage]).refusals, refusal


def test_the_refusal_is_an_error_with_every_stage():
    settings = plan(counts_of(10**7, 10**6), settings_of(), Machine(memory=3e9))
    with pytest.raises(ConfigError) as raised:
        refuse(settings)
    assert str(raised.value).splitlines() == list(settings.refusals)
    assert len(settings.refusals) > 2
    refuse(plan(counts_of(1000, 1000), settings_of(), Machine(memory=3e9)))


def test_a_catalogue_beyond_a_worker_is_cut_and_one_within_is_not():
    settings, counts = settings_of(run={"parts": 2000}), counts_of(10**8, 10**7, dim=64)
    roomy, tight = (plan(counts, settings, Machine(memory=m)).stage("recommend") for m in (64e9, 8e9))
    assert (roomy.mode, roomy.shards) == ("resident", 1)
    assert tight.mode == "sharded"
    assert 1 < tight.shards < 20
    assert tight.memory <= 8e9 < roomy.memory
    assert tight.flops == roomy.flops
    assert tight.bytes_read > roomy.bytes_read


@given(some_counts, st.integers(1, 64), st.integers(1, 1000))
def test_more_cores_and_workers_take_no_longer(counts, cores, workers):
    assume(counts.users)
    one: Plan = plan(counts, settings_of(), Machine(memory=1e15))
    many = plan(counts, settings_of(), Machine(memory=1e15, cores=cores, workers=workers))
    started = MEASURED.worker_seconds if workers > 1 else {}
    assert many.seconds <= one.seconds + sum(started.values())
    alone = [s.cpu_seconds + workers * started.get(s.stage, 0.0) for s in one.stages]
    assert [s.cpu_seconds for s in many.stages] == pytest.approx(alone)
    assert [s.stage for s in one.stages] == list(ORDER)


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (123_456, "123 kB"), (999_600, "1.0 MB"),
     (5.4e9, "5.4 GB"), (2e15, "2.0 PB"), (5e17, "500.0 PB")],
)  # fmt: skip
def test_bytes_are_told_with_their_unit(n, text):
    assert size(n) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (119, "119.0 s"), (120, "2.0 min"), (1200, "20 min"), (9000, "2.5 h"), (864_000, "10 d")],
)
def test_times_are_told_with_their_unit(seconds, text):
    assert duration(seconds) == text


def test_bundles_are_planned_for():
    counts = counts_of(10**6, 10**5, history=30)
    without, some = (plan(counts, settings_of(similar={"bundles": n}), ROOMY).stage("similar") for n in (0, 5))
    assert some.bytes_read - without.bytes_read == pytest.approx(20 * counts.known)  # histories once more
    more = some.cpu_seconds - without.cpu_seconds
    assert some.seconds - without.seconds == pytest.approx(more)  # in one process
    assert more > 60
    assert some.memory > without.memory + 10e9
    few, more = (
        plan(counts_of(n, 1000), settings_of(similar={"bundles": 5}), ROOMY).stage("similar") for n in (10**6, 10**7)
    )
    assert few.memory == pytest.approx(more.memory, rel=0.9)  # no more pairs than the items have
    assert some.bytes_written > without.bytes_written


def test_judges_and_clusters_bound_what_grows_with_the_square():
    plans = [plan(counts_of(users, 1000), settings_of(), ROOMY) for users in (10**6, 4 * 10**6, 16 * 10**6)]
    judged = [one.stage("evaluate").cpu_seconds for one in plans]
    assert judged[2] < 4 * judged[1]  # the histories alone are more
    near = [one.stage("similar").flops for one in plans]
    assert near[1] < near[0] / 5
    assert near[2] < 9 * near[1]
    parts = [plan(counts_of(1000, items), settings_of(), ROOMY).stage("index") for items in (4 * 10**6, 40 * 10**6)]
    assert parts[1].memory == parts[0].memory


def test_a_baselines_lists_are_never_cut_into_shards_and_hold_the_baseline_in_place_of_vectors():
    counts, worker = counts_of(10**6, 10**7), Machine(memory=20e9)
    by_encoder = settings_of(run={"parts": 1000}, recommend={"sources": []})
    by_baseline = settings_of(run={"parts": 1000}, recommend={"model": "item_knn"})
    assert shards_of(counts, by_encoder, worker) > shards_of(counts, by_baseline, worker) == 1
    (stage,) = plan(counts, by_baseline, worker, ["recommend"]).stages
    (wide,) = plan(replace(counts, dim=4000), by_baseline, worker, ["recommend"]).stages
    more = settings_of(run={"parts": 1000}, recommend={"model": "item_knn"}, evaluate={"neighbours": 200})
    (near,) = plan(counts, more, worker, ["recommend"]).stages
    assert near.memory - stage.memory == 24 * 10**7 * 100  # a score, a number and their transpose of each neighbour
    assert wide.memory - stage.memory < 0.01 * 8 * 4000 * 10**7  # nothing of the items' vectors


def test_another_list_holds_its_own_baseline_and_pairs() -> None:
    counts = counts_of(10**6, 10**5)
    lists: list[dict[str, Any]] = [{}, {"model": "item_knn"}, {"capacity": 9}]
    needed = [
        plan(counts, settings_of(recommend={"sources": []}, lists={"mail": own}), ROOMY, ["recommend"]).stages[0].memory
        for own in lists
    ]
    assert needed[1] - needed[0] == 32 * counts.known + 24 * 10**5 * 100
    assert needed[2] - needed[0] > 10**6 * (12 * 20 + 60)


def test_what_rules_ask_of_items_and_users_is_part_of_the_plan() -> None:
    def prepared(items: int, **rules: str) -> Any:
        settings = settings_of(purchases={"path": "x", "rules": rules}, items={"path": "i"}, users={"path": "u"})
        return plan(counts_of(1_000_000, items), settings, ROOMY).stage("prepare")

    plain = prepared(10_000, a="price > 0")
    item = prepared(10_000, a="price > 0 AND item.brand <> 'x'")
    both = prepared(10_000, a="item.brand <> 'x'", b="user.land = 'DE'")
    wide = prepared(10_000, a="item.brand <> 'x' AND item.dept <> 'y' AND Item.Dept <> 'z'")
    more = prepared(20_000, a="item.brand <> 'x'")
    for what in ("cpu_seconds", "seconds", "memory", "bytes_read"):
        sizes = [getattr(cost, what) for cost in (plain, item, both)]
        assert sizes == sorted(set(sizes)), what
        assert getattr(more, what) - getattr(prepared(20_000), what) > getattr(item, what) - getattr(plain, what), what
    assert item.memory < wide.memory < item.memory + 10_000 * 100


def test_a_process_that_trains_needs_less_where_workers_decompose() -> None:
    counts = InputCounts(purchases=10**8, known=10**8, users=10**7, items=10**6)
    memory = []
    for least in (10**9, 10**8):
        settings = settings_of(run={"parts": 200}, train={"epochs": 0, "advanced": {"svd_workers_from": least}})
        memory.append(plan(counts, settings, ROOMY, ["train"]).stages[0].memory)
    assert memory[0] - memory[1] > 3_000 * counts.items
    with_content = settings_of(run={"parts": 200}, train={"epochs": 0}, items={"path": "i", "title": "title"})
    content = plan(counts, with_content, ROOMY, ["train"]).stages[0].memory
    assert content - memory[1] > 4 * 512 * counts.items  # rows of the decomposition, which content is learned from
    few = settings_of(run={"parts": 1}, train={"epochs": 0})
    assert plan(counts, few, ROOMY, ["train"]).stages[0].memory > memory[1]  # a worker has a whole part


@pytest.mark.parametrize(
    ("known", "memory", "sets"), [(10**6, 10e9, {"advanced": {"svd_workers_from": 10**6}}), (10**8, 7e9, {"epochs": 0})]
)
def test_a_training_that_does_not_fit_names_what_helps_it(known, memory, sets) -> None:
    counts = InputCounts(purchases=known, known=known, users=10**5, items=10**6)
    small, asked = Machine(memory=memory, cores=2), {"run": {"parts": 1_000}, "recommend": {"sources": []}}
    (refusal,) = plan(counts, settings_of(**asked), small, ["train"]).refusals
    (key,) = sets
    assert f"set train.{'advanced.svd_workers_from = 1000000' if key == 'advanced' else 'epochs = 0'}" in refusal
    assert not plan(counts, settings_of(**asked, train=sets), small, ["train"]).refusals


def test_sources_are_fitted_in_training_too() -> None:
    more = []
    for known in (10**9, 10**10):
        many = InputCounts(purchases=known, known=known, users=10**7, items=10**5)
        memory = [
            plan(many, settings_of(recommend=recommend), ROOMY, ["train"]).stages[0].memory
            for recommend in ({}, {"sources": ["item_knn"]})
        ]
        more.append(memory[1] - memory[0])
    neighbours, judged = 32 * 10**5 * 100, 5 * HELD
    assert 16 * TRIED_ON + neighbours <= more[0] <= 64 * TRIED_ON + 3 * neighbours + judged
    assert more[1] == pytest.approx(more[0])  # what a source learns from there does not grow with the log


def test_rules_of_a_shop_and_the_pass_over_all_pairs_are_part_of_the_plan() -> None:
    items = {"path": "i", "category": "category"}
    rules: list[dict[str, Any]] = [{}, {"max_per": {"category": 2}}, {"capacity": 9}]
    stages = [
        plan(
            counts_of(10**6, 10**5), settings_of(items=items, recommend={"sources": [], **rule}), ROOMY, ["recommend"]
        ).stages[0]
        for rule in rules
    ]
    for what in ("cpu_seconds", "memory"):
        sizes = [getattr(stage, what) for stage in stages]
        assert sizes == sorted(set(sizes)), what
    assert stages[2].memory - stages[0].memory > 10**6 * (12 * 20 + 60)  # the lists, and the pairs of one band
    assert stages[2].bytes_read > stages[0].bytes_read
