"""The section of a trained Keras model, and those of its inputs."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import Field, model_validator

from topkin.config.section import Count, Section, Sql
from topkin.encoding.inputs import InputChoice
from topkin.encoding.signature import KINDS, PADS

if TYPE_CHECKING:
    InputKind = str
    InputPad = str
else:  # the kinds are those of encoders, whatever these are
    InputKind, InputPad = Literal[KINDS], Literal[PADS]


class EncoderInputSettings(Section):
    """One input of the model: a table of these keys under the input's own name; a text alone is its column."""

    may_be_empty = ("missing",)

    column: Sql | None = Field(
        None, description="Column, or an SQL expression over the row; the input's own name without it."
    )
    kind: InputKind | None = Field(
        None,
        description="What the column is to the model. An image is raw pixels (fixed_size_binary), the bytes of a file, "
        "or its path. A history is a list whose last values count, the most recent last. Without it, it follows from "
        "the model and the column's type.",
    )
    size: Annotated[list[Count], Field(min_length=2, max_length=2)] | None = Field(
        None, description="Height and width that images are resized to, where the model takes any size."
    )
    length: Count | None = Field(
        None,
        description="Length that lists are padded or cut to, where the model takes any length; 64 for histories "
        "without it.",
    )
    missing: float | str | None = Field(
        None, description="What stands for a missing value; without it the row is rejected."
    )
    pad: InputPad | None = Field(
        None, description="Of a history: the side on which it is filled up, `after` its values without it."
    )

    @model_validator(mode="before")
    @classmethod
    def _column_alone(cls, values: object) -> Any:
        return {"column": values} if isinstance(values, str) else values

    def choice(self) -> InputChoice:
        """As :func:`topkin.encoding.inputs.resolve` takes it."""
        size = None if self.size is None else (self.size[0], self.size[1])
        return InputChoice(**{**dict(self), "size": size})


class EncoderKeys(Section):
    """What feeds a model, and how it runs."""

    jit_compile: bool = Field(False, description="Compile the model by XLA.")
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "float32", description="What the layers compute in; a mixed one is faster on some GPUs, and less exact."
    )
    inputs: dict[str, EncoderInputSettings] = Field(default_factory=dict)


class EncoderSettings(EncoderKeys):
    """A trained Keras model over the items. Beside purchases its vectors are content of the items, as those of
    `items.vector` are; without purchases it gives vectors to whichever of items and users bring none. `topkin embed`
    alone runs it too, and with user_inputs over the users.
    """

    path: str = Field(description="A .keras file, or a folder that save_encoder wrote.")
    user_inputs: dict[str, EncoderInputSettings] = Field(default_factory=dict)


class ItemsTable(Protocol):
    """What of ``[items]`` an encoder beside purchases does not go with."""

    @property
    def vector(self) -> str | None: ...  # noqa: D102
    @property
    def latest_by(self) -> str | None: ...  # noqa: D102


def beside_purchases(encoder: EncoderSettings, items: ItemsTable | None) -> str | None:
    """Why an encoder cannot make the items' vectors of a run over purchases; None where it can."""
    if items is None:
        return "[encoder] turns the items' columns into vectors, and no items are named: set items.path"
    if "user_inputs" in encoder.model_fields_set:
        return (
            "encoder.user_inputs is for topkin embed --encoder: in a run over purchases users are pooled from what "
            "they bought; drop it"
        )
    if items.vector is not None:
        return (
            f"items.vector and [encoder] both give the items their vectors, got {items.vector!r} and {encoder.path}: "
            "drop one"
        )
    if items.latest_by is not None:
        return (
            "[encoder] reads the items' rows one by one, and cannot choose among an item's rows by items.latest_by, "
            f"got {items.latest_by!r}: write a table of one row an item, or drop latest_by"
        )
    return None


class ItemsEncoderSettings(EncoderKeys):
    """The encoder of the items: a trained Keras model, or with [train] what feeds the one that is trained."""

    path: str | None = Field(
        None,
        description="A .keras file, or a folder that save_encoder wrote. With [train] it is what training starts from; "
        "without it that makes a network for the kinds of the inputs.",
    )
