"""What a recommender knows: fitted in memory, or in the folder of a run and read when it is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.api.runs import PublishedRun
from topkin.artifacts import lookup, schemas, storage
from topkin.artifacts.embeddings import SUMMARY, ItemEmbeddings, read_items, require_encoder, vectors_of
from topkin.config.sections import Settings
from topkin.encoding.blocks import Block
from topkin.errors import InputError
from topkin.interactions import encode_ids

if TYPE_CHECKING:
    from topkin.models.two_tower.encoder import Encoder


class RecommenderData(Protocol):
    """The tables and embeddings that answers are computed from, by whatever name the jobs keep them.

    catalogue, histories: tables of ``schemas``. items: in the catalogue's order. vectors: (n_users, dim) float32, in
    the order of the histories. encoder: its hash. repurchase: the weights of bought items that training chose, by
    policy.
    """

    @property
    def settings(self) -> Settings: ...  # noqa: D102
    @property
    def as_of(self) -> datetime: ...  # noqa: D102
    @property
    def catalogue(self) -> pa.Table: ...  # noqa: D102
    @property
    def histories(self) -> pa.Table: ...  # noqa: D102
    @property
    def items(self) -> ItemEmbeddings: ...  # noqa: D102
    @property
    def vectors(self) -> np.ndarray: ...  # noqa: D102
    @property
    def blocks(self) -> list[Block]: ...  # noqa: D102
    @property
    def encoder(self) -> str: ...  # noqa: D102
    @property
    def repurchase(self) -> Mapping[str, Mapping[str, float]]: ...  # noqa: D102
    @property
    def user_type(self) -> pa.DataType: ...  # noqa: D102

    def histories_of(self, users: pa.Array) -> pa.Table:
        """The histories of distinct users in their order. Raises InputError for one that there is not."""

    def listed(self, name: str, ids: pa.Array | None, k: int) -> pa.Table | None:
        """The first k rows of each id, or of all, in a table made before; None where there is none that long."""


@dataclass(frozen=True, kw_only=True)
class FittedData:
    """All of it in memory, and what else :meth:`Recommender.save` writes: what preparing and training told."""

    settings: Settings
    as_of: datetime
    catalogue: pa.Table
    histories: pa.Table
    items: ItemEmbeddings
    vectors: np.ndarray
    model: "Encoder"
    training: Mapping[str, Any]
    statistics: Mapping[str, Any]
    vocabularies: Mapping[str, pa.Table]

    @property
    def blocks(self) -> list[Block]:
        """See :class:`RecommenderData`."""
        return self.model.blocks

    @property
    def encoder(self) -> str:
        """See :class:`RecommenderData`."""
        return self.model.hash

    @property
    def repurchase(self) -> Mapping[str, Mapping[str, float]]:
        """See :class:`RecommenderData`."""
        return dict(self.training["repurchase"])

    @property
    def user_type(self) -> pa.DataType:
        """See :class:`RecommenderData`."""
        return self.histories.schema.field("user_id").type

    def histories_of(self, users: pa.Array) -> pa.Table:
        """See :class:`RecommenderData`."""
        return self.histories.take(pa.array(rows_in(users, self.histories["user_id"], "users")))

    def listed(self, name: str, ids: pa.Array | None, k: int) -> pa.Table | None:
        """None: nothing is made before it is asked for."""
        return None


class StoredData:
    """The stages of a run, see :class:`RecommenderData`. Look-ups read no more than the rows that they give."""

    def __init__(self, run: PublishedRun) -> None:
        self.run, self.settings, self.as_of = run, run.settings, run.as_of
        self._folder = run.run.folder
        self._summary = storage.read_json(storage.join(self._folder("embed"), SUMMARY))
        self.encoder = str(self._summary["encoder"])
        self.blocks = [Block.from_json(block) for block in self._summary["blocks"]]
        self.user_type = lookup.id_types(run.run)[0]

    @cached_property
    def catalogue(self) -> pa.Table:
        """See :class:`RecommenderData`; without the items' own vectors."""
        return self.run.table("catalogue", schemas.FACTS)

    @cached_property
    def items(self) -> ItemEmbeddings:
        """See :class:`RecommenderData`."""
        return read_items(self._folder("embed"), self.encoder)

    @cached_property
    def histories(self) -> pa.Table:
        """See :class:`RecommenderData`."""
        return self.run.table("histories")

    @cached_property
    def vectors(self) -> np.ndarray:
        """See :class:`RecommenderData`."""
        table = self.run.table("user_embeddings")
        require_encoder(table, self.encoder, self._folder("embed"))
        return vectors_of(table)

    @cached_property
    def repurchase(self) -> Mapping[str, Mapping[str, float]]:
        """See :class:`RecommenderData`."""
        training = storage.read_json(storage.join(self._folder("train"), "training.json"))
        return dict(training.get("repurchase") or {})

    def histories_of(self, users: pa.Array) -> pa.Table:
        """See :class:`RecommenderData`: only the files of these users are read."""
        rows = self.run.rows("histories", users)
        return rows.take(pa.array(rows_in(users, rows["user_id"], "users")))

    def listed(self, name: str, ids: pa.Array | None, k: int) -> pa.Table | None:
        """See :class:`RecommenderData`."""
        longest = {"recommendations": self.settings.recommend.k, "similar_items": self.settings.similar.items}
        if name not in self.run.tables or k > longest.get(name, self.settings.similar.users):
            return None
        key = "item_id" if name == "similar_items" else "user_id"
        if ids is None:
            rows = self.run.table(name).sort_by([(key, "ascending"), ("rank", "ascending")])
        else:
            owners = self.catalogue if key == "item_id" else self.run.rows("histories", ids, ["user_id"])
            rows_in(ids, owners[key], key.replace("_id", "s"))
            rows = self.run.rows(name, ids)
            rows = rows.take(pa.array(np.lexsort((np.asarray(rows["rank"]), encode_ids(rows[key], ids)))))
        return rows.filter(pc.less_equal(rows["rank"], k)).combine_chunks()


def rows_in(ids: pa.Array, column: pa.ChunkedArray | pa.Array, name: str) -> np.ndarray:
    """The row number of each id in a column, (n,) int32. Raises InputError for one that it lacks."""
    rows = encode_ids(ids, column)
    unknown = np.flatnonzero(rows < 0)
    if len(unknown):
        raise InputError(
            f"{name} must be in the data that the recommender was fitted on, {len(unknown)} of {len(ids)} are not, "
            f"such as {ids[int(unknown[0])].as_py()!r}: drop them, or fit with a table of {name} that lists them"
        )
    return rows
