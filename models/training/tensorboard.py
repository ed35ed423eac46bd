"""Training curves for TensorBoard; written by TensorFlow alone, TensorBoard need not be there."""

from types import TracebackType
from typing import Any

import tensorflow as tf


class Scalars:
    """Event files below a folder, one run each for ``validation`` and ``refit``; a context manager."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> "Scalars":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for writer in self._writers.values():
            writer.close()

    def epoch(self, phase: str, values: dict[str, Any]) -> None:
        """Write the numbers of an epoch, at once."""
        if phase not in self._writers:
            self._writers[phase] = tf.summary.create_file_writer(f"{self.folder}/{phase}")
        metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        )
        with self._writers[phase].as_default():
            for name, value in values.items():
                if name != "epoch":
                    tf.summary.write(name, tf.constant(value, tf.float32), values["epoch"], metadata=metadata)
            self._writers[phase].flush()
