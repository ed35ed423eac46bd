"""The encoder as the jobs use it: items and users in, unit vectors out, NumPy at both ends."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from topkin.encoding.blocks import Block, dim_of, equally_long, user_vectors
from topkin.interactions import Interactions
from topkin.linalg.cosine import unit_rows
from topkin.linalg.mapped import mapped
from topkin.models.data.feature_rows import FeatureRows
from topkin.models.data.item_features import ItemFeatures, item_features
from topkin.models.data.profiles import Profiles
from topkin.models.two_tower.recency_prior import RecencyPrior, recency_lift, sales
from topkin.models.two_tower.towers import Towers, TwoTower

Sides = tuple[np.ndarray, np.ndarray]
"""Out-vectors and in-vectors of items, each (n, d) float32."""


class Encoder:
    """A trained encoder.

    Args:
        model: The towers of each block.
        ids: The items with a row of their own, in the order of the id tables.
        hash: The SHA-256 of the saved model, carried by everything that the encoder makes.

    Examples:
        >>> import pyarrow as pa, tempfile, topkin
        >>> purchases = pa.table({
        ...     "user_id": ["ann", "ann", "bob", "bob"],
        ...     "item_id": ["tea", "cup", "tea", "pot"],
        ...     "timestamp": ["2024-05-01", "2024-05-02", "2024-05-01", "2024-05-03"],
        ... })
        >>> folder = tempfile.mkdtemp()
        >>> topkin.Recommender(train={"epochs": 0}).fit(purchases).save(folder)
        >>> run = topkin.open_run(folder)
        >>> encoder = topkin.Encoder.load(run.folder("train"))
        >>> vectors, in_vectors = encoder.encode_items(run.table("catalogue"))
        >>> vectors.shape == (3, encoder.dim)
        True
    """

    def __init__(self, model: Towers, ids: pa.Array, hash: str = "") -> None:
        if any(len(ids) != tower.items for tower in model.towers):
            raise ValueError(f"ids must be the model's {model.towers[0].items} known items, got {len(ids)}")
        self.model, self.ids, self.hash = model, ids, hash

    @classmethod
    def load(cls, folder: str) -> "Encoder":
        """An encoder from the folder of a run's stage ``train``; see :func:`serialization.load` for what it raises."""
        from topkin.models.two_tower.serialization import load

        return load(folder)

    @property
    def blocks(self) -> list[Block]:
        """The blocks of coordinates, the prior's last, where there is one."""
        return [Block.from_json(b) for b in self.model.meaning["blocks"]]

    @property
    def dim(self) -> int:
        """Coordinates of a vector."""
        return dim_of(self.blocks)

    @property
    def meaning(self) -> dict[str, Any]:
        """Blocks, prior, reach, categories, features, vocabulary, which decide a result beside the weights."""
        return dict(self.model.meaning)

    @property
    def profiles(self) -> Profiles | None:
        """What users' features say; None where users are known by their purchases alone."""
        tables = [np.asarray(tower.profiles[0].table) for tower in self.model.towers if tower.profiles]
        return Profiles(FeatureRows.from_json(self.meaning["profiles"]), tables[0]) if tables else None

    def features(self, catalogue: pa.Table) -> ItemFeatures:
        """What the item towers read of rows of the catalogue."""
        tower = self.model.towers[0]
        return item_features(
            catalogue,
            ids=self.ids,
            categories=tuple(self.meaning.get("categories", ())),
            word_buckets=tower.word_buckets,
            title_words=tower.title_words,
            vector_dim=max(tower.vector_dim for tower in self.model.towers),
            rows=FeatureRows.from_json(self.meaning.get("features", ())),
        )

    def encode_items(self, catalogue: pa.Table, *, batch_size: int = 4096) -> Sides:
        """Out-vectors (scored, unit rows) and in-vectors (pooled), each (n, dim) float32.

        catalogue: any rows of ``schemas.catalogue``, items never seen in training too: they are known by
        their content. An item of which nothing is known gets zero vectors. Batches are padded to
        ``batch_size``, so that the model is traced once; a row's numbers do not depend on the batch.
        """
        features, meaning = self.features(catalogue), self.meaning
        sides = [encode_features(tower, features, batch_size) for tower in self.model.towers]
        out, pooled = assembled(sides, self.blocks, RecencyPrior(**meaning["recency"]), *sales(catalogue))
        return equally_long(out, meaning["reach"]), np.pad(pooled, ((0, 0), (0, 1)))

    def encode_users(
        self,
        history: Interactions,
        in_vectors: np.ndarray,
        buyers: np.ndarray,
        *,
        length: int | None = None,
        profiles: np.ndarray | None = None,
    ) -> np.ndarray:
        """User vectors, (n_users, dim) float32 unit rows; see ``blocks.user_vectors``.

        profiles: of :attr:`profiles`. Zero for users of whom neither that nor a history tells anything.
        """
        return user_vectors(history, in_vectors, buyers, self.blocks, length=length, profiles=profiles)


def assembled(
    sides: Sequence[Sides], blocks: Sequence[Block], prior: RecencyPrior, recent: np.ndarray, events: np.ndarray
) -> Sides:
    """The blocks' out-vectors and in-vectors side by side, with their lengths, each (n, sum of dims) float32.

    sides: those of each block but the prior. recent, events: (n,) sales, which the lengths and the prior read.
    """
    lately = recency_lift(recent, events)
    outs, ins = [], []
    for (out, pooled), block in zip(sides, blocks, strict=False):
        outs.append(out * (lately**block.recency_lift).astype(np.float32)[:, None] if block.recency_lift else out)
        ins.append(pooled)
    if not blocks[-1].personal:
        has_vector = np.any([out.any(axis=1) for out in outs], axis=0)
        outs.append((prior.scaled(recent, events) * has_vector)[:, None])
        ins.append(np.any([pooled.any(axis=1) for pooled in ins], axis=0)[:, None].astype(np.float32))
    return np.concatenate(outs, axis=1), np.concatenate(ins, axis=1)


def encode_features(model: TwoTower, features: ItemFeatures, batch_size: int, *, disk: bool = False) -> Sides:
    """Out-vectors and in-vectors of items by one block's towers, in batches padded to one size.

    Norms are taken here: TensorFlow's sum over a row differs in the last bit with the row's place in a batch. disk:
    whether the vectors are kept on this machine's disk, where memory is short.
    """
    out, pooled = (mapped(s) if disk else np.zeros(s, np.float32) for s in 2 * [(len(features), model.dim)])
    for start in range(0, len(features), batch_size):
        rows = slice(start, min(start + batch_size, len(features)))
        vectors, in_vectors = model.infer(features.padded(rows, batch_size), again=len(features) > batch_size)
        out[rows] = np.asarray(vectors)[: rows.stop - start]
        pooled[rows] = np.asarray(in_vectors)[: rows.stop - start]
    return unit_rows(out) if model.unit_out else out, pooled
