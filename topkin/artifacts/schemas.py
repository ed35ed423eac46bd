"""Column names and schemas of every table, in one place.

Ids keep the type in which they came (int64, string or binary); schemas that hold ids are functions of
those types. Times are ``timestamp[us]`` without a zone, in UTC.
"""

import pyarrow as pa

TIME = pa.timestamp("us")
INT32, INT64, FLOAT, DOUBLE, STRING = pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string()
LABELS = pa.list_(STRING)
RULES_ALONE = {b"topkin.learn": b"no"}
"""Metadata of a field of a column ``features`` that rules of the lists read and no encoder."""


def schema(nullable: str = "", **columns: pa.DataType) -> pa.Schema:
    """A schema of columns in their order, of which those named in ``nullable`` (words) may be null."""
    return pa.schema([pa.field(name, kind, name in nullable.split()) for name, kind in columns.items()])


def events(user: pa.DataType, item: pa.DataType, features: pa.StructType | None = None) -> pa.Schema:
    """One row per accepted purchase, sorted by user_id, timestamp, item_id.

    Where there are ``purchases.features`` there is a last column ``features``, as of the catalogue.
    """
    own = {"user_id": user, "item_id": item, "timestamp": TIME, "quantity": FLOAT, "price": FLOAT, "segment": STRING}
    return schema("price segment features", **own, **({} if features is None else {"features": features}))


def histories(
    user: pa.DataType,
    item: pa.DataType,
    features: pa.StructType | None = None,
    vector_dim: int | None = None,
    of_purchases: pa.StructType | None = None,
) -> pa.Schema:
    """One row per user, sorted by user_id; the lists run in time order, then item_id, repeats kept.

    ``weights`` are quantities. A user of the users' table without purchases has empty lists. Where there are
    ``users.features`` there is a last column ``features``, as of the catalogue; where ``users.vector`` is set a last
    column ``vector``, the user's own; zeros where there is none. Where there are ``purchases.features`` there is a list
    ``purchase_features`` beside the items.
    """
    lists = {"items": pa.list_(item), "times": pa.list_(TIME), "weights": pa.list_(FLOAT)}
    if of_purchases is not None:
        lists["purchase_features"] = pa.list_(of_purchases)
    more: dict[str, pa.DataType] = {} if features is None else {"features": features}
    more |= {} if vector_dim is None else {"vector": vector(vector_dim)}
    return schema("segment features", user_id=user, **lists, segment=STRING, **more)


def inputs(item: pa.DataType) -> pa.Schema:
    """The last columns of histories where events of other types than purchases, or weights, are configured.

    What a user's vector is made of, in time order: purchases that were not taken back and all other events that are
    inputs, what each weighs, and its type. ``items``, ``times`` and ``weights`` hold the purchases alone, as ever.
    """
    lists = {"items": item, "times": TIME, "weights": FLOAT, "events": STRING}
    return schema(**{f"input_{name}": pa.list_(kind) for name, kind in lists.items()})


def catalogue(item: pa.DataType, vector_dim: int | None = None, features: pa.StructType | None = None) -> pa.Schema:
    """One row per item, sorted by item_id: its row number is the item's number everywhere else.

    Counts are of events before the as-of date; items never sold then have 0 and null times.
    ``recent`` counts events of the last ``prepare.recent_days``. Where ``items.vector`` is set there is a last column
    ``vector``, the item's own; zeros where it has none. Where there are ``items.features`` there is one more column
    ``features`` with a field for each: a number, a label or a list of labels (a text is the list of its words), or, for
    rules alone, a time; null where the item has none.
    """
    content = {"title": STRING, "category": STRING, "price": FLOAT, "available": pa.bool_()}
    sales = {"events": INT64, "users": INT64, "recent": INT64, "first_sale": TIME, "last_sale": TIME}
    vectors = {} if vector_dim is None else {"vector": vector(vector_dim)}
    more = {} if features is None else {"features": features}
    nullable = "title category price first_sale last_sale features"
    return schema(nullable, item_id=item, **content, **sales, **vectors, **more)


def vector(dim: int) -> pa.DataType:
    """A float32 vector of ``dim`` coordinates."""
    return pa.list_(FLOAT, dim)


CATALOGUE_COLUMNS = catalogue(STRING).names
"""The catalogue's columns but for what only the encoder reads: the items' own vectors, and features."""

REJECTS = schema(source=STRING, file=STRING, row=INT64, reason=STRING, record=STRING)
"""Rejected rows: purchases, items, users or heldout; the row from 0 within its file; the columns read, as JSON."""


def item_embeddings(item: pa.DataType, dim: int) -> pa.Schema:
    """One row per catalogue row, in its order: ``vector`` is scored, ``in_vector`` is pooled by histories.

    ``vector`` is a unit vector, or zero for an item of which the encoder knows nothing.
    """
    return schema(item_id=item, vector=vector(dim), in_vector=vector(dim))


def encoded_items(item: pa.DataType, dim: int) -> pa.Schema:
    """One row per accepted row of the items that a trained model was run over, in the order of the files.

    ``vector`` is what the model gives, of any length; it is compared by its cosine.
    """
    return schema(item_id=item, vector=vector(dim))


def encoded_users(user: pa.DataType, dim: int) -> pa.Schema:
    """One row per accepted row of the users that an encoder's model of users was run over, in their order."""
    return schema(user_id=user, vector=vector(dim))


def user_embeddings(user: pa.DataType, dim: int) -> pa.Schema:
    """One row per user, sorted by user_id; a user without a usable history has a zero vector."""
    return schema(user_id=user, vector=vector(dim))


def recommendations(user: pa.DataType, item: pa.DataType, *, second_stage: bool = False) -> pa.Schema:
    """Sorted by user_id, rank (from 1); ``source`` is what ranked the item, see :data:`SOURCES`.

    ``score`` is the model's for every item of the model; where bought items are kept or boosted, an item with
    ``times_bought`` above 0 is ranked by its personal part beside it (``topkin.recommend.repurchase``), so that
    scores need not fall from rank to rank. Where a second stage ranks (``topkin.recommend.second``) there are two more
    columns, null for items that sell: ``final``, which orders the list in the place of ``score``, and ``decided``, the
    encoder or the source whose weighted part of it is largest, or ``personal`` where the user's own purchases are most.
    Where histories have inputs there is a last column, ``because_events``: what the user did with each item of
    ``because``, null for one that was bought and is no input. Then come those of ``recommend.columns``.
    """
    ranked = {"rank": INT32, "item_id": item, "score": FLOAT, "source": STRING}
    more = {"final": FLOAT, "decided": STRING} if second_stage else {}
    return schema("final decided", user_id=user, **ranked, times_bought=INT32, because=pa.list_(item), **more)


BECAUSE_EVENTS = pa.field("because_events", pa.list_(pa.field("element", STRING)), False)
"""The last column of recommendations where histories have inputs: what the user did with each item of ``because``."""

SOURCES = ("model", "segment_recent_popularity", "recent_popularity", "popularity")


def short_lists(user: pa.DataType) -> pa.Schema:
    """Users whose list has fewer than ``wanted`` items, and why."""
    return schema(user_id=user, wanted=INT32, got=INT32, reason=STRING)


def similar_items(item: pa.DataType) -> pa.Schema:
    """Sorted by item_id, rank (from 1); the item itself is not among its neighbours.

    ``similar.columns`` of the neighbour come last, and of the item in ``neighbours_bought``.
    """
    return schema(item_id=item, rank=INT32, neighbour_id=item, score=FLOAT)


def bundles(item: pa.DataType) -> pa.Schema:
    """Items in one basket with an item more often than by chance, sorted by item_id, rank (from 1): by lift.

    Only with ``similar.bundles``; ``support`` counts the baskets with both.
    """
    return schema(item_id=item, rank=INT32, neighbour_id=item, support=INT32, lift=FLOAT)


def matches(query: pa.DataType, item: pa.DataType) -> pa.Schema:
    """One row per query: the known item that it is, null where none is near enough; and the nearest item anyway.

    ``score`` is the cosine with the nearest, ``label`` that of ``item_id``.
    """
    fields = {"item_id": item, "label": STRING, "nearest_id": item, "score": FLOAT}
    return schema("item_id label nearest_id", query_id=query, **fields)


def similar_users(user: pa.DataType) -> pa.Schema:
    """Sorted by user_id, rank (from 1); the user itself is not among its neighbours."""
    return schema(user_id=user, rank=INT32, neighbour_id=user, score=FLOAT)


def neighbours_bought(user: pa.DataType, item: pa.DataType) -> pa.Schema:
    """What a user's nearest users bought and the user did not.

    ``support`` counts the neighbours that bought the item, ``score`` sums their cosines.
    """
    return schema(user_id=user, rank=INT32, item_id=item, support=INT32, score=FLOAT)


HINDSIGHT = schema(
    "difference difference_low difference_high",
    **{"night": TIME, "version": STRING, "as_of": TIME, "days": INT32},
    **{"truth": STRING, "model": STRING, "metric": STRING, "users": INT64},
    **dict.fromkeys(("value", "low", "high", "difference", "difference_low", "difference_high"), DOUBLE),
)
"""One row per night, published version that it judged, truth, model and metric, in this order.

``low`` and ``high`` are the 95 % interval of ``value`` over resamples of the users, ``difference`` is the model's value
less this baseline's with that of the pairs; null for the model itself, and for a baseline that made the lists.
"""

ENCODER_KEY = b"topkin.encoder"


def with_encoder(schema: pa.Schema, encoder: str) -> pa.Schema:
    """The schema with the encoder's hash in its metadata: every table made by a model carries it."""
    return schema.with_metadata({**(schema.metadata or {}), ENCODER_KEY: encoder.encode()})


def encoder_of(schema: pa.Schema) -> str | None:
    """The encoder's hash in a table's metadata, or None."""
    encoder = (schema.metadata or {}).get(ENCODER_KEY)
    return None if encoder is None else encoder.decode()


def text_columns(of: pa.Schema) -> list[str]:
    """The columns of texts, in lists and structures too, by Parquet's names of them.

    Files have dictionaries of these alone: numbers, times and vectors hardly repeat, theirs cost more than they save.
    """
    return [path for field in of for path in _texts(field.name, field.type)]


def _texts(path: str, kind: pa.DataType) -> list[str]:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _texts(f"{path}.list.element", kind.value_type)
    if pa.types.is_struct(kind):
        return [inner for field in kind for inner in _texts(f"{path}.{field.name}", field.type)]
    return [path] if pa.types.is_string(kind) or pa.types.is_large_string(kind) else []
