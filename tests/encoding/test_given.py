"""Vectors made elsewhere: unit rows, one block, and a hash that follows every number and no order."""

import numpy as np
import pyarrow as pa
import pytest

from topkin.encoding.blocks import Block, are_given, dim_of, preference_embeddings
from topkin.encoding.given import given_block, given_vectors, hash_of, hash_vectors

RNG = np.random.default_rng(1)
VECTORS = RNG.normal(size=(9, 4)).astype(np.float32)
IDS = pa.chunked_array([[f"u{n}" for n in range(9)]])


def test_only_directions_count() -> None:
    scaled = VECTORS * RNG.uniform(1e-3, 1e3, (9, 1)).astype(np.float32)
    np.testing.assert_allclose(given_vectors(scaled), given_vectors(VECTORS), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(given_vectors(VECTORS), axis=1), 1, rtol=1e-6)
    assert not given_vectors(np.zeros((2, 4))).any()


def test_vectors_have_no_coordinate_but_their_own_and_are_compared_as_they_are() -> None:
    blocks = [given_block(4)]
    assert are_given(blocks)
    assert dim_of(blocks) == 4
    assert dim_of([Block.unscaled("svd", 4, 0.0, None)]) == 5
    np.testing.assert_allclose(preference_embeddings(given_vectors(VECTORS), blocks), given_vectors(VECTORS), rtol=1e-6)


def test_numbers_of_groups_add_up_in_any_order() -> None:
    order = RNG.permutation(9)
    shuffled = IDS.take(pa.array(order)), VECTORS[order]
    halves = hash_vectors(shuffled[0][:4], shuffled[1][:4]) + hash_vectors(shuffled[0][4:], shuffled[1][4:])
    assert hash_of(4, 0, halves) == hash_of(4, 0, hash_vectors(IDS, VECTORS))
    assert hash_vectors(IDS[:0], VECTORS[:0]) == 0


@pytest.mark.parametrize("change", ["vector", "id", "swap"])
def test_every_number_and_id_counts(change: str) -> None:
    ids, vectors = IDS.to_pylist(), VECTORS.copy()
    if change == "vector":
        vectors[3, 2] = np.nextafter(vectors[3, 2], np.float32(9))
    elif change == "id":
        ids[3] = "other"
    else:
        vectors[[0, 1]] = vectors[[1, 0]]
    assert hash_vectors(pa.chunked_array([ids]), vectors) != hash_vectors(IDS, VECTORS)
    assert hash_of(4, 1, 2) != hash_of(4, 2, 1)
