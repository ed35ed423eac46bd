"""Column names and schemas of every table, in one place.

Ids keep the type in which they came (int64, string or binary); schemas that hold ids are functions of
those types. Times are ``timestamp[us]`` without a zone, in UTC.
"""

import pyarrow as pa

TIME = pa.timestamp("us")


def events(user: pa.DataType, item: pa.DataType) -> pa.Schema:
    """One row per accepted purchase, sorted by user_id, timestamp, item_id."""
    return pa.schema(
        [
            pa.field("user_id", user, False),
            pa.field("item_id", item, False),
            pa.field("timestamp", TIME, False),
            pa.field("quantity", pa.float32(), False),
            pa.field("price", pa.float32()),
            pa.field("segment", pa.string()),
        ]
    )


def histories(user: pa.DataType, item: pa.DataType) -> pa.Schema:
    """One row per user, sorted by user_id; the lists run in time order, then item_id, repeats kept.

    ``weights`` are quantities. A user of the users' table without purchases has empty lists.
    """
    return pa.schema(
        [
            pa.field("user_id", user, False),
            pa.field("items", pa.list_(item), False),
            pa.field("times", pa.list_(TIME), False),
            pa.field("weights", pa.list_(pa.float32()), False),
            pa.field("segment", pa.string()),
        ]
    )


def catalogue(item: pa.DataType, vector_dim: int | None = None) -> pa.Schema:
    """One row per item, sorted by item_id: its row number is the item's number everywhere else.

    Counts are of events before the as-of date; items never sold then have 0 and null times.
    ``recent`` counts events of the last ``prepare.recent_days``. Where ``items.vector`` is set there is a last column
    ``vector``, the item's own; zeros where it has none.
    """
    found = pa.schema(
        [
            pa.field("item_id", item, False),
            pa.field("title", pa.string()),
            pa.field("category", pa.string()),
            pa.field("price", pa.float32()),
            pa.field("available", pa.bool_(), False),
            pa.field("events", pa.int64(), False),
            pa.field("users", pa.int64(), False),
            pa.field("recent", pa.int64(), False),
            pa.field("first_sale", TIME),
            pa.field("last_sale", TIME),
        ]
    )
    return found if vector_dim is None else found.append(pa.field("vector", vector(vector_dim), False))


CATALOGUE_COLUMNS = catalogue(pa.string()).names
"""The catalogue's columns but for the items' own vectors, which are large."""

REJECTS = pa.schema(
    [
        pa.field("source", pa.string(), False),  # purchases, items or users
        pa.field("file", pa.string(), False),
        pa.field("row", pa.int64(), False),  # from 0, within the file
        pa.field("reason", pa.string(), False),
        pa.field("record", pa.string(), False),  # the columns read, as JSON
    ]
)


def vector(dim: int) -> pa.DataType:
    """A float32 vector of ``dim`` coordinates."""
    return pa.list_(pa.float32(), dim)


def item_embeddings(item: pa.DataType, dim: int) -> pa.Schema:
    """One row per catalogue row, in its order: ``vector`` is scored, ``in_vector`` is pooled by histories.

    ``vector`` is a unit vector, or zero for an item of which the encoder knows nothing.
    """
    return pa.schema(
        [
            pa.field("item_id", item, False),
            pa.field("vector", vector(dim), False),
            pa.field("in_vector", vector(dim), False),
        ]
    )


def user_embeddings(user: pa.DataType, dim: int) -> pa.Schema:
    """One row per user, sorted by user_id; a user without a usable history has a zero vector."""
    return pa.schema([pa.field("user_id", user, False), pa.field("vector", vector(dim), False)])


def recommendations(user: pa.DataType, item: pa.DataType) -> pa.Schema:
    """Sorted by user_id, rank (from 1); ``source`` says what ranked the item, see :data:`SOURCES`.

    ``score`` is the model's for every item of the model; where bought items are kept or boosted, an item with
    ``times_bought`` above 0 is ranked by its personal part beside it (``topkin.recommend.repurchase``), so that
    scores need not fall from rank to rank.
    """
    return pa.schema(
        [
            pa.field("user_id", user, False),
            pa.field("rank", pa.int32(), False),
            pa.field("item_id", item, False),
            pa.field("score", pa.float32(), False),
            pa.field("source", pa.string(), False),
            pa.field("times_bought", pa.int32(), False),
            pa.field("because", pa.list_(item), False),
        ]
    )


SOURCES = ("model", "segment_recent_popularity", "recent_popularity", "popularity")


def short_lists(user: pa.DataType) -> pa.Schema:
    """Users whose list has fewer than ``wanted`` items, and why."""
    return pa.schema(
        [
            pa.field("user_id", user, False),
            pa.field("wanted", pa.int32(), False),
            pa.field("got", pa.int32(), False),
            pa.field("reason", pa.string(), False),
        ]
    )


def similar_items(item: pa.DataType) -> pa.Schema:
    """Sorted by item_id, rank (from 1); the item itself is not among its neighbours."""
    return pa.schema(
        [
            pa.field("item_id", item, False),
            pa.field("rank", pa.int32(), False),
            pa.field("neighbour_id", item, False),
            pa.field("score", pa.float32(), False),
        ]
    )


def similar_users(user: pa.DataType) -> pa.Schema:
    """Sorted by user_id, rank (from 1); the user itself is not among its neighbours."""
    return pa.schema(
        [
            pa.field("user_id", user, False),
            pa.field("rank", pa.int32(), False),
            pa.field("neighbour_id", user, False),
            pa.field("score", pa.float32(), False),
        ]
    )


def neighbours_bought(user: pa.DataType, item: pa.DataType) -> pa.Schema:
    """What a user's nearest users bought and the user did not.

    ``support`` counts the neighbours that bought the item, ``score`` sums their cosines.
    """
    return pa.schema(
        [
            pa.field("user_id", user, False),
            pa.field("rank", pa.int32(), False),
            pa.field("item_id", item, False),
            pa.field("support", pa.int32(), False),
            pa.field("score", pa.float32(), False),
        ]
    )


ENCODER_KEY = b"topkin.encoder"


def with_encoder(schema: pa.Schema, encoder: str) -> pa.Schema:
    """The schema with the encoder's hash in its metadata: every table made by a model carries it."""
    return schema.with_metadata({**(schema.metadata or {}), ENCODER_KEY: encoder.encode()})


def encoder_of(schema: pa.Schema) -> str | None:
    """The encoder's hash in a table's metadata, or None."""
    found = (schema.metadata or {}).get(ENCODER_KEY)
    return None if found is None else found.decode()
