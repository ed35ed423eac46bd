import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

tf = pytest.importorskip("tensorflow")

import keras  # noqa: E402

from topkin.errors import ArtifactError, ConfigError, InputError  # noqa: E402
from topkin.models.data.histories import count  # noqa: E402
from topkin.models.objective.row_adam import RowAdam  # noqa: E402
from topkin.models.ops import archive  # noqa: E402
from topkin.models.training import fit, selection  # noqa: E402
from topkin.models.training.assembly import finished  # noqa: E402
from topkin.models.training.block_kinds import BlockHyperparameters  # noqa: E402
from topkin.models.training.checkpoint import Checkpoint  # noqa: E402
from topkin.models.training.selection import best_epoch, run_epoch  # noqa: E402
from topkin.models.training.trainer import Trainer  # noqa: E402
from topkin.models.training.validation import is_better, sample  # noqa: E402


@pytest.fixture(scope="module")
def alone(context):
    """With a trained block and nothing beside it, so that it is not left out."""
    return context.changed(svd_dim=0, next_item_dim=0, patience=3)


@pytest.fixture(scope="module")
def uninterrupted(alone, purchases, catalogue):
    from topkin.models.ops import device

    with device.repeatable():
        training = fit.fit(alone, purchases, catalogue)
    return archive.model_bytes(training.encoder.model), training


def comparable(training):
    epochs = [*training.selection.curve, *training.epochs]
    return [{k: v for k, v in e.items() if "seconds" not in k} for e in epochs], training.repurchase


def test_a_seed_gives_the_same_file_and_another_gives_another(alone, purchases, catalogue, uninterrupted):
    training = fit.fit(alone, purchases, catalogue)
    assert archive.model_bytes(training.encoder.model) == uninterrupted[0]
    assert comparable(training) == comparable(uninterrupted[1])
    other = fit.fit(replace(alone.changed(epochs=1), seed=4), purchases, catalogue)
    assert archive.model_bytes(other.encoder.model) != uninterrupted[0]


def test_a_selection_survives_json_and_is_all_that_a_refit_needs(alone, purchases, catalogue, uninterrupted):
    chosen = uninterrupted[1].selection
    again = selection.Selection.from_json(json.loads(json.dumps(chosen.to_json())))
    assert again == chosen
    encoder = fit.refit(again, alone, purchases, catalogue)
    assert archive.model_bytes(encoder.model) == uninterrupted[0]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, -1))])
def test_a_killed_training_goes_on_to_the_same_file(alone, purchases, catalogue, uninterrupted, tmp_path, after):
    records = len(comparable(uninterrupted[1])[0])
    assert records > 3
    after = after % records
    seen = []

    def die(phase, epoch):
        if len(seen) == after:
            raise Killed
        seen.append((phase, epoch["epoch"]))

    with pytest.raises(Killed):
        fit.fit(alone, purchases, catalogue, scratch=str(tmp_path), on_epoch=die)
    reported = []
    training = fit.fit(
        alone,
        purchases,
        catalogue,
        scratch=str(tmp_path),
        on_epoch=lambda phase, e: reported.append((phase, e["epoch"])),
    )
    assert archive.model_bytes(training.encoder.model) == uninterrupted[0]
    assert comparable(training) == comparable(uninterrupted[1])
    assert reported[:after] == seen


def test_a_checkpoint_of_another_plan_is_not_used(tmp_path):
    Checkpoint(str(tmp_path), "one").write({"phase": "refit"}, [np.ones(2)])
    assert Checkpoint(str(tmp_path), "another").read() is None
    checkpoint = Checkpoint(str(tmp_path), "one").read()
    assert checkpoint is not None
    assert checkpoint[0] == {"phase": "refit"}
    assert Checkpoint("", "one").read() is None


def test_validation_is_what_came_after_and_not_before(purchases):
    before = replace(purchases, days=14.0)
    validation = sample(before, count(before, 7), 50, 0)
    assert validation is not None
    indptr, items = validation.truth
    assert (np.diff(indptr) > 0).all()
    for user in range(validation.known.n_users):
        before = validation.known.items[validation.known.indptr[user] : validation.known.indptr[user + 1]]
        assert len(before)
        assert not set(before) & set(items[indptr[user] : indptr[user + 1]])


def test_without_purchases_to_validate_on_all_epochs_are_run(context, purchases, catalogue):
    old = context.changed(validation_days=0.001, epochs=2, recency_weight=0.0)
    training = fit.fit(old, purchases, catalogue)
    assert training.selection.stopped.startswith("no validation")
    assert [e["epoch"] for e in training.epochs] == [1, 2]


def test_an_epoch_is_better_where_its_rise_is_above_its_noise_user_by_user():
    rng = np.random.default_rng(0)
    before = rng.random(400)
    assert is_better(before + 0.002, before)  # a little for everybody is no noise
    assert not is_better(before + rng.normal(0, 0.1, 400) - 0.002, before)
    assert not is_better(before, before)
    assert not is_better(before[::-1].copy() + 0.001, before)


def test_training_stops_when_patience_ends_after_the_last_epoch_that_was_better(context):
    def of(*better):
        return [{"epoch": n, "best_ndcg@20": 0.3, "better": b} for n, b in enumerate(better, 1)]

    assert best_epoch(of(True, True, False))["epoch"] == 2
    assert best_epoch(of()) is None
    assert selection._stopped(context.changed(patience=2, epochs=16), of(True, False, False)) == "patience"  # flat
    falling = of(True, True, False)
    assert selection._stopped(context.changed(patience=1, epochs=9), falling) == "patience"
    assert selection._stopped(context.changed(patience=2, epochs=9), falling) == ""
    assert selection._stopped(context.changed(patience=2, epochs=3), falling) == "epochs"


def test_without_a_validation_nothing_is_trained_and_what_sells_counts(context, purchases, catalogue, monkeypatch):
    monkeypatch.setattr(selection, "MIN_USERS", 1000)
    training = fit.fit(context, purchases, catalogue)
    assert training.selection.stopped.startswith("no validation")
    assert training.selection.interval is None
    assert training.epochs == ()
    weights = {block.name: block.weight for block in training.encoder.blocks}
    assert "trained" not in weights
    assert weights["recency"] == weights["svd"] == 1
    assert training.selection.by_sales
    assert training.selection.left_out


def histories(ages):
    """One user a list of ages, in days."""
    from topkin.interactions import Interactions
    from topkin.models.data.in_memory import InMemoryInteractions

    flat = np.concatenate([np.sort(a)[::-1] for a in ages]).astype(np.float32)
    indptr = np.concatenate([[0], np.cumsum([len(a) for a in ages])])
    part = Interactions(indptr, np.zeros(len(flat), np.int32), flat, np.ones(len(flat), np.float32), 1)
    return InMemoryInteractions("", pa.chunked_array([["i"]]), None, parts=(part,))


def test_a_period_of_validation_is_a_month_or_as_much_as_leaves_enough():
    steady = histories([np.linspace(0.5, 364, 50)] * 20)
    assert selection.validation_days(steady, 364.0) == 28
    assert selection.validation_days(steady, 40.0) == 10  # a quarter of the time
    late = histories([np.concatenate([[300.0], np.linspace(0.5, 30, 9)])] * 20)  # nine of ten in the last month
    days = selection.validation_days(late, 364.0)
    assert 3 < days < 8
    assert (np.concatenate([p.ages for p in late.parts]) <= days).mean() <= 0.2
    young = histories([np.array([300.0, 1.0])] * 15 + [np.array([float(d)]) for d in range(5, 20)])  # new users
    days = selection.validation_days(young, 364.0)
    assert days < 28
    came = np.array([300.0] * 15 + list(range(5, 20)))
    assert (came <= days).mean() <= 0.2


@pytest.mark.parametrize(
    ("users", "sparse", "errors"), [((50, 49), False, 1.96), ((50, 50), False, 1.0), ((5000,), True, 1.96)]
)
def test_few_users_and_sparse_logs_leave_what_is_simple_only_by_a_whole_interval(users, sparse, errors):
    periods = [SimpleNamespace(cut=SimpleNamespace(known=SimpleNamespace(n_users=number))) for number in users]
    assert selection.ValidationPeriods(28.0, [], None, sparse=sparse).errors(periods) == errors


def test_nothing_to_learn_from_is_said(context, purchases, catalogue):
    nothing = replace(purchases, days=1000.0)
    with pytest.raises(InputError, match="a user with at least two different items"):
        Trainer(context, nothing, "refit", context.index(nothing, catalogue))


def test_a_folder_without_histories_is_not_taken_for_few_purchases(context, purchases, catalogue, tmp_path):
    with pytest.raises(ArtifactError, match="holds no Parquet file"):
        context.index(replace(purchases, folder=str(tmp_path)), catalogue)


def test_a_loss_that_is_not_finite_ends_the_training_with_the_cure(context, purchases, catalogue):
    trainer = Trainer(context, purchases, "refit", context.index(purchases, catalogue))
    trainer.run_epoch = lambda number: float("nan")
    with pytest.raises(ConfigError, match=r"got nan in epoch 3: lower train\.learning_rate"):
        run_epoch([trainer], 3)


def test_the_step_is_traced_once_and_the_loss_falls(context, purchases, catalogue):
    trainer = Trainer(context, purchases, "refit", context.index(purchases, catalogue))
    losses = [trainer.run_epoch(epoch) for epoch in (1, 2, 3)]
    assert trainer.step.traces == 1
    assert losses[2] < losses[0] - 0.3
    settings = {"trained": BlockHyperparameters(), "recency": BlockHyperparameters(weight=0.1)}
    finished(context, {"trained": trainer.model}, settings, trainer.index).encode_items(catalogue.slice(0, 3))
    assert trainer.step.traces == 1


def test_recall_rises_far_above_chance(trained):
    assert best_epoch(trained.selection.curve)["validation_ndcg@20"] > 0.6
    assert trained.selection.stopped == "epochs"


def test_items_sold_too_little_have_no_row_of_their_own_if_they_have_content(context, purchases, catalogue):
    known = context.changed(min_sales=21).index(purchases, catalogue)
    events = catalogue["events"].to_numpy()
    want = catalogue["item_id"].filter(events >= 21).to_pylist()
    assert 0 < len(want) < 33
    assert known.ids.to_pylist() == want
    nothing = pa.nulls(36, pa.string())
    bare = catalogue.set_column(1, catalogue.schema.field("title"), nothing)
    bare = bare.set_column(2, catalogue.schema.field("category"), nothing)
    assert len(context.changed(min_sales=21).index(purchases, bare).ids) == 33


def adam(gradients, start, rate):
    """Kingma & Ba's algorithm 1, rows without a gradient left alone."""
    value, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for t, rows in enumerate(gradients, 1):
        for row, g in rows.items():
            m[row] = 0.9 * m[row] + 0.1 * g
            v[row] = 0.999 * v[row] + 0.001 * g * g
            value[row] -= rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m[row] / (np.sqrt(v[row]) + 1e-7)
    return value


def test_row_adam_equals_the_algorithm_on_the_rows_touched():
    start = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    table, optimizer = keras.Variable(start), RowAdam(0.01)
    optimizer.build([table])
    steps = [{0: np.ones(3), 4: np.full(3, -2.0)}, {4: np.full(3, 0.5)}, {0: np.full(3, 3.0), 1: np.ones(3)}]
    for rows in steps:
        ids = np.array([i for row in rows for i in (row, row)])  # each row twice, in halves
        halves = np.array([rows[i] / 2 for i in ids], np.float32)
        optimizer.apply([tf.IndexedSlices(tf.constant(halves), tf.constant(ids), tf.constant([5, 3]))], [table])
    np.testing.assert_allclose(np.asarray(table), adam(steps, start.astype(float), 0.01), rtol=1e-5)
    assert (np.asarray(table)[[2, 3]] == start[[2, 3]]).all()


def test_row_adam_told_that_rows_are_distinct_gives_the_same():
    start = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    steps = [{0: np.ones(3), 4: np.full(3, -2.0)}, {4: np.full(3, 0.5), 1: np.ones(3)}]
    table = keras.Variable(start)
    optimizer = RowAdam(0.01, distinct=[table.path])
    optimizer.build([table])
    for rows in steps:
        ids = np.array([2, *rows, 2])  # row 2 twice, with a gradient of zero
        values = np.array([np.zeros(3), *rows.values(), np.zeros(3)], np.float32)
        optimizer.apply([tf.IndexedSlices(tf.constant(values), tf.constant(ids), tf.constant([5, 3]))], [table])
    np.testing.assert_allclose(np.asarray(table), adam(steps, start.astype(float), 0.01), rtol=1e-5)
    assert (np.asarray(table)[[2, 3]] == start[[2, 3]]).all()
    assert RowAdam.from_config(optimizer.get_config()).distinct == (table.path,)


def updated(start, rows, pulls, *, held, compiled):
    """A table after steps of these gradients of some rows, which were read before each where they are held."""
    table = keras.Variable(start)
    optimizer = RowAdam(0.01, distinct=[table.path])
    optimizer.build([table])

    def step(values, rows):
        if held:
            optimizer.hold(table, tf.gather(table.value, rows))
        optimizer.apply([tf.IndexedSlices(values, rows, tf.constant(start.shape))], [table])

    for pull in pulls:
        (tf.function(step) if compiled else step)(tf.constant(pull), tf.constant(rows))
    return np.asarray(table)


@pytest.mark.parametrize("compiled", [False, True])
def test_row_adam_gives_the_same_where_rows_are_held(compiled):
    rng, rows = np.random.default_rng(0), [1, 3, 4]
    start, pulls = rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(3, 3, 4)).astype(np.float32)
    read, held = (updated(start, rows, pulls, held=held, compiled=compiled) for held in (False, True))
    assert (read == held).all()
    assert ((held != start).any(axis=1) == np.isin(np.arange(6), rows)).all()


def test_row_adam_gives_a_row_the_same_however_many_are_updated_with_it():
    rng = np.random.default_rng(0)
    start, pulls = rng.normal(size=(900, 33)).astype(np.float32), rng.normal(size=(3, 900, 33)).astype(np.float32)
    several = (np.arange(900), np.arange(7, 8), np.arange(3, 500))
    results = [updated(start, rows, pulls[:, rows], held=False, compiled=True)[7] for rows in several]
    assert all((result == results[0]).all() for result in results)


def test_row_adam_on_dense_gradients_is_adam():
    results = []
    for kind in (RowAdam, keras.optimizers.Adam):
        table, optimizer = keras.Variable(np.ones((2, 2), np.float32)), kind(0.1)
        for step in range(3):
            optimizer.apply([tf.fill((2, 2), float(step + 1))], [table])
        results.append(np.asarray(table))
    assert (results[0] == results[1]).all()


def test_the_logs_are_what_tensorboard_reads(tmp_path: Path):
    from topkin.models.training.tensorboard import Scalars

    with Scalars(str(tmp_path)) as scalars:
        scalars.epoch("validation", {"epoch": 1, "loss": 2.5})
        scalars.epoch("validation", {"epoch": 2, "loss": 1.5})
    (file,) = (tmp_path / "validation").iterdir()
    collected = []
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        collected += [(event.step, v.tag, float(tf.make_ndarray(v.tensor))) for v in event.summary.value]
    assert collected == [(1, "loss", 2.5), (2, "loss", 1.5)]


def test_no_more_than_a_quarter_of_the_time_is_kept_for_validation(context, purchases, catalogue, monkeypatch):
    days = []
    monkeypatch.setattr(selection, "sample", lambda kept, *rest, **more: days.append(kept.days))
    for wanted in (10.0, 1000.0):
        kept = context.changed(validation_days=wanted, epochs=1, recency_weight=0.0)
        fit.fit(kept, purchases, catalogue)
    assert days[0] == 10.0
    assert 20 < days[1] < 25
