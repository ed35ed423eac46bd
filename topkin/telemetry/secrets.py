"""URIs without what opens the door: passwords and keys are never printed or stored."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

HIDDEN = "***"
_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s/?#'\"]*(?::(?!\d+/)[^\s?#'\"]*)?)@")
_NAMED = re.compile(
    r"(?P<name>\b[\w.-]*(?:access_?key|secret|password|passwd|pwd|token|signature|credential|api_?key|account_?key"
    r"|x-amz-[\w-]+|sas|\bsig|\bkey)[\w-]*)(?P<is>=|%3[dD])(?P<value>[^\s&;'\",)\]}]+)",
    re.IGNORECASE,
)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]+")


def masked(text: str) -> str:
    """A text whose URIs have ``***`` for the user and password before the host and for keys in the query.

    ``s3://AKIA:wJalr@bucket/x?secret_key=abc&region=eu`` is ``s3://***@bucket/x?secret_key=***&region=eu``. What is
    no URI stays as it is; a text that was masked is not changed again.
    """
    if "://" not in text:
        return text
    return _URI.sub(
        lambda uri: _NAMED.sub(rf"\g<name>\g<is>{HIDDEN}", _USER.sub(rf"\g<scheme>{HIDDEN}@", uri[0])), text
    )


def masked_values(value: Any) -> Any:
    """A JSON-like value, every text in it masked, keys too."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {masked_values(key): masked_values(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [masked_values(item) for item in value]
    return value


class _Masking:
    """A text stream on which no credential is written."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, masked."""
        self._stream.write(masked(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def masked_screen() -> Iterator[None]:
    """Mask what is printed inside, whoever prints it."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Masking(out), _Masking(err)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
