"""The encoder as the jobs use it: items and users in, unit vectors out, NumPy at both ends."""

from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from topkin.cosine import unit_rows
from topkin.interactions import Interactions, history_weights
from topkin.models.features import ItemFeatures, item_features
from topkin.models.prior import PRIOR_DIMS, Prior
from topkin.models.towers import TwoTower


def pool(
    history: Interactions,
    in_vectors: np.ndarray,
    buyers: np.ndarray,
    *,
    rarity: float,
    half_life_days: float | None,
    length: int | None = None,
) -> np.ndarray:
    """The user vectors, (n_users, dim) float32 unit rows: the rule that the user tower was trained with.

    Each user's ``length`` latest distinct items, each weighted by ``history_weights``, are summed as
    in-vectors and the sum is divided by its length. A user without history gets the zero vector. A row
    depends on that user alone, so any batching gives the same numbers.
    in_vectors: (n_items, dim) float32. buyers: (n_items,) distinct buyers of each item.
    """
    kept = history.distinct()
    if length is not None:
        kept = kept.latest(length)
    weights = history_weights(kept, buyers, rarity=rarity, half_life_days=half_life_days)
    matrix = sp.csr_matrix((weights, kept.items, kept.indptr), (kept.n_users, kept.n_items))
    return unit_rows(matrix @ np.ascontiguousarray(in_vectors, np.float32))


class Encoder:
    """A trained encoder.

    model: the towers. ids: the items with a row of their own, in the order of the id tables.
    hash: the SHA-256 of the saved model, carried by everything that the encoder makes.
    """

    def __init__(self, model: TwoTower, ids: pa.Array, hash: str = "") -> None:
        if len(ids) != model.items:
            raise ValueError(f"ids must be the model's {model.items} known items, got {len(ids)}")
        self.model, self.ids, self.hash = model, ids, hash

    @property
    def dim(self) -> int:
        """Coordinates of a vector: those of the towers and those of the prior."""
        return int(self.model.dim) + PRIOR_DIMS

    @property
    def meaning(self) -> dict[str, Any]:
        """What decides a result beside the weights: rarity, half_life_days, categories, vocabulary, prior."""
        return dict(self.model.meaning)

    def features(self, catalogue: pa.Table) -> ItemFeatures:
        """What the item tower reads of rows of the catalogue."""
        return item_features(
            catalogue,
            ids=self.ids,
            categories=tuple(self.meaning.get("categories", ())),
            word_buckets=self.model.word_buckets,
            title_words=self.model.title_words,
        )

    def encode_items(self, catalogue: pa.Table, *, batch_size: int = 4096) -> tuple[np.ndarray, np.ndarray]:
        """Out-vectors (scored, unit rows) and in-vectors (pooled), each (n, dim) float32.

        catalogue: any rows of ``schemas.catalogue``, items never seen in training too: they are known by
        their content. An item of which nothing is known gets zero vectors. Batches are padded to
        ``batch_size``, so that the model is traced once; a row's numbers do not depend on the batch.
        """
        out, pooled = encode_features(self.model, self.features(catalogue), batch_size)
        return self.prior.published(out, pooled, self.prior.of(catalogue))

    @property
    def prior(self) -> Prior:
        """What is added to every score for what sells now."""
        return Prior(**self.meaning["prior"])

    def encode_users(
        self, history: Interactions, in_vectors: np.ndarray, buyers: np.ndarray, *, length: int | None = None
    ) -> np.ndarray:
        """User vectors, (n_users, dim) float32 unit rows, zero without history; see :func:`pool`."""
        meaning = self.meaning
        return pool(
            history,
            in_vectors,
            buyers,
            rarity=meaning["rarity"],
            half_life_days=meaning["half_life_days"],
            length=length,
        )


def encode_features(model: TwoTower, features: ItemFeatures, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Out-vectors (unit rows) and in-vectors of items, in batches padded to one size.

    The norm is taken here: TensorFlow's sum over a row differs in the last bit with the row's place in a batch.
    """
    out = np.zeros((len(features), model.dim), np.float32)
    pooled = np.zeros((len(features), model.dim), np.float32)
    for start in range(0, len(features), batch_size):
        rows = slice(start, min(start + batch_size, len(features)))
        vectors, in_vectors = model.infer(features.padded(rows, batch_size))
        out[rows] = np.asarray(vectors)[: rows.stop - start]
        pooled[rows] = np.asarray(in_vectors)[: rows.stop - start]
    return unit_rows(out), pooled
