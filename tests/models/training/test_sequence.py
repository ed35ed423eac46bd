"""The block that knows order: its batches, its arithmetic in Keras and in NumPy, what it says of chains of items."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import storage
from topkin.encoding.recurrent import days_between
from topkin.interactions import Interactions
from topkin.models.training.sequence_batches import forerunners, sequence_batches, stretches

tf = pytest.importorskip("tensorflow")

from topkin.config.sections import TrainSettings  # noqa: E402
from topkin.models.data.histories import PreparedHistories  # noqa: E402
from topkin.models.data.in_memory import UNTIMED, InMemoryInteractions, bare_catalogue  # noqa: E402
from topkin.models.ops import device  # noqa: E402
from topkin.models.training import fit  # noqa: E402
from topkin.models.training.trainer import Plan  # noqa: E402
from topkin.models.two_tower import serialization  # noqa: E402
from topkin.models.two_tower.towers import SequenceTower  # noqa: E402

N = 40
AFTER = np.empty(N, np.int64)  # one cycle through all items
AFTER[np.random.default_rng(9).permutation(N)] = np.roll(np.random.default_rng(9).permutation(N), 1)


def walks(seed, users):
    """Pairs (a, what is always bought after a), twenty days between purchases, half without the first purchase."""
    rng = np.random.default_rng(seed)
    items, ages, indptr = [], [], [0]
    for _ in range(users):
        walk: list[int] = []
        while len(walk) < 8:
            item = int(rng.integers(N))
            if not {item, int(AFTER[item])} & set(walk):
                walk += [item, int(AFTER[item])]
        first = int(rng.integers(2))
        walk = walk[first : first + 7]
        items += walk
        ages += list(rng.uniform(0, 30) + 20.0 * np.arange(6, -1, -1))
        indptr.append(len(items))
    ones = np.ones(len(items), np.float32)
    return Interactions(np.array(indptr), np.array(items, np.int32), np.array(ages, np.float32), ones, N)


@pytest.fixture(scope="module")
def chains():
    device.set_up(deterministic=True)
    return InMemoryInteractions("", pa.chunked_array([pa.array(np.arange(N))]), UNTIMED, parts=(walks(0, 400),))


def chain_plan(**changes):
    settings = {"svd_dim": 16, "next_item_dim": 0, "epochs": 0, "min_sales": 1, "validation_days": 20}
    settings |= {"batch_size": 64, "sequence_dim": 16, "sequence_length": 8, "patience": 8, **changes}
    return Plan(seed=1, recent_days=7, **TrainSettings(**settings).model_dump())


def hits(encoder, purchases):
    """How often the item that always comes next is the first of those not bought, for users of another seed."""
    catalogue = bare_catalogue(purchases)
    out, pooled = encoder.encode_items(catalogue)
    asked = walks(5, 200)
    scores = encoder.encode_users(asked, pooled, catalogue["users"].to_numpy()) @ out.T
    scores[asked.users, asked.items] = -9
    last = asked.items[asked.indptr[1:] - 1]
    open_ended = np.flatnonzero(scores[np.arange(200), AFTER[last]] > -9)
    assert len(open_ended) > 50
    return (scores[open_ended].argmax(axis=1) == AFTER[last][open_ended]).mean()


def test_a_chain_of_items_is_foretold_far_better_with_the_block(chains):
    catalogue = bare_catalogue(chains)
    without, _ = fit.fit(chain_plan(sequence_dim=0), chains, catalogue)
    encoder, done = fit.fit(chain_plan(sequence_epochs=6), chains, catalogue)
    assert [b.name for b in encoder.blocks][:2] == ["svd", "sequence"]
    assert done.reached > done.without_training["ndcg@20"]
    assert "loss" not in done.epochs[0]
    assert done.epochs[-1]["sequence_loss"] < done.epochs[0]["sequence_loss"] - 1
    assert hits(without, chains) < 0.6
    assert hits(encoder, chains) > 0.9


@pytest.fixture(scope="module")
def both(plan):
    """A plan with both trained blocks, the one for less epochs."""
    return replace(plan, sequence_dim=6, sequence_length=4, sequence_epochs=2, validation_cuts=1)


@pytest.fixture(scope="module")
def made(both, purchases, catalogue):
    device.set_up(deterministic=True)
    return fit.fit(both, purchases, catalogue)


class Killed(BaseException):
    pass


def test_a_killed_training_of_two_blocks_goes_on_to_the_same_file(both, made, purchases, catalogue, tmp_path):
    def die(phase, epoch):
        if (phase, epoch["epoch"]) == ("validation", 2):
            raise Killed

    with pytest.raises(Killed):
        fit.fit(both, purchases, catalogue, scratch=str(tmp_path), on_epoch=die)
    encoder, done = fit.fit(both, purchases, catalogue, scratch=str(tmp_path))
    assert serialization.model_bytes(encoder.model) == serialization.model_bytes(made[0].model)
    assert [e["epoch"] for e in done.epochs if "sequence_loss" in e] == [1, 2]
    assert all("loss" in e for e in done.epochs)
    for name in ("trained", "sequence"):
        assert (name in done.blocks) != (f"the {name} block did not raise the validation's ndcg@20" in done.left_out)


@pytest.fixture(scope="module")
def network_of_shop(both, purchases, catalogue):
    """An encoder with all blocks, whatever validation would say."""
    return fit.fit(replace(both, validation_days=0.001), purchases, catalogue)[0]


def test_an_encoder_with_the_block_is_loaded_as_it_was(network_of_shop, purchases, catalogue, tmp_path):
    encoder = serialization.save(network_of_shop, str(tmp_path), {})
    again = serialization.load(str(tmp_path))
    assert [b.name for b in again.blocks] == ["svd", "next_item", "trained", "sequence", "recency"]
    history = purchases.part(purchases.names()[0])
    buyers = catalogue["users"].to_numpy()
    pairs = [(e.encode_items(catalogue)) for e in (encoder, again)]
    assert all((a == b).all() for a, b in zip(*pairs, strict=True))
    users = [e.encode_users(history, pairs[0][1], buyers) for e in (encoder, again)]
    assert (users[0] == users[1]).all()
    assert serialization.save(again, str(tmp_path / "again"), {}).hash == encoder.hash
    assert storage.sha256(f"{tmp_path}/sequence.parquet") == storage.sha256(f"{tmp_path}/again/sequence.parquet")


def test_rotating_the_block_changes_no_score():
    rng = np.random.default_rng(0)
    tower = SequenceTower(items=9, dim=4, word_buckets=2, title_words=1, categories=1, length=5, with_content=False)
    tower.build()
    history = Interactions(
        np.array([0, 4, 6]),
        np.array([0, 3, 5, 8, 2, 1], np.int32),
        np.array([9, 4, 4, 1, 7, 2], np.float32),
        np.ones(6, np.float32),
        9,
    )

    def scores():
        out, pooled = np.asarray(tower.id_out.table)[1:], np.asarray(tower.id_in.table)[1:]
        return tower.network.read(history, pooled) @ out.T

    before = scores()
    tower.rotate(np.linalg.qr(rng.normal(size=(4, 4)))[0])
    np.testing.assert_allclose(scores(), before, atol=1e-6)
    assert np.abs(before).max() > 1e-3


def test_keras_reads_as_numpy_does():
    rng = np.random.default_rng(1)
    tower = SequenceTower(items=30, dim=8, word_buckets=2, title_words=1, categories=1, length=20, with_content=False)
    tower.build()
    for variable in tower.dense:
        variable.assign(rng.normal(size=variable.shape))
    table = rng.normal(size=(30, 8)).astype(np.float32)
    lengths = np.array([3, 20, 1])
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    items = np.concatenate([rng.permutation(30)[:n] for n in lengths]).astype(np.int32)
    ages = np.concatenate([np.sort(rng.uniform(0, 90, n))[::-1] for n in lengths]).astype(np.float32)
    got = tower.network.read(Interactions(indptr, items, ages, np.ones(24, np.float32), 30), table)
    x = np.zeros((3, 20, 9), np.float32)
    for row, n in enumerate(lengths):
        x[row, :n] = np.column_stack([table[items], days_between(ages, indptr)])[indptr[row] : indptr[row + 1]]
    want = np.asarray(tower.read(x))[[0, 1, 2], lengths - 1]
    np.testing.assert_allclose(got, want, atol=2e-5)


def bought(*histories):
    """Histories of ages in time order; no item is bought twice."""
    ages = np.array([age for history in histories for age in history], np.float32)
    indptr, n = np.cumsum([0, *map(len, histories)]), len(ages)
    items = np.random.default_rng(3).permutation(n).astype(np.int32)
    return Interactions(indptr, items, ages, np.ones(n, np.float32), n)


def test_stretches_read_all_before_the_last_time_the_latest_in_full():
    history = bought([5.0], [], [9.0, 1.0], [8.0, 7.0, 6.0, 5.0, 4.0, 2.0, 2.0], [3.0, 3.0])
    before = forerunners(history)
    assert before[[2, 4, 5, 8, 9]].tolist() == [1, 3, 4, 7, 7]
    first, count = stretches(history, before, 3)
    assert [*zip(first.tolist(), count.tolist(), strict=True)] == [(1, 1), (5, 3), (3, 2)]


def test_batches_ask_for_what_was_bought_at_one_time_from_what_was_bought_before(both):
    rng = np.random.default_rng(3)
    lengths = [1, 5, 0, 2, 14, 9, *rng.integers(1, 6, 30)]
    history = bought(*(np.sort(rng.integers(0, 8 if n < 14 else 90, n))[::-1].astype(float) for n in lengths))
    n, ages, users = history.n_items, history.ages, history.users
    place = np.argsort(history.items)
    asked, total, sizes, shared = [], 0.0, [], 0
    uniform = np.cumsum(np.full(n, 1 / n))
    for batch in sequence_batches(history, both.recipe(8), 4, np.random.default_rng(0), uniform):
        total += float(batch["weights"].sum())
        sizes.append(len(batch["target"]))
        shared += len(batch["target"]) - len(batch["at"])
        targets = place[batch["candidates"][batch["target"]]]
        asked += targets.tolist()
        assert (np.diff(batch["question"]) >= 0).all()
        assert batch["question"][-1] + 1 == len(batch["at"])
        named = np.zeros((len(batch["at"]), len(batch["candidates"])), bool)
        named[tuple(batch["bought"].T)] = True
        for target, question in zip(targets, batch["question"], strict=True):
            row, step = divmod(int(batch["at"][question]), batch["steps"].shape[1])
            read = place[batch["pooled"][batch["steps"][row, : step + 1] - 1]]
            older = np.flatnonzero((users == users[target]) & (ages > ages[target]))
            assert 1 <= len(read) <= 4
            assert (read == older[-len(read) :]).all()
            gaps = np.log1p(-np.diff(ages[read], prepend=ages[read[0]]))
            np.testing.assert_allclose(batch["gaps"][row, : step + 1], gaps, rtol=1e-6)
            known = place[batch["candidates"][named[question]]]
            assert {int(target)} <= set(known.tolist())
            assert (users[known] == users[target]).all()
    assert shared > 5  # questions are asked for several items
    assert sorted(asked) == [e for e in range(n) if ages[e] < ages[users == users[e]].max()]
    assert min(sizes) > 0
    assert total == pytest.approx(len(asked), rel=1e-4)


def test_embedding_users_equals_the_encoder(network_of_shop, purchases: PreparedHistories, catalogue, shop, tmp_path):
    from topkin.artifacts import schemas
    from topkin.artifacts.embeddings import vector_column
    from topkin.transforms.embed import EmbedInputs, UserEncoder

    encoder = serialization.save(network_of_shop, str(tmp_path / "model"), {})
    out, pooled = encoder.encode_items(catalogue)
    schema = schemas.with_encoder(schemas.item_embeddings(pa.string(), encoder.dim), encoder.hash)
    columns = [catalogue["item_id"], vector_column(out), vector_column(pooled)]
    storage.write_parquet(
        pa.Table.from_arrays(columns, schema=schema), str(tmp_path / "embeddings" / "items" / storage.part_name(0, 1))
    )
    sources = EmbedInputs(
        prepared=shop,
        model=str(tmp_path / "model"),
        parts=3,
        batch_size=7,
        history_length=6,
        as_of=purchases.as_of,
    )
    table, _ = UserEncoder(sources, str(tmp_path / "embeddings")).part(1)
    got = np.stack(table["vector"].to_numpy(zero_copy_only=False))
    history = purchases.part(storage.part_name(1, 3))
    assert (got == encoder.encode_users(history, pooled, catalogue["users"].to_numpy(), length=6)).all()
