"""Rows of users' own: learned beside the histories, used where a user is known, and never needed."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import schemas, storage

pytest.importorskip("tensorflow")

from topkin.artifacts.embeddings import vector_column, vectors_of
from topkin.encoding.blocks import user_vectors
from topkin.encoding.user_embeddings import UserRows
from topkin.models.data.histories import count
from topkin.models.data.in_memory import bare_catalogue, without_times
from topkin.models.objective.user_embeddings import Askers
from topkin.models.training import fit
from topkin.models.training.trainer import Trainer
from topkin.models.training.validation import BlockHyperparameters, BlockWeightSearch, sample
from topkin.models.two_tower import serialization
from topkin.models.two_tower.encoder import encode_features
from topkin.transforms.embed import EmbedInputs, UserEncoder

AS_ALL = 0.001  # days: no validation, so all blocks are there


@pytest.fixture(scope="module")
def rows_plan(plan):
    return replace(plan, user_rows=True, batch_size=32)


@pytest.fixture(scope="module")
def made(rows_plan, purchases, catalogue):
    """An encoder with rows, whatever validation would say."""
    return fit.fit(replace(rows_plan, validation_days=AS_ALL), purchases, catalogue)[0]


def ids_of(purchases, *names):
    return pa.concat_arrays([c for name in names or purchases.names() for c in purchases.users(name).chunks])


def test_a_question_sees_the_row_of_its_own_user_or_none(rows_plan, purchases, catalogue):
    several = replace(purchases, buffer=1)  # parts come one after another in random order
    trainer = Trainer(rows_plan, several, "refit", rows_plan.known(purchases, catalogue))
    ids, items = ids_of(purchases).to_pylist(), catalogue["item_id"].to_pylist()
    bought = {}
    for name in purchases.names():
        histories = storage.read_parquet(storage.join(purchases.folder, name))
        bought |= dict(zip(histories["user_id"].to_pylist(), map(set, histories["items"].to_pylist()), strict=True))
    seen, alone, users = 0, 0, set()
    for batch in trainer.batches(1):
        rows = batch["user_rows"]
        assert len(rows) == batch["question"][-1] + 1
        seen, alone = seen + len(rows), alone + int((rows == 0).sum())
        for target, question in zip(batch["target"], batch["question"], strict=True):
            if rows[question]:
                users.add(rows[question])
                assert items[batch["candidates"][target]] in bought[ids[rows[question] - 1]]
    assert len(users) > 80  # of 90, two of four questions each
    assert 0.4 < alone / seen < 0.6


def test_a_step_moves_the_rows_that_it_sees_and_no_others(rows_plan, purchases, catalogue):
    trainer = Trainer(rows_plan, purchases, "refit", rows_plan.known(purchases, catalogue))
    table = trainer.askers.table.table
    assert np.asarray(table).shape == (91, rows_plan.dim)
    assert not np.asarray(table).any()
    batch = next(trainer.batches(1))
    trainer.step(batch)
    moved = np.flatnonzero(np.asarray(table).any(axis=1))
    assert set(moved) == set(batch["user_rows"].tolist()) - {0}
    # Adam's first step is as long as the learning rate in every coordinate
    np.testing.assert_allclose(np.abs(np.asarray(table)[moved]), rows_plan.learning_rate, rtol=1e-2)


def test_the_loss_of_questions_that_see_no_row_is_that_without_rows(rows_plan, purchases, catalogue, monkeypatch):
    monkeypatch.setattr("topkin.models.objective.user_embeddings.ALONE", 1.0)
    known = rows_plan.known(purchases, catalogue)
    losses = []
    for plan in (rows_plan, replace(rows_plan, user_rows=False)):
        trainer = Trainer(plan, purchases, "refit", known)
        losses.append([float(trainer.step(batch)) for _, batch in zip(range(1), trainer.batches(1), strict=False)])
    assert losses[0] == losses[1]


def test_users_who_were_asked_for_nothing_have_no_row(rows_plan, catalogue):
    users, items = np.array([0, 0, 1, 2, 2, 2, 3, 3, 4, 4]), np.array([0, 1, 0, 0, 1, 2, 4, 4, 3, 4])
    held = without_times(users, items, pa.array([f"i{n}" for n in range(5)]), seed=0)
    trainer = Trainer(replace(rows_plan, folds=2), held, "refit", rows_plan.known(held, bare_catalogue(held)))
    for epoch in range(1, 6):
        trainer.run_epoch(epoch)
    known = trainer.askers.known()
    assert known.ids.to_pylist() == [0, 2, 4]  # two different items at least
    assert known.rows.any(axis=1).all()
    assert (known.of(pa.array([2, 1])) == trainer.askers.learned(np.array([2, 1]))).all()


def test_a_new_user_is_encoded_as_without_the_table_and_a_known_one_by_the_formula(made, purchases, catalogue):
    name = purchases.names()[1]
    history, buyers = purchases.part(name), catalogue["users"].to_numpy()
    _, pooled = made.encode_items(catalogue)
    bare = made.encode_users(history, pooled, buyers)
    ids = ids_of(purchases, name)
    strangers = pa.array([f"new {n}" for n in range(len(ids))])
    assert (made.encode_users(history, pooled, buyers, users=strangers) == bare).all()
    by_id = dict(zip(made.users.ids.to_pylist(), made.users.rows, strict=True))
    own = np.stack([by_id.get(user, np.zeros(8, np.float32)) for user in ids.to_pylist()])
    assert own.any(axis=1).mean() > 0.9
    got = made.encode_users(history, pooled, buyers, users=ids)
    assert (got == user_vectors(history, pooled, buyers, made.blocks, own=own)).all()
    assert np.abs(got - bare).max(axis=1)[own.any(axis=1)].min() > 1e-4


def test_an_encoder_with_rows_is_loaded_as_it_was(made, purchases, catalogue, tmp_path):
    encoder = serialization.save(made, str(tmp_path / "one"), {})
    again = serialization.load(str(tmp_path / "one"))
    _, pooled = again.encode_items(catalogue)
    name = purchases.names()[0]
    asked = purchases.part(name), pooled, catalogue["users"].to_numpy()
    ids = ids_of(purchases, name)
    assert (again.encode_users(*asked, users=ids) == encoder.encode_users(*asked, users=ids)).all()
    assert serialization.save(again, str(tmp_path / "two"), {}).hash == encoder.hash
    for file in ("users.parquet", "signature.json"):
        assert storage.sha256(f"{tmp_path}/one/{file}") == storage.sha256(f"{tmp_path}/two/{file}")


def test_the_encoders_hash_names_the_rows(made, tmp_path):
    users = UserRows(made.users.ids, made.users.rows + np.float32(0.1))
    with pytest.raises(ValueError, match="users must be the rows of the model's SHA-256"):
        type(made)(made.model, made.ids, users=users)
    before = serialization.save(made, str(tmp_path / "a"), {}).hash
    meaning = made.model.meaning
    try:
        made.model.meaning = {**meaning, "user_rows": users.sha256}
        after = serialization.save(type(made)(made.model, made.ids, users=users), str(tmp_path / "b"), {}).hash
    finally:
        made.model.meaning = meaning
    assert before != after


def test_off_is_as_if_the_key_were_not_there(plan, made, purchases, catalogue, tmp_path):
    encoder, _ = fit.fit(replace(plan, epochs=1, validation_days=AS_ALL), purchases, catalogue)
    serialization.save(encoder, str(tmp_path), {})
    assert sorted(storage.files(str(tmp_path))) == ["encoder.keras", "items.parquet", "signature.json"]
    assert "user_rows" not in storage.read_json(str(tmp_path / "signature.json"))
    assert encoder.users is None


def test_a_killed_training_with_rows_goes_on_to_the_same_rows(rows_plan, purchases, catalogue, tmp_path):
    plan = replace(rows_plan, epochs=2, validation_days=AS_ALL)

    def die(phase, epoch):
        if (phase, epoch["epoch"]) == ("refit", 2):
            raise KeyboardInterrupt

    whole, _ = fit.fit(plan, purchases, catalogue)
    with pytest.raises(KeyboardInterrupt):
        fit.fit(plan, purchases, catalogue, scratch=str(tmp_path), on_epoch=die)
    again, _ = fit.fit(plan, purchases, catalogue, scratch=str(tmp_path))
    assert again.users.sha256 == whole.users.sha256
    assert serialization.model_bytes(again.model) == serialization.model_bytes(whole.model)


def test_validation_judges_users_with_their_rows(rows_plan, purchases, catalogue):
    before = replace(purchases, days=14.0)
    known = rows_plan.known(before, catalogue)
    cut = sample(before, count(before, 7), 40, 0)
    ids = ids_of(purchases).take(pa.array(cut.users))
    everyone = {i: s for name in purchases.names() for i, s in histories(before, name).items()}
    spans = zip(cut.known.indptr, cut.known.indptr[1:], strict=False)
    assert [sorted(cut.known.items[a:b].tolist()) for a, b in spans] == [everyone[i] for i in ids.to_pylist()]
    trainer = Trainer(rows_plan, before, "validation", known)
    trainer.run_epoch(1)
    sides = {"trained": encode_features(trainer.model, known.features, 64)}
    own = trainer.askers.learned(cut.users)
    contest = BlockWeightSearch(cut, sides, fit._inverse_popularities(rows_plan), own=own)
    encoder = fit.finished(
        rows_plan, {"trained": trainer.model}, {"trained": BlockHyperparameters()}, known, trainer.askers.known()
    )
    out, pooled = encoder.encode_items(catalogue)
    users = encoder.encode_users(cut.known, pooled, cut.counts.buyers, users=ids)
    # scores are those of the encoder, up to a factor for each user and a constant of its items' lengths
    want = (users[:, :8] @ out[:, :8].T)[cut.known.users][:, :33]
    got = np.matmul(*(x if n == 0 else x.T for n, x in enumerate(contest.factors("trained", BlockHyperparameters()))))
    got = got[cut.known.users][:, :33]
    np.testing.assert_allclose(
        got / np.linalg.norm(got, axis=1, keepdims=True),
        want / np.linalg.norm(want, axis=1, keepdims=True),
        atol=1e-4,
    )
    without = BlockWeightSearch(cut, sides, fit._inverse_popularities(rows_plan))
    assert (
        np.abs(
            without.factors("trained", BlockHyperparameters())[0]
            - contest.factors("trained", BlockHyperparameters())[0]
        ).max()
        > 1e-3
    )


def histories(purchases, name):
    from topkin.models.data.histories import before_cut

    part = before_cut(purchases.part(name), purchases.days)
    spans = zip(part.indptr, part.indptr[1:], strict=False)
    return dict(
        zip(ids_of(purchases, name).to_pylist(), [sorted(part.items[a:b].tolist()) for a, b in spans], strict=True)
    )


@pytest.mark.parametrize("parts", [1, 3])
def test_embedding_users_equals_the_encoder_however_many_parts(made, shop, purchases, catalogue, tmp_path, parts):
    encoder = serialization.save(made, str(tmp_path / "model"), {})
    out, pooled = encoder.encode_items(catalogue)
    schema = schemas.with_encoder(schemas.item_embeddings(pa.string(), encoder.dim), encoder.hash)
    columns = [catalogue["item_id"], vector_column(out), vector_column(pooled)]
    storage.write_parquet(
        pa.Table.from_arrays(columns, schema=schema), str(tmp_path / "embeddings" / "items" / storage.part_name(0, 1))
    )
    every = storage.read_parts(storage.join(shop, "histories"))
    order = np.random.default_rng(1).permutation(len(every))
    storage.write_parquet(catalogue, str(tmp_path / "prepared" / "catalogue.parquet"))
    for part in range(parts):
        name = storage.part_name(part, parts)
        storage.write_parquet(every.take(pa.array(order[part::parts])), str(tmp_path / "prepared" / "histories" / name))
    sources = EmbedInputs(
        prepared=str(tmp_path / "prepared"),
        model=str(tmp_path / "model"),
        parts=parts,
        batch_size=7,
        history_length=6,
        as_of=purchases.as_of,
    )
    users = UserEncoder(sources, str(tmp_path / "embeddings"))
    tables = [users.part(part)[0] for part in range(parts)]
    got = {i: v for t in tables for i, v in zip(t["user_id"].to_pylist(), vectors_of(t), strict=True)}
    assert len(got) == 90
    for name in purchases.names():
        ids = ids_of(purchases, name)
        want = encoder.encode_users(purchases.part(name), pooled, catalogue["users"].to_numpy(), length=6, users=ids)
        assert (np.stack([got[i] for i in ids.to_pylist()]) == want).all()


def test_users_are_numbered_part_after_part(purchases):
    askers = Askers(purchases, 3)
    names = purchases.names()
    assert askers.rows(names).tolist() == list(range(1, 91))
    sizes = [len(purchases.users(name)) for name in names]
    assert askers.rows([names[2], names[0]]).tolist() == [
        *range(1 + sizes[0] + sizes[1], 91),
        *range(1, 1 + sizes[0]),
    ]
