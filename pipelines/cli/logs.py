"""Other people's log lines, silenced in one place; what they would say of a failure is said by us."""

import importlib.util
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from topkin.telemetry.stderr import stderr_without

LOUD = ("apache_beam", "tensorflow", "absl", "h5py", "urllib3", "google")


class _NotOurs(logging.Filter):
    """Drops what Beam logs through the root logger at import."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record may pass."""
        return "apitools not found" not in record.getMessage()


class _NotOfStreams:
    """A hook for threads that die: Beam's, whose stream ends with the job server, are no news."""

    def __init__(self, otherwise: Callable[[threading.ExceptHookArgs], object]) -> None:
        self._otherwise = otherwise

    def __call__(self, args: threading.ExceptHookArgs) -> None:
        if not args.exc_type.__module__.startswith("grpc"):
            self._otherwise(args)


def silence() -> None:
    """Before Beam or TensorFlow is imported: only their critical lines come through.

    Worker processes inherit the environment, so TensorFlow's own variable is set there. A user who sets
    TF_CPP_MIN_LOG_LEVEL or TOPKIN_TRACEBACK gets everything.
    """
    if os.environ.get("TOPKIN_TRACEBACK"):
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if "tensorflow" not in sys.modules and not any(isinstance(f, _TensorFlow) for f in sys.meta_path):
        sys.meta_path.insert(0, _TensorFlow())
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if not isinstance(threading.excepthook, _NotOfStreams):
        threading.excepthook = _NotOfStreams(threading.excepthook)
    root = logging.getLogger()
    if not root.handlers:
        # A handler of our own, or the first logging.warning() would install one without the filter.
        own = logging.StreamHandler()
        own.setFormatter(logging.Formatter("%(message)s"))
        root.addHandler(own)
    for handler in root.handlers:
        if not any(isinstance(known, _NotOurs) for known in handler.filters):
            handler.addFilter(_NotOurs())
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)


# TensorFlow 2.21 tells of oneDNN and missing GPUs on file descriptor 2 while it is imported, whatever level is set.
_GREETING = re.compile(rb"^(WARNING: All log messages before absl|[IW]\d{4} \d\d:\d\d:[\d.]+ ).*\n?", re.MULTILINE)


class _TensorFlow(MetaPathFinder):
    """Holds stderr while TensorFlow is imported, by whoever first does."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec that there would be without this finder, its loader wrapped."""
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Held(spec.loader)
        return spec


class _Held(Loader):
    """A loader that runs another with stderr held."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the other loader."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As the other loader, with stderr held."""
        with stderr_without(_GREETING):
            self._loader.exec_module(module)
