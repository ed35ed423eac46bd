import json
from dataclasses import replace
from pathlib import Path

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
from topkin.models.training.validation import sample  # noqa: E402


@pytest.fixture(scope="module")
def uninterrupted(context, purchases, catalogue):
    from topkin.models.ops import device

    device.set_up(deterministic=True)
    training = fit.fit(context, purchases, catalogue)
    return archive.model_bytes(training.encoder.model), training


def comparable(training):
    epochs = [*training.selection.curve, *training.epochs]
    return [{k: v for k, v in e.items() if "seconds" not in k} for e in epochs], training.repurchase


def test_a_seed_gives_the_same_file_and_another_gives_another(context, purchases, catalogue, uninterrupted):
    training = fit.fit(context, purchases, catalogue)
    assert archive.model_bytes(training.encoder.model) == uninterrupted[0]
    assert comparable(training) == comparable(uninterrupted[1])
    other = fit.fit(replace(context.changed(epochs=1), seed=4), purchases, catalogue)
    assert archive.model_bytes(other.encoder.model) != uninterrupted[0]


def test_a_selection_survives_json_and_is_all_that_a_refit_needs(context, purchases, catalogue, uninterrupted):
    chosen = uninterrupted[1].selection
    again = selection.Selection.from_json(json.loads(json.dumps(chosen.to_json())))
    assert again == chosen
    encoder = fit.refit(again, context, purchases, catalogue)
    assert archive.model_bytes(encoder.model) == uninterrupted[0]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [1, 3, 4])
def test_a_killed_training_goes_on_to_the_same_file(context, purchases, catalogue, uninterrupted, tmp_path, after):
    assert after < len(comparable(uninterrupted[1])[0])
    seen = []

    def die(phase, epoch):
        if len(seen) == after:
            raise Killed
        seen.append((phase, epoch["epoch"]))

    with pytest.raises(Killed):
        fit.fit(context, purchases, catalogue, scratch=str(tmp_path), on_epoch=die)
    reported = []
    training = fit.fit(
        context,
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
    found = Checkpoint(str(tmp_path), "one").read()
    assert found is not None
    assert found[0] == {"phase": "refit"}
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
    old = context.changed(validation_days=0.001, epochs=2)
    training = fit.fit(old, purchases, catalogue)
    assert training.selection.stopped.startswith("no validation")
    assert [e["epoch"] for e in training.epochs] == [1, 2]


def test_the_schedule_goes_on_while_epochs_are_as_good_as_the_best_and_stops_when_patience_ends(context):
    def of(*values):
        return [{"epoch": n, "validation_ndcg@20": v} for n, v in enumerate(values, 1)]

    assert best_epoch(of(0.2, 0.3, 0.299))["epoch"] == 3  # no worse than the noise
    assert best_epoch(of(0.2, 0.3, 0.29))["epoch"] == 2
    assert best_epoch(of()) is None
    falling = of(0.2, 0.3, 0.29)
    assert selection._stopped(context.changed(patience=1, epochs=9), falling) == "patience"
    assert selection._stopped(context.changed(patience=2, epochs=9), falling) == ""
    assert selection._stopped(context.changed(patience=2, epochs=3), falling) == "epochs"


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
    found = []
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        found += [(event.step, v.tag, float(tf.make_ndarray(v.tensor))) for v in event.summary.value]
    assert found == [(1, "loss", 2.5), (2, "loss", 1.5)]


def test_no_more_than_a_quarter_of_the_time_is_kept_for_validation(context, purchases, catalogue, monkeypatch):
    days = []
    monkeypatch.setattr(selection, "sample", lambda kept, *rest, **more: days.append(kept.days))
    for wanted in (10.0, 1000.0):
        fit.fit(context.changed(validation_days=wanted, epochs=1), purchases, catalogue)
    assert days[0] == 10.0
    assert 20 < days[1] < 25
