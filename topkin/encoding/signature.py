"""What an encoder's folder says of itself: the inputs that it takes, what it gives, and the hash of every file.

The folder holds ``item.keras`` and ``signature.json``, and ``user.keras`` where users are encoded by a network too;
nothing in it is pickled. An encoder is known by its hash, which every table that it made carries.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from topkin.artifacts import storage
from topkin.errors import ArtifactError

FORMAT = 1
MODEL, USER_MODEL, SIGNATURE = "item.keras", "user.keras", "signature.json"
MODELS = {"items": MODEL, "users": USER_MODEL}
"""The two sides of an encoder, and the model of each."""

LISTS = {"numbers": "number", "categories": "category", "texts": "text"}
"""Kinds that are lists, and the kind of what is listed."""

HISTORY = "history"
"""The kind of a list whose last values count: what a user did, the most recent last."""

KINDS = ("number", "category", "text", "image", "vector", *LISTS, HISTORY)
"""What a column may be to an encoder. Categories and texts go into the model as they are: vocabularies are layers."""

PADS = ("after", "before")
"""Where a history shorter than its input is filled up."""


@dataclass(frozen=True, kw_only=True)
class EncoderInput:
    """One input of a model, and the column that feeds it.

    Args:
        name: The model's name for it.
        column: A column of the table, or an SQL expression over the row.
        kind: One of :data:`KINDS`.
        dtype: Of the tensor, by Keras' name: ``float32``, ``int64``, ``string`` and so on.
        shape: Of one row: () or (1,) for one value, (length,) for a list, (height, width, channels) for an image.
        missing: What stands for a missing value; None where the row is rejected.
        pad: Of a history: one of :data:`PADS`.
        buckets: Lengths that a history is padded to, ascending, the last that of ``shape``: the model takes any length
            and gives the same for each. Empty where the shape is the only one.
        stored: The column of a prepared table that holds what ``column`` gave; empty where there is none.
    """

    name: str
    column: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    missing: float | str | None = None
    pad: str = "after"
    buckets: tuple[int, ...] = ()
    stored: str = ""

    @property
    def label(self) -> str:
        """What a reject calls it: the model's name, and behind it what of the user's table feeds it."""
        return self.name if self.column == self.name else f"{self.name} ({self.column})"

    def described(self) -> str:
        """The input in words, for a person."""
        size = " x ".join(map(str, self.shape))
        if self.kind == HISTORY:
            size = f"the last {self.shape[0]}{', padded before' if self.pad == 'before' else ''}"
        filled = "" if self.missing is None else f", {self.missing!r} where missing"
        return f"{self.name} = {self.column} ({self.kind}{f' of {size}' if size else ''}, {self.dtype}{filled})"


@dataclass(frozen=True, kw_only=True)
class EncoderSignature:
    """What is known of an encoder without loading it.

    Args:
        inputs: Of ``item.keras``.
        user_inputs: Of ``user.keras``, which gives users vectors of the same space; none where there is no such file.
        dim: Coordinates of a vector.
        files: The SHA-256 of every file of the folder, by name.
        versions: Of the libraries that wrote it.
        metric: By which vectors are compared. They are kept as the model gives them.

    Examples:
        >>> from topkin.encoding.signature import EncoderInput, EncoderSignature
        >>> price = EncoderInput(name="price", column="ln(price)", kind="number", dtype="float32", shape=())
        >>> signature = EncoderSignature(inputs=(price,), dim=64, files={"item.keras": 64 * "0"})
        >>> EncoderSignature.from_json(signature.to_json(), "here") == signature
        True
    """

    inputs: tuple[EncoderInput, ...]
    dim: int
    files: Mapping[str, str]
    versions: Mapping[str, str] = field(default_factory=dict)
    metric: str = "cosine"
    user_inputs: tuple[EncoderInput, ...] = ()

    def side(self, side: str) -> tuple[EncoderInput, ...]:
        """The inputs of a side, one of :data:`MODELS`."""
        return self.user_inputs if side == "users" else self.inputs

    @property
    def hash(self) -> str:
        """The encoder's hash: that of its files. The columns that feed it do not count: queries have others."""
        return hashlib.sha256(json.dumps(sorted(self.files.items())).encode()).hexdigest()

    def by_name(self) -> "EncoderSignature":
        """The same over a table whose columns have the names of the inputs."""
        return replace(self, inputs=tuple(replace(i, stored=i.name) for i in self.inputs))

    def to_json(self) -> dict[str, Any]:
        """As ``signature.json`` holds it."""
        return {"format": FORMAT, "encoder": self.hash, **asdict(self)}

    @classmethod
    def from_json(cls, value: object, place: str) -> "EncoderSignature":
        """From JSON. Raises ArtifactError where it is of another format or incomplete; ``place`` names it."""
        cure = "save the encoder again with this version of topkin"
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            came = value.get("format") if isinstance(value, dict) else type(value).__name__
            raise ArtifactError(f"{place} must have format {FORMAT} of an encoder, got {came!r}: {cure}")
        try:
            inputs, user_inputs = (tuple(map(_input, value.get(side, ()))) for side in ("inputs", "user_inputs"))
            own = {name: value[name] for name in ("dim", "files", "versions", "metric")}
            return cls(inputs=inputs, user_inputs=user_inputs, **own)
        except (ArtifactError, KeyError, TypeError) as e:
            raise ArtifactError(f"{place} is not a whole signature of an encoder ({e}): {cure}") from e


def _input(value: Any) -> EncoderInput:
    return EncoderInput(**{**value, "shape": tuple(value["shape"]), "buckets": tuple(value.get("buckets", ()))})


def write_signature(signature: EncoderSignature, folder: str) -> None:
    """Write ``signature.json``, which says that the folder is whole: after every other file."""
    storage.write_json(signature.to_json(), storage.join(folder, SIGNATURE))


def read_signature(folder: str) -> EncoderSignature:
    """The signature of an encoder's folder, every file of it checked against its hash.

    Raises ArtifactError where it or a file is missing, of another format, or changed.
    """
    place = storage.join(folder, SIGNATURE)
    signature = EncoderSignature.from_json(storage.read_json(place), place)
    for name, wanted in signature.files.items():
        path = storage.join(folder, name)
        if not storage.exists(path):
            raise ArtifactError(f"{path} is missing, {place} names it: copy the encoder's folder again, whole")
        came = storage.sha256(path)
        if came != wanted:
            raise ArtifactError(
                f"{path} must have the SHA-256 of its signature, {wanted}, got {came}: the file is damaged or was "
                "replaced; copy the encoder's folder again, or save the encoder again"
            )
    return signature
