"""Lines of other people's libraries, kept off stderr."""

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_redirecting = threading.RLock()


@contextmanager
def stderr_without(lines: re.Pattern[bytes]) -> Iterator[None]:
    """Hold back what is written to file descriptor 2; afterwards all of it but what matches is written."""
    with _redirecting, tempfile.TemporaryFile() as held:
        try:
            real = os.dup(2)
        except OSError:  # no stderr at all
            yield
            return
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            held.seek(0)
            if kept := lines.sub(b"", held.read()):
                os.write(2, kept)
