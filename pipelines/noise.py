"""Other people's log lines, silenced in one place; what they would say of a failure is said by us."""

import logging
import os
import warnings

LOUD = ("apache_beam", "tensorflow", "absl", "h5py", "urllib3", "google")


class _NotOurs(logging.Filter):
    """Drops what Beam logs through the root logger at import."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record may pass."""
        return "apitools not found" not in record.getMessage()


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
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
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
