"""Training curves for TensorBoard; written by TensorFlow alone, TensorBoard need not be there.

TensorFlow knows local disks only: what goes elsewhere is written here and put there at the end.
"""

import os
import tempfile
from types import TracebackType
from typing import Any

import tensorflow as tf

from topkin.artifacts import storage


class Scalars:
    """Event files below a folder or URI, one run each for ``validation`` and ``refit``; a context manager."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._beside = tempfile.TemporaryDirectory(prefix="topkin-logs-") if "://" in folder else None
        self._local = folder if self._beside is None else self._beside.name
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> "Scalars":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for writer in self._writers.values():
            writer.close()
        if self._beside is None:
            return
        with self._beside:
            for name in storage.files(self._local) if kind is None else ():
                with open(os.path.join(self._local, name), "rb") as file:
                    storage.write_bytes(file.read(), storage.join(self.folder, name))

    def epoch(self, phase: str, values: dict[str, Any]) -> None:
        """Write the numbers of an epoch, at once."""
        if phase not in self._writers:
            self._writers[phase] = tf.summary.create_file_writer(f"{self._local}/{phase}")
        metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        )
        with self._writers[phase].as_default():
            for name, value in values.items():
                if name != "epoch":
                    tf.summary.write(name, tf.constant(value, tf.float32), values["epoch"], metadata=metadata)
            self._writers[phase].flush()
