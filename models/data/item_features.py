"""What the item tower reads of the catalogue: id row, title words, category, price, features, its own vector.

Row 0 of every table stands for "nothing known", so that a column that is null, or absent from the shop,
adds nothing to a vector.
"""

import hashlib
import html
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.embeddings import vectors_of
from topkin.errors import ArtifactError
from topkin.interactions import encode_ids
from topkin.linalg.cosine import unit_rows
from topkin.models.data.feature_rows import FeatureRows

PRICE_STEPS = 64  # half octaves: prices from 2^-8 to 2^24 differ, those beyond share the last step
_LOWEST = -16


@dataclass(frozen=True)
class ItemFeatures:
    """Features of m items.

    id_rows: (m,) int32 rows of the id table. words: (m, title_words) int32 rows of the word table, padded
    with 0. categories: (m,) int32. prices: (m,) int32. In each, 0 means none. vectors: (m, p) float32, what items
    bring of their own: unit rows, zeros for none; p is 0 where the shop has no such column. values, shares: (m, w)
    int32 and float32, rows of the table of features and what each counts, see :class:`FeatureRows`.
    """

    id_rows: np.ndarray
    words: np.ndarray
    categories: np.ndarray
    prices: np.ndarray
    vectors: np.ndarray
    values: np.ndarray
    shares: np.ndarray

    def __len__(self) -> int:
        return len(self.id_rows)

    def padded(self, rows: slice, size: int) -> dict[str, np.ndarray]:
        """Some rows as the item tower's input, filled up with empty rows to ``size``."""
        arrays = {"id_rows": self.id_rows, **self.content}
        return {k: np.pad(a[rows], ((0, size - len(a[rows])), *[(0, 0)] * (a.ndim - 1))) for k, a in arrays.items()}

    @property
    def content(self) -> dict[str, np.ndarray]:
        """What the item tower reads beside ``id_rows``, by name."""
        arrays = {"words": self.words, "categories": self.categories, "prices": self.prices}
        if self.values.shape[1]:
            arrays |= {"values": self.values, "shares": self.shares}
        return {**arrays, "vectors": self.vectors} if self.vectors.shape[1] else arrays

    @property
    def has_content(self) -> np.ndarray:
        """Which items have a word, a category, a feature or a vector, (m,) bool; a price alone tells too little."""
        labelled = (self.words > 0).any(axis=1) | (self.categories > 0) | (self.values > 0).any(axis=1)
        return np.asarray(labelled | self.vectors.any(axis=1))


def hash_words(words: list[str], buckets: int) -> np.ndarray:
    """A stable bucket of each word, (n,) int32 in 1..buckets: the same on any machine and version."""
    return (_digests(words) % np.uint64(buckets)).astype(np.int32) + np.int32(1)


def _digests(words: list[str]) -> np.ndarray:
    digests = (hashlib.blake2b(w.encode(), digest_size=8).digest() for w in words)
    return np.array([int.from_bytes(d, "little") for d in digests], np.uint64)


def tokenise(titles: pa.Array) -> pa.Array:
    """Lower-case words of letters and digits of each title, list<string>; HTML entities are undone first."""
    encoded = titles.dictionary_encode()
    texts = pa.array([html.unescape(t) if "&" in t else t for t in encoded.dictionary.to_pylist()], pa.string())
    plain = pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.utf8_lower(texts), r"[^\p{L}\p{N}]+", " "))
    words = pc.split_pattern(plain, " ")
    return words.take(encoded.indices)


def word_rows(titles: pa.Array, *, buckets: int, width: int) -> np.ndarray:
    """The hashed first ``width`` words of each title, (n, width) int32, padded with 0."""
    words = tokenise(titles)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(words), 0))
    flat = pc.list_flatten(words).dictionary_encode()
    texts = flat.dictionary.to_pylist()
    buckets_of = np.where([bool(t) for t in texts], hash_words(texts, buckets), 0) if texts else np.zeros(0, int)
    hashed = buckets_of[np.asarray(flat.indices)].astype(np.int32) if len(flat) else np.zeros(0, np.int32)
    rows = np.repeat(np.arange(len(titles)), lengths)
    column = np.arange(len(hashed)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    out = np.zeros((len(titles), width), np.int32)
    keep = column < width
    out[rows[keep], column[keep]] = hashed[keep]
    return out


def price_rows(prices: np.ndarray) -> np.ndarray:
    """The step of each price, (n,) int32 in 1..PRICE_STEPS: half octaves; 0 for none, NaN, zero or less."""
    valid = np.isfinite(prices) & (prices > 0)
    steps = np.floor(2 * np.log2(np.where(valid, prices, 1.0))) - _LOWEST
    return np.where(valid, np.clip(steps, 0, PRICE_STEPS - 1) + 1, 0).astype(np.int32)


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name].combine_chunks()
    return pa.array([], column.type) if isinstance(column, pa.ChunkedArray) else column


def vector_dim(catalogue: pa.Table) -> int:
    """How many numbers the items' own vectors have; 0 for a catalogue without them."""
    at = catalogue.schema.get_field_index("vector")
    return int(catalogue.schema.field(at).type.list_size) if at >= 0 else 0


def item_features(
    catalogue: pa.Table,
    *,
    ids: pa.Array,
    categories: tuple[str, ...],
    word_buckets: int,
    title_words: int,
    vector_dim: int = 0,
    rows: FeatureRows | None = None,
) -> ItemFeatures:
    """Features of the rows of a table of ``schemas.catalogue``.

    ids: the items that have a row of their own in the id table, in its order from row 1. vector_dim: how many numbers
    the encoder reads of a vector, 0 for none. rows: how it reads features. Raises ArtifactError where the catalogue's
    vectors have another number, and where it lacks a feature.
    """
    category_rows = pc.fill_null(pc.index_in(_column(catalogue, "category"), pa.array(categories, pa.string())), -1)
    values, shares = (rows or FeatureRows()).read(catalogue)
    return ItemFeatures(
        id_rows=encode_ids(_column(catalogue, "item_id"), ids) + np.int32(1),
        words=word_rows(_column(catalogue, "title"), buckets=word_buckets, width=title_words),
        categories=np.asarray(category_rows).astype(np.int32) + np.int32(1),
        prices=price_rows(_column(catalogue, "price").to_numpy(zero_copy_only=False).astype(np.float64)),
        vectors=_own_vectors(catalogue, vector_dim),
        values=values,
        shares=shares,
    )


def _own_vectors(catalogue: pa.Table, dim: int) -> np.ndarray:
    came = vector_dim(catalogue)
    if came != dim and dim:
        raise ArtifactError(
            f"the items' vectors must have the {dim} numbers that the encoder was trained on, got {came}: train again"
        )
    return unit_rows(vectors_of(catalogue)) if dim else np.zeros((len(catalogue), 0), np.float32)
