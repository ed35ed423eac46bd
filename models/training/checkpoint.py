"""Where a training stands, on disk after each epoch, so that a killed one goes on."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from topkin.artifacts import storage
from topkin.ending import signals

NAME = "checkpoint.npz"


@dataclass(frozen=True)
class Checkpoint:
    """The file of one training; without a folder nothing is kept.

    key: hash of all that decides the training. A file with another key is not used.
    """

    folder: str
    key: str

    def write(self, state: dict[str, Any], variables: Sequence[Any]) -> None:
        """Keep a JSON-able state and the values of variables, in order; the file appears whole."""
        if not self.folder:
            return
        sink = io.BytesIO()
        arrays = {f"v{n:04d}": np.asarray(v) for n, v in enumerate(variables)}
        np.savez(sink, allow_pickle=False, state=np.array(json.dumps({**state, "key": self.key})), **arrays)
        storage.write_bytes(sink.getvalue(), storage.join(self.folder, NAME))
        signals.goes_on_after_part("the last epoch that was finished")

    def read(self) -> tuple[dict[str, Any], list[np.ndarray]] | None:
        """The state and the values, or None where there is nothing to go on from."""
        path = storage.join(self.folder, NAME)
        data = storage.read_if_there(path) if self.folder else None
        if data is None:
            return None
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            state = json.loads(str(file["state"]))
            values = [file[name] for name in sorted(file.files) if name != "state"]
        return (state, values) if state.pop("key", None) == self.key else None


def restore(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    """Assign the values that a checkpoint kept. Raises ValueError where they do not fit."""
    if len(variables) != len(values):
        raise ValueError(f"a checkpoint of this model has {len(variables)} arrays, got {len(values)}")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
