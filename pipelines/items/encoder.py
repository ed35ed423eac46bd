"""The encoder of a run over items alone: what feeds it, and where it lies."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from topkin.artifacts import ids, storage
from topkin.config.items_run import ItemsRunSettings
from topkin.encoding.inputs import InputChoice, by_name, is_listed
from topkin.encoding.signature import SIGNATURE, EncoderSignature
from topkin.errors import InputError
from topkin.ingest.items import Feed
from topkin.ingest.sql import nearest, type_in

if TYPE_CHECKING:
    from topkin.models.encoders.keras_files import SavedModel

FOLDER = "encoder"
"""The encoder's folder in that of the stage ``train``."""

INPUTS = "inputs.json"
"""In the folder of ``prepare``: the inputs of the encoder, and the column or expression that feeds each."""


VECTOR = "vector"
"""The input of the encoder that gives the items' own vectors back."""


def encoder_files(path: str | None) -> list[list[Any]]:
    """[path, hash] of what an encoder's path names; no hash where nothing is there."""
    if path is None:
        return []
    place = path if path.endswith(".keras") else storage.join(path, SIGNATURE)
    return [[place, storage.sha256(place) if storage.exists(place) else ""]]


def feeds_of(settings: ItemsRunSettings, schema: pa.Schema) -> list[Feed]:
    """What feeds the encoder, of the columns after ``normalise``.

    Raises InputError where the encoder cannot be read, or its inputs and the columns do not fit.
    """
    choices = choices_of(settings)
    if settings.items.vector is not None:
        choices = {VECTOR: InputChoice(column=settings.items.vector, kind="vector")}
    elif settings.encoder.path is not None:
        from topkin.models.encoders.keras_files import read_model

        signature = read_model(settings.encoder.path).bound(choices, lambda c: _type_of(schema, c), schema.names)
        return [Feed(i.name, i.column, _is_path(schema, i.kind, i.column)) for i in signature.inputs]
    for name, choice in choices.items():
        column = choice.column or name
        if _type_of(schema, column) is None:
            raise InputError(
                f"{_key(settings, name)} needs a column, the table has no {column!r}{nearest(column, schema.names)}: "
                f"the columns are {', '.join(schema.names)}"
            )
    own = settings.items.vector
    if own is not None and (t := _type_of(schema, own)) is not None and not is_listed(t):
        raise InputError(f"items.vector must be a column of lists of numbers, {own!r} is {t}: name another column")
    named = [(name, choice.kind, choice.column or name) for name, choice in choices.items()]
    return [Feed(name, column, _is_path(schema, kind, column)) for name, kind, column in named]


def _key(settings: ItemsRunSettings, name: str) -> str:
    return f"encoder.inputs.{name}" if settings.items.vector is None else "items.vector"


def choices_of(settings: ItemsRunSettings) -> dict[str, InputChoice]:
    """What the user said of each input."""
    return {name: i.choice() for name, i in settings.encoder.inputs.items()}


def bound_to_prepared(
    settings: ItemsRunSettings, saved: "SavedModel", schema: pa.Schema, fed_by: dict[str, str]
) -> EncoderSignature:
    """The signature of an encoder over prepared rows, with the columns of the user's own table in it.

    schema: of the prepared rows. fed_by: as in :data:`INPUTS`.
    """
    chosen = by_name(list(fed_by), choices_of(settings))
    choices = {name: replace(chosen.get(name, InputChoice()), column=name) for name in fed_by}
    signature = saved.bound(choices, lambda c: _type_of(schema, c), schema.names)
    return replace(signature, inputs=tuple(replace(i, column=fed_by[i.name]) for i in signature.inputs))


def _type_of(schema: pa.Schema, column: str) -> pa.DataType | None:
    return type_in(schema, column, "encoder.inputs")


def _is_path(schema: pa.Schema, kind: str | None, column: str) -> bool:
    t = _type_of(schema, column)
    return kind == "image" and t is not None and ids.value_kind(t) == "text"
