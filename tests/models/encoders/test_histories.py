"""Encoders of histories: what they are blind to, what they tell apart, and that they learn it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from topkin.models import dssm, history_encoder, losses
from topkin.models.encoders.histories import KINDS, STARTS_OF_STEPS, STEPS_OF_TIME, _step

IDS = [11, 12, 13, 14]


@pytest.fixture(scope="module")
def encoders() -> dict[str, keras.Model]:
    return {kind: history_encoder(IDS, 8, kind=kind, seed=1) for kind in KINDS}


@pytest.fixture(params=KINDS)
def users(request: pytest.FixtureRequest, encoders: dict[str, keras.Model]) -> keras.Model:
    return encoders[request.param]


def vectors(users: keras.Model, items: Any, ages: Any = None) -> np.ndarray:
    items = np.asarray(items)
    ages = np.zeros(items.shape, "f4") if ages is None else np.asarray(ages, "f4")
    return np.asarray(users([items, ages] if len(users.inputs) == 2 else items))


def test_padding_counts_for_nothing_whichever_side_it_is_on(users: keras.Model) -> None:
    alone = vectors(users, [[11, 13, 12]], [[40, 3, 0]])
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-6)
    for width in (1, 20, 100):
        nothing = [0] * width
        after = vectors(users, [[11, 13, 12, *nothing]], [[40, 3, 0, *nothing]])
        before = vectors(users, [[*nothing, 11, 13, 12]], [[*nothing, 40, 3, 0]])
        np.testing.assert_allclose(after, alone, atol=1e-5)
        np.testing.assert_allclose(before, alone, atol=1e-5)


def test_items_that_are_not_known_are_passed_over_and_none_is_a_zero_vector(users: keras.Model) -> None:
    np.testing.assert_allclose(vectors(users, [[11, 99, 12]]), vectors(users, [[11, 12, 0]]), atol=1e-6)
    assert not vectors(users, [[0, 0], [99, 0], [-1, 2**40]]).any()


def test_what_was_bought_and_when_counts(users: keras.Model) -> None:
    base = vectors(users, [[11, 13, 12]], [[40, 3, 0]])
    assert np.abs(vectors(users, [[11, 14, 12]], [[40, 3, 0]]) - base).max() > 1e-3
    assert np.abs(vectors(users, [[11, 13, 12]], [[400, 3, 0]]) - base).max() > 1e-3


def test_a_time_at_the_edge_of_a_step_is_of_the_same_step_wherever_it_stands() -> None:
    edges = np.concatenate([np.nextafter(STARTS_OF_STEPS, s, dtype="f4") for s in (0, 1e9)] + [STARTS_OF_STEPS])
    alone = [_step(tf.constant([e])).numpy()[0] for e in edges]
    for start in range(17):
        assert _step(tf.constant(np.r_[np.zeros(start, "f4"), edges])).numpy()[start:].tolist() == alone
    assert _step(tf.constant(STARTS_OF_STEPS)).numpy().tolist() == list(range(1, STEPS_OF_TIME))
    days = np.arange(0, 20_000, 7.3, "f4")
    np.testing.assert_array_equal(_step(tf.constant(days)), np.minimum(np.floor(2 * np.log2(1 + 4 * days)), 31))


def test_the_order_counts_unless_all_items_are_alike(encoders: dict[str, keras.Model]) -> None:
    for kind, users in encoders.items():
        moved = np.abs(vectors(users, [[11, 13, 12]]) - vectors(users, [[12, 13, 11]])).max()
        assert (moved > 1e-3) == (kind != "mean"), kind


def test_places_before_the_last_share_its_vector_and_lengths_beyond_are_taken() -> None:
    users = history_encoder(IDS, 8, length=2, time_gaps=False, kind="attention", seed=1)
    np.testing.assert_allclose(vectors(users, [[11, 13, 12]]), vectors(users, [[13, 11, 12]]), atol=1e-6)
    assert np.abs(vectors(users, [[11, 13, 12]]) - vectors(users, [[11, 12, 13]])).max() > 1e-3


def test_ids_may_be_strings_or_numbers_from_one() -> None:
    by_id = history_encoder(IDS, 4, time_gaps=False, seed=3)
    by_number = history_encoder(4, 4, time_gaps=False, seed=3)
    by_text = history_encoder([str(i) for i in IDS], 4, time_gaps=False, seed=3)
    expected = vectors(by_id, [[11, 14, 0]])
    np.testing.assert_allclose(vectors(by_number, [[1, 4, 0]]), expected, atol=1e-6)
    np.testing.assert_allclose(vectors(by_number, [[1, 5, 4]]), expected, atol=1e-6)
    np.testing.assert_allclose(np.asarray(by_text(tf.constant([["11", "14", ""]]))), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("items", "options", "message"),
    [
        (IDS, {"kind": "lstm"}, "kind must be one of transformer, gru, attention, mean, got 'lstm'"),
        (IDS, {"heads": 3}, "width must be a multiple of heads, got 8 and 3"),
        (IDS, {"blocks": 0}, "must be at least 1"),
        (0, {}, "items must be at least one, got 0"),
        ([], {}, "items must be ids, all of them strings or all integers, .*, got 0 of no type"),
        (["a", 1], {}, "got 2 of int, str"),
        (["a", "a"], {}, "unique ids, none of them '' or '.UNK.', got an id twice"),
        ([1, 0], {}, "none of them 0 or -1, got one that stands for none"),
    ],
)
def test_what_does_not_fit_is_said(items: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        history_encoder(items, 8, **options)


SCRIPT = """
import sys
import keras, numpy as np
import topkin.models
from topkin.models import KerasEncoder

histories = [np.array([[11, 13, 12, 0]]), np.array([[40, 3, 0, 0]], "f4")]
for path in sys.argv[1:]:
    model = keras.saving.load_model(path, safe_mode=True)
    np.save(path + ".npy", np.asarray(model(histories)))
"""


def test_another_process_loads_them_in_safe_mode(encoders: dict[str, keras.Model], tmp_path: Path) -> None:
    paths = {kind: tmp_path / f"{kind}.keras" for kind in encoders}
    for kind, model in encoders.items():
        model.save(paths[kind])
    subprocess.run([sys.executable, "-c", SCRIPT, *map(str, paths.values())], check=True, capture_output=True)
    for kind, model in encoders.items():
        expected = vectors(model, [[11, 13, 12, 0]], [[40, 3, 0, 0]])
        np.testing.assert_allclose(np.load(f"{paths[kind]}.npy"), expected, atol=1e-6, err_msg=kind)


@pytest.mark.parametrize("kind", ["transformer", pytest.param("gru", marks=pytest.mark.slow)])
def test_as_the_tower_of_users_it_learns_what_follows(kind: str) -> None:
    """The next item is the first one bought, whatever came after: a mean cannot tell."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    histories = np.array([rng.permutation(12)[:4] + 1 for _ in range(1500)])
    following = histories[:, 0]
    item = keras.Sequential([keras.Input((1,), dtype="int64"), keras.layers.Embedding(13, 16), keras.layers.Flatten()])
    towers = dssm(history_encoder(12, 16, length=8, kind=kind, time_gaps=False, seed=1), item)
    loss = losses.SampledSoftmax(np.bincount(following, minlength=13)[1:], temperature=0.1)
    towers.model.compile(keras.optimizers.Adam(0.02), loss=loss, jit_compile=False)
    towers.model.fit([histories, following[:, None]], following - 1, batch_size=100, epochs=8, verbose=0)
    asked = towers.left.predict(histories[:200], verbose=0)
    answers = towers.right.predict(np.arange(1, 13)[:, None], verbose=0)
    answers /= np.linalg.norm(answers, axis=1, keepdims=True)
    share = ((asked @ answers.T).argmax(axis=1) + 1 == following[:200]).mean()
    assert share > 0.9
