"""Who was forgotten, as hashes of their ids: what comes of them later, in a back-fill too, is passed over.

``<output>/forgotten.json`` holds a random key and the hashes. They keep an id from being read by chance; who has the
file and a list of all ids can tell who is among them, as is needed to pass them over.
"""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage
from topkin.artifacts.ids import Values
from topkin.errors import ArtifactError

FILE = "forgotten.json"
REASON = "user is forgotten"
SIZE = 16
"""Bytes of a hash, and of the key."""

Id = int | str | bytes


@dataclass(frozen=True)
class Forgotten:
    """The users that were forgotten in an output folder.

    Args:
        key: Of the hashes, bytes.
        hashes: BLAKE2b of each id, 16 bytes.
    """

    key: bytes
    hashes: frozenset[bytes]

    @classmethod
    def none(cls) -> "Forgotten":
        """Nobody yet, under a new key."""
        return cls(secrets.token_bytes(SIZE), frozenset())

    @classmethod
    def read(cls, output: str) -> "Forgotten | None":
        """Those of an output folder; None where nobody was forgotten. Raises ArtifactError for a damaged file."""
        path = storage.join(output, FILE)
        if not storage.exists(path):
            return None
        try:
            value = storage.read_json(path)
            key, hashes = bytes.fromhex(value["key"]), frozenset(bytes.fromhex(h) for h in value["hashes"])
        except (ArtifactError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise ArtifactError(
                f"{path} must hold a key and hashes of users that were forgotten, it is damaged ({e}): bring it back "
                "from a copy; without it they would be taken in again"
            ) from e
        return cls(key, hashes)

    def write(self, output: str) -> None:
        """Put it where :meth:`read` finds it."""
        value = {"key": self.key.hex(), "hashes": sorted(h.hex() for h in self.hashes)}
        storage.write_json(value, storage.join(output, FILE))

    def with_users(self, ids: Iterable[Id]) -> "Forgotten":
        """These and some more."""
        return Forgotten(self.key, self.hashes | {self._hash(i) for i in ids})

    def among(self, ids: Values) -> np.ndarray:
        """Which of some ids are theirs, (n,) bool; a null is nobody's. An integer and its digits are one user."""
        if not self.hashes:
            return np.zeros(len(ids), bool)
        whole = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
        codes = pa.chunked_array([whole]).dictionary_encode().combine_chunks()
        forgotten = [value is not None and self._hash(value) in self.hashes for value in codes.dictionary.to_pylist()]
        at = np.asarray(codes.indices.fill_null(len(forgotten))).astype(np.int64)
        return np.append(np.array(forgotten, bool), False)[at]

    def _hash(self, value: Id) -> bytes:
        raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(raw, key=self.key, digest_size=SIZE).digest()
