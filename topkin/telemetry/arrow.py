"""What is done before pyarrow is first asked for an array, so that it starts soon."""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class _NoPandas:
    """A finder of modules to whom pandas is not installed."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Raise for pandas, know nothing of others."""
        if name == "pandas":
            raise ImportError(name)
        return None


def arrow_without_pandas() -> None:
    """Keep pyarrow from importing pandas, where it is installed, only to see that a list is no data frame.

    The import takes as long as a look at a small shop. pyarrow asks once; pandas can be imported after, and its
    data frames are then known again.
    """
    if "pandas" in sys.modules or "pyarrow" in sys.modules:
        return
    sys.meta_path.insert(0, _NoPandas)
    try:
        import pyarrow as pa

        pa.scalar(0)
    finally:
        sys.meta_path.remove(_NoPandas)
