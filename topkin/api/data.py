"""What a recommender knows: fitted in memory, or in the folder of a run and read when it is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.api.runs import PublishedRun
from topkin.artifacts import lookup, schemas, storage
from topkin.artifacts.embeddings import SUMMARY, ItemEmbeddings, read_items, require_encoder, vectors_of
from topkin.config.sections import Settings
from topkin.encoding.blocks import Block
from topkin.encoding.reference import Reference
from topkin.errors import InputError
from topkin.interactions import encode_ids
from topkin.models.data.purchase_weights import PurchaseWeights
from topkin.recommend.columns import catalogue_columns
from topkin.recommend.second.chosen import read_blend

if TYPE_CHECKING:
    from topkin.models.two_tower.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class FittedData:
    """All of it in memory.

    catalogue, histories: tables of ``schemas``, the histories in the order of the jobs' parts. items: in the order of
    the catalogue. vectors: (n_users, dim) float32, in the order of the histories. training, repurchase, blend: the
    content of the files of these names. statistics, vocabularies: what preparing counted.
    """

    settings: Settings
    as_of: datetime
    catalogue: pa.Table
    histories: pa.Table
    items: ItemEmbeddings
    vectors: np.ndarray
    model: "Encoder"
    blocks: list[Block]
    encoder: str
    training: Mapping[str, Any]
    repurchase: Mapping[str, Mapping[str, float]]
    blend: Mapping[str, Any]
    statistics: Mapping[str, Any]
    vocabularies: Mapping[str, pa.Table]

    @property
    def buyers(self) -> np.ndarray:
        """Distinct buyers of each item, (n_items,), as the vectors count them."""
        return np.asarray(self.catalogue["users"])

    @property
    def user_type(self) -> pa.DataType:
        """The type of user ids."""
        return self.histories.schema.field("user_id").type

    def histories_of(self, users: pa.Array) -> pa.Table:
        """The histories of distinct users in their order. Raises InputError for one that there is not."""
        return self.histories.take(pa.array(rows_in(users, self.histories["user_id"], "users")))

    def vectors_of(self, users: pa.Array) -> np.ndarray:
        """The vectors of distinct users in their order, (n, dim) float32."""
        return self.vectors[rows_in(users, self.histories["user_id"], "users")]


class StoredData:
    """The same from the stages of a run; look-ups read no more than the files that hold their rows."""

    def __init__(self, run: PublishedRun) -> None:
        self.run, self.settings, self.as_of = run, run.settings, run.as_of
        summary = storage.read_json(storage.join(run.folder("embed"), SUMMARY))
        self.encoder, self.blocks = str(summary["encoder"]), [Block.from_json(block) for block in summary["blocks"]]
        user_type, _ = lookup.id_types(run.run)
        assert user_type is not None  # a run of items alone is no recommender
        self.user_type, self._purchases = user_type, PurchaseWeights.from_signature(summary)

    @cached_property
    def catalogue(self) -> pa.Table:
        """As of :class:`FittedData`, without the items' own vectors."""
        joined = catalogue_columns(self.settings.recommend.columns)
        return self.run.table("catalogue", list(dict.fromkeys([*schemas.CATALOGUE_COLUMNS, *joined])))

    @cached_property
    def items(self) -> ItemEmbeddings:
        """As of :class:`FittedData`."""
        return read_items(self.run.folder("embed"), self.encoder)

    @cached_property
    def buyers(self) -> np.ndarray:
        """As of :class:`FittedData`."""
        reference = Reference.read(self.run.folder("embed"))
        counted = self.catalogue if reference is None else reference.counted(self.catalogue)
        return np.asarray(counted["users"])

    @cached_property
    def histories(self) -> pa.Table:
        """As of :class:`FittedData`, with what features of purchases say."""
        return self._weighed(self.run.table("histories"))

    def _weighed(self, histories: pa.Table) -> pa.Table:
        return histories if self._purchases is None else self._purchases.added(histories)

    @cached_property
    def vectors(self) -> np.ndarray:
        """As of :class:`FittedData`."""
        table = self.run.table("user_embeddings")
        require_encoder(table, self.encoder, self.run.folder("embed"))
        return vectors_of(table)

    @cached_property
    def training(self) -> Mapping[str, Any]:
        """As of :class:`FittedData`."""
        value: dict[str, Any] = storage.read_json(storage.join(self.run.folder("train"), "training.json"))
        return value

    @cached_property
    def repurchase(self) -> Mapping[str, Mapping[str, float]]:
        """As of :class:`FittedData`."""
        value: dict[str, dict[str, float]] = storage.read_json(
            storage.join(self.run.folder("train"), "repurchase.json")
        )
        return value

    @cached_property
    def blend(self) -> Mapping[str, Any]:
        """As of :class:`FittedData`."""
        return read_blend(self.run.folder("train"))

    def histories_of(self, users: pa.Array) -> pa.Table:
        """As of :class:`FittedData`."""
        rows = self._weighed(self.run.rows("histories", users))
        return rows.take(pa.array(rows_in(users, rows["user_id"], "users")))

    def vectors_of(self, users: pa.Array) -> np.ndarray:
        """As of :class:`FittedData`."""
        rows = self.run.rows("user_embeddings", users)
        return vectors_of(rows)[rows_in(users, rows["user_id"], "users")]

    def published(self, name: str, ids: pa.Array | None, k: int) -> pa.Table | None:
        """The first k rows of each id, or of all, in a table of the run; None where it has none that long."""
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


RecommenderData = FittedData | StoredData


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
