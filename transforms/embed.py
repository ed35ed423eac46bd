"""The encoder run over items, then over users: one part of a table after another, vectors to Parquet."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsSingleton, PBegin, PCollection, TaggedOutput
from apache_beam.utils.shared import Shared

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import ITEMS, USERS, read_items, vector_column, vectors_of, zero_non_finite
from topkin.encoding.batching import in_batches, shrinking
from topkin.encoding.blocks import Block, dim_of, user_vectors
from topkin.encoding.given import given_vectors
from topkin.encoding.reference import Reference
from topkin.interactions import COLUMNS, Interactions
from topkin.models.data.profiles import Profiles
from topkin.models.data.purchase_weights import COLUMN as PURCHASE_FEATURES
from topkin.models.data.purchase_weights import PurchaseWeights
from topkin.telemetry.counters import counts_table
from topkin.telemetry.progress import advance
from topkin.transforms.counters import WriteTally, counted
from topkin.transforms.parquet import WriteToParquetBatched

if TYPE_CHECKING:
    from topkin.models.two_tower.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class EmbedInputs:
    """What embedding reads. prepared, model: folders of the finished stages. parts: files of each table.

    given: users and items bring their vectors, and nothing encodes them.
    """

    prepared: str
    model: str
    parts: int
    batch_size: int
    history_length: int
    as_of: datetime
    given: bool = False

    def counted(self, catalogue: pa.Table) -> tuple[pa.Table, datetime]:
        """The catalogue with the sales that the encoder counts by, and the date from which ages count.

        Those of its own night where it is kept for more than one, see ``encoding.reference``.
        """
        reference = Reference.read(self.model)
        return (catalogue, self.as_of) if reference is None else (reference.counted(catalogue), reference.as_of)


class ItemEncoder:
    """The encoder and the catalogue, loaded once a process and shared by its threads."""

    def __init__(self, sources: EmbedInputs):
        import tensorflow as tf

        from topkin.models.ops import device
        from topkin.models.two_tower.serialization import load

        device.set_up()
        self.too_big = (MemoryError, tf.errors.ResourceExhaustedError)
        self.sources = sources
        self.encoder = load(sources.model)
        catalogue = storage.read_parquet(storage.join(sources.prepared, "catalogue.parquet"))
        self.catalogue, _ = sources.counted(catalogue)
        self.rows: int | None = len(self.catalogue)

    def part(self, part: int) -> tuple[pa.Table, pa.Table]:
        """The vectors of a run of catalogue rows, and their counts."""
        n, parts = len(self.catalogue), self.sources.parts
        first, last = part * n // parts, (part + 1) * n // parts
        rows = self.catalogue.slice(first, last - first)
        return encode_items(self.encoder, rows, self.sources.batch_size, self.too_big)


class UserEncoder:
    """What pools histories, loaded once a process and shared by its threads: no TensorFlow.

    items_folder: the embeddings whose in-vectors are pooled.
    """

    rows: int | None = None  # how many there are in all is not counted

    def __init__(self, sources: EmbedInputs, items_folder: str):
        signature = storage.read_json(storage.join(sources.model, "signature.json"))
        self.sources, self.encoder = sources, str(signature["encoder"])
        self.blocks = [Block.from_json(b) for b in signature["blocks"]]
        catalogue = storage.read_parquet(storage.join(sources.prepared, "catalogue.parquet"), ["item_id", "users"])
        self.catalogue, self.as_of = sources.counted(catalogue)
        self.in_vectors = read_items(items_folder, self.encoder).in_vectors
        self.profiles = Profiles.read(sources.model, signature)
        self.purchases = PurchaseWeights.from_signature(signature)

    def part(self, part: int) -> tuple[pa.Table, pa.Table]:
        """The vectors of the users of a part, in their order, and their counts."""
        name = storage.join(self.sources.prepared, "histories", storage.part_name(part, self.sources.parts))
        histories = storage.read_parquet(name, ["user_id", *COLUMNS, "features", PURCHASE_FEATURES])
        if self.purchases is not None:
            histories = self.purchases.added(histories)
        history = Interactions.from_histories(histories, self.catalogue["item_id"], self.as_of)
        vectors = self._pooled(history, None if self.profiles is None else self.profiles.of(histories))
        not_finite, (vectors,) = zero_non_finite(vectors)
        return _users_table(histories["user_id"], vectors, self.encoder), _counts(USERS, vectors, not_finite)

    def _pooled(self, history: Interactions, profiles: np.ndarray | None) -> np.ndarray:
        buyers, length = np.asarray(self.catalogue["users"]), self.sources.history_length

        def pool(rows: np.ndarray) -> np.ndarray:
            own = None if profiles is None else profiles[rows]
            return user_vectors(history.take(rows), self.in_vectors, buyers, self.blocks, length=length, profiles=own)

        dim = dim_of(self.blocks)
        vectors, _ = shrinking(lambda size: in_batches(pool, history.n_users, size, dim), self.sources.batch_size)
        return vectors


class GivenItems:
    """The vectors that items bring, in the place of :class:`ItemEncoder`; histories pool none of them."""

    def __init__(self, sources: EmbedInputs):
        path = storage.join(sources.prepared, "catalogue.parquet")
        self.catalogue = storage.read_parquet(path, ["item_id", "vector"])
        self.parts, self.encoder, self.rows = sources.parts, _hash(sources), len(self.catalogue)

    def part(self, part: int) -> tuple[pa.Table, pa.Table]:
        """See :meth:`ItemEncoder.part`."""
        n = len(self.catalogue)
        first, last = part * n // self.parts, (part + 1) * n // self.parts
        rows = self.catalogue.slice(first, last - first)
        vectors = given_vectors(vectors_of(rows))
        return _items_table(rows, vectors, np.zeros_like(vectors), self.encoder), _counts(ITEMS, vectors, 0)


class GivenUsers:
    """The vectors that users bring, in the place of :class:`UserEncoder`."""

    rows: int | None = None

    def __init__(self, sources: EmbedInputs):
        self.sources, self.encoder = sources, _hash(sources)

    def part(self, part: int) -> tuple[pa.Table, pa.Table]:
        """See :meth:`UserEncoder.part`."""
        name = storage.join(self.sources.prepared, "histories", storage.part_name(part, self.sources.parts))
        rows = storage.read_parquet(name, ["user_id", "vector"])
        vectors = given_vectors(vectors_of(rows))
        return _users_table(rows["user_id"], vectors, self.encoder), _counts(USERS, vectors, 0)


def _hash(sources: EmbedInputs) -> str:
    return str(storage.read_json(storage.join(sources.model, "signature.json"))["encoder"])


def encode_items(
    encoder: "Encoder", rows: pa.Table, batch_size: int, too_big: tuple[type[BaseException], ...]
) -> tuple[pa.Table, pa.Table]:
    """``schemas.item_embeddings`` of some rows of the catalogue, and counts of them."""
    (vectors, in_vectors), _ = shrinking(lambda size: encoder.encode_items(rows, batch_size=size), batch_size, too_big)
    not_finite, (vectors, in_vectors) = zero_non_finite(vectors, in_vectors)
    return _items_table(rows, vectors, in_vectors, encoder.hash), _counts(ITEMS, vectors, not_finite)


def _items_table(rows: pa.Table, vectors: np.ndarray, in_vectors: np.ndarray, encoder: str) -> pa.Table:
    schema = schemas.with_encoder(schemas.item_embeddings(rows["item_id"].type, vectors.shape[1]), encoder)
    columns = [rows["item_id"], vector_column(vectors), vector_column(in_vectors)]
    return pa.Table.from_arrays(columns, schema=schema)


def _users_table(ids: pa.ChunkedArray, vectors: np.ndarray, encoder: str) -> pa.Table:
    schema = schemas.with_encoder(schemas.user_embeddings(ids.type, vectors.shape[1]), encoder)
    return pa.Table.from_arrays([ids, vector_column(vectors)], schema=schema)


def _counts(kind: str, vectors: np.ndarray, not_finite: int) -> pa.Table:
    without = int((~vectors.any(axis=1)).sum())
    return counts_table({kind: {"all": len(vectors), "without_vector": without, "not_finite": not_finite}})


Source = ItemEncoder | UserEncoder | GivenItems | GivenUsers
"""What gives the vectors of a part."""


class _Encode(beam.DoFn):
    """A part's number to (part, the vectors of its items or users); the counts beside.

    What encodes is held while there is a bundle, and by Beam until another is asked for: that of items is not beside
    that of users. It is loaded at the first part, when what users are pooled from is there.
    """

    def __init__(self, kind: str, load: Callable[[], Source], shared: Shared):
        self._kind, self._load, self._shared = kind, load, shared
        self._rows = Metrics.counter("topkin", f"{kind}_embedded")
        self._encoder: Source | None = None

    @counted
    def process(self, part: int, *_: Any) -> Iterator[object]:
        if self._encoder is None:
            self._encoder = self._shared.acquire(self._load, tag=self._kind)
        table, counts = self._encoder.part(part)
        self._rows.inc(len(table))
        advance(f"embed {self._kind}", len(table), self._encoder.rows)
        yield part, table
        yield TaggedOutput("counts", counts)

    def finish_bundle(self) -> None:
        self._encoder = None


@dataclass
class EmbedItems(beam.PTransform):
    """Every item's vectors into ``out``/items, the parts in catalogue order; counts to ``tally``; gives the paths.

    after: what is waited for.
    """

    sources: EmbedInputs
    out: str
    tally: str
    after: Sequence[AsSingleton] = ()
    shared: Shared = field(default_factory=Shared)
    kind: ClassVar[str] = ITEMS

    def encoder(self) -> Callable[[], Source]:
        """What loads the encoder in a worker."""
        return partial(GivenItems if self.sources.given else ItemEncoder, self.sources)

    def expand(self, pipeline: PBegin) -> PCollection[str]:
        parts = pipeline | "Parts" >> beam.Create(range(self.sources.parts), reshuffle=True)
        encode = beam.ParDo(_Encode(self.kind, self.encoder(), self.shared), *self.after)
        encode = encode.with_output_types(tuple[int, pa.Table], counts=pa.Table)
        encoded = parts | "Encode" >> encode.with_outputs("counts", main="tables")
        encoded.counts | "Tally" >> WriteTally(self.tally)
        folder = storage.join(self.out, self.kind)
        return encoded.tables | "WriteParts" >> WriteToParquetBatched(folder, self.sources.parts)


class EmbedUsers(EmbedItems):
    """Every user's vector into ``out``/users, by the in-vectors of ``out``/items; otherwise as :class:`EmbedItems`."""

    kind = USERS

    def encoder(self) -> Callable[[], Source]:
        """What loads the encoder in a worker."""
        return partial(GivenUsers, self.sources) if self.sources.given else partial(UserEncoder, self.sources, self.out)


@dataclass
class Embed(beam.PTransform):
    """Every item's vectors, then every user's, who are pooled from them; counts of each to ``tally`` of its kind."""

    sources: EmbedInputs
    out: str
    tally: Mapping[str, str]

    def expand(self, pipeline: PBegin) -> PCollection[str]:
        items = pipeline | "EmbedItems" >> EmbedItems(self.sources, self.out, self.tally[ITEMS])
        done = AsSingleton(items | "Finished" >> beam.combiners.Count.Globally())
        return pipeline | "EmbedUsers" >> EmbedUsers(self.sources, self.out, self.tally[USERS], after=[done])
