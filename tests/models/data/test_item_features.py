import numpy as np
import pyarrow as pa
import pytest

from topkin.models.data.item_features import (
    PRICE_STEPS,
    hash_words,
    item_features,
    price_rows,
    tokenise,
    word_rows,
)


def test_words_are_lower_case_letters_and_digits_with_entities_undone():
    titles = pa.array(["Tea &amp; Co's  MUG-2", "  ", None, "Café №5", "a&lt;b"])
    assert tokenise(titles).to_pylist() == [["tea", "co", "s", "mug", "2"], [""], None, ["café", "5"], ["a", "b"]]


def test_a_words_bucket_is_the_same_on_any_machine():
    assert hash_words(["lantern", "café"], 16384).tolist() == [3333, 14168]


def test_rows_of_words_are_padded_and_cut():
    rows = word_rows(pa.array(["red red lamp", None, "", "a b c d"]), buckets=100, width=3)
    red, lamp, a, b, c = hash_words(["red", "lamp", "a", "b", "c"], 100)
    assert rows.tolist() == [[red, red, lamp], [0, 0, 0], [0, 0, 0], [a, b, c]]


def test_no_titles_at_all_give_no_words():
    assert word_rows(pa.array([], pa.string()), buckets=10, width=3).shape == (0, 3)
    assert word_rows(pa.array([None, None], pa.string()), buckets=10, width=3).tolist() == [[0] * 3] * 2


@pytest.mark.parametrize("price", [0.0, -1.0, np.nan, np.inf])
def test_what_is_no_price_gets_row_zero(price):
    assert price_rows(np.array([price])).tolist() == [0]


def test_prices_step_by_half_octaves():
    steps = price_rows(np.array([1e-9, 1.0, 1.42, 2.0, 4.0, 1e12]))
    assert steps.tolist() == [1, 17, 18, 19, 21, PRICE_STEPS]


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.binary()])
def test_unknown_items_and_categories_get_row_zero(catalogue, kind):
    ids = {pa.int64(): [1, 2, 3], pa.string(): ["1", "2", "3"], pa.binary(): [b"1", b"2", b"3"]}[kind]
    table = catalogue.slice(0, 3).set_column(0, "item_id", pa.array(ids, kind))
    table = table.set_column(2, "category", pa.array(["b", None, "never seen"], pa.string()))
    known = pa.array([ids[2], ids[0]], kind)
    features = item_features(table, ids=known, categories=("a", "b"), word_buckets=10, title_words=2)
    assert features.id_rows.tolist() == [2, 0, 1]
    assert features.categories.tolist() == [2, 0, 0]


def test_padding_adds_rows_of_nothing(catalogue):
    ids = catalogue["item_id"].combine_chunks()
    features = item_features(catalogue, ids=ids, categories=("garden",), word_buckets=10, title_words=2)
    padded = features.padded(slice(34, 36), 4)
    assert padded["id_rows"].tolist() == [35, 36, 0, 0]
    assert padded["words"].shape == (4, 2)
    assert not padded["words"][2:].any()
