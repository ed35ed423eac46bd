"""The loss of profiles against the softmax of its formula, and their batches against the histories."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")

from topkin.interactions import Interactions  # noqa: E402
from topkin.models.data.in_memory import InMemoryInteractions  # noqa: E402
from topkin.models.training.profile_trainer import ProfileTrainer, profile_batches  # noqa: E402


@pytest.fixture(scope="module")
def trainer(context, purchases, catalogue):
    kind = pa.struct({"plan": pa.string(), "age": pa.float32()})
    parts = [purchases.part(name) for name in purchases.names()]
    users = [
        pa.table({"features": pa.array([{"plan": f"p{u % 3}", "age": float(u)} for u in range(p.n_users)], kind)})
        for p in parts
    ]
    known = InMemoryInteractions("", purchases.item_ids, purchases.as_of, parts=parts, users=users)
    chosen = context.changed(user_feature_dim=5, id_dropout=0.3, batch_size=32)
    return ProfileTrainer.of(chosen, known, "refit", chosen.index(known, catalogue))


def formula(trainer, batch):
    """The loss of a batch by the formula, one target at a time."""
    model, step = trainer.model, trainer.step
    read = step._read(batch["candidates"])
    items = np.asarray(model.id_out(batch["candidates_rows"]) + model.content(read, "out"), np.float64)
    table = np.asarray(model.profiles[0].table, np.float64)
    log_e, log_q = (np.asarray(x, np.float64)[batch["candidates"]] for x in (step.log_exposure, step.log_q))
    losses = []
    for target, question in zip(batch["target"], batch["question"], strict=True):
        taste = batch["shares"][question].astype(np.float64) @ table[batch["values"][question]]
        logits = items[:, :-1] @ taste[:-1] + items[:, -1] + log_e
        bought = batch["bought"][batch["bought"][:, 0] == question, 1]
        others = np.setdiff1d(np.arange(len(items)), bought)
        against = np.r_[logits[target], (logits - log_q)[others]]
        losses.append(np.log(np.exp(against).sum()) - logits[target])
    return np.mean(np.array(losses) * batch["weights"])


def test_the_loss_is_that_of_the_formula(trainer):
    for _, batch in zip(range(3), trainer.batches(1), strict=False):
        wanted = formula(trainer, batch)
        assert float(trainer.step(batch)) == pytest.approx(wanted, rel=1e-4)


def test_an_epoch_lowers_the_loss_and_leaves_no_feature_a_part_in_what_sells(trainer):
    first = trainer.run_epoch(1)
    assert trainer.run_epoch(2) < first
    table = np.asarray(trainer.model.profiles[0].table)
    assert not table[:-1, -1].any()
    assert table[-1].tolist() == [0, 0, 0, 0, 0, 1]
    assert trainer.step.traces <= 2


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=12), st.integers(1, 8), st.integers(0, 3))
def test_every_purchase_is_asked_for_once_with_what_is_known_of_its_user(histories, batch_size, negatives):
    flat = np.array([item for history in histories for item in history], np.int32)
    indptr = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    ages, ones = np.arange(len(flat), 0, -1).astype(np.float32), np.ones(len(flat), np.float32)
    values = np.arange(len(histories), dtype=np.int32)[:, None]
    asked = profile_batches(
        Interactions(indptr, flat, ages, ones, 10),
        values,
        np.ones(values.shape, np.float32),
        SimpleNamespace(advanced=SimpleNamespace(user_power=0.0, example_half_life_days=None)),
        np.random.default_rng(0),
        batch_size=batch_size,
        cumulative=np.linspace(0.1, 1, 10),
        negatives=negatives,
    )
    seen, users = [], []
    for batch in asked:
        assert len(np.unique(batch["candidates"])) == len(batch["candidates"]) >= 1
        owner = batch["values"][batch["question"], 0]
        users += np.unique(owner).tolist()
        seen += list(zip(owner.tolist(), batch["candidates"][batch["target"]].tolist(), strict=True))
        assert batch["bought"].tolist() == np.column_stack([batch["question"], batch["target"]]).tolist()
        assert (np.diff(batch["question"]) >= 0).all()
        assert len(batch["target"]) < batch_size + 6
    assert sorted(seen) == sorted((user, item) for user, history in enumerate(histories) for item in set(history))
    assert len(users) == len(set(users))  # a user stands in one batch
