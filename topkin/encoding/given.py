"""Vectors of users and items that were made elsewhere, by one model: only their directions count."""

import hashlib

import numpy as np
import pyarrow as pa

from topkin.artifacts.partition import hash_rows
from topkin.encoding.blocks import GIVEN, Block
from topkin.linalg.cosine import unit_rows


def given_block(dim: int) -> Block:
    """The one block of vectors of ``dim`` coordinates, whose score is the cosine."""
    return Block.unscaled(GIVEN, dim, 0.0, None)


def given_vectors(vectors: np.ndarray) -> np.ndarray:
    """Vectors as they are scored, (n, dim) float32 unit rows; zero where there is none."""
    return unit_rows(np.asarray(vectors, np.float32))


def hash_vectors(ids: pa.ChunkedArray, vectors: np.ndarray) -> int:
    """A number that tells rows of ids and vectors, (n, dim) float32, apart from others.

    Numbers of several groups of rows add up to that of all of them, in whatever order: see :func:`hash_of`.
    """
    rows = np.ascontiguousarray(vectors, np.float32)
    kind = pa.binary(rows.shape[1] * 4)
    column = pa.Array.from_buffers(kind, len(rows), [None, pa.py_buffer(rows)])
    return int(hash_rows(pa.table({"id": ids, "vector": column})).sum(dtype=np.uint64))


def hash_of(dim: int, items: int, users: int) -> str:
    """What stands for the hash of an encoder, of the numbers of all items' and of all users' vectors."""
    text = f"{GIVEN} {dim} {items % 2**64} {users % 2**64}"
    return hashlib.sha256(text.encode()).hexdigest()
