"""How a failure is told: one message and an exit code, never a traceback for a user's mistake.

A worker's exception reaches the launcher as the exception itself, as a cause of another, or as the text
of its traceback; topkin's own errors are found in all three.
"""

import json
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES

from topkin import errors
from topkin.ending import shortage, signals
from topkin.errors import chain

TRACEBACK = "TOPKIN_TRACEBACK"
NOT_FOR_READERS = ("tensorflow", "keras", "apache-beam", "apache_beam")
"""What who only reads may do without: ``deploy/readers.txt`` has the rest."""
INTERRUPTED = 130
_STEP = re.compile(r" \[while running '[^']*'\]")
_CTRL_C = re.compile(r"^KeyboardInterrupt\b", re.MULTILINE)
_IN_TEXT = re.compile(r"^topkin\.errors\.(\w+): (.*?)(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


def explained(error: BaseException) -> errors.TopkinError | None:
    """The error of topkin's own that is, caused, or is quoted by an exception; None where there is none."""
    for link in chain(error):
        if isinstance(link, errors.TopkinError):
            return type(link)(_STEP.sub("", str(link)))
    for link in chain(error):
        for name, message in reversed(_IN_TEXT.findall(str(link))):
            kind = getattr(errors, name, None)
            if isinstance(kind, type) and issubclass(kind, errors.TopkinError):
                return kind(_STEP.sub("", message).rstrip())
    return None


def interrupted(error: BaseException) -> bool:
    """Whether an exception is Ctrl-C; Beam makes it a RuntimeError when it comes inside a worker."""
    links = list(chain(error))
    return any(isinstance(link, KeyboardInterrupt) or _CTRL_C.search(str(link)) for link in links)


def one_line(error: BaseException) -> str:
    """What an unexpected exception says, its worker's traceback left out."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    last = lines[-1].strip() if lines else ""
    if lines and lines[0].startswith("Traceback"):
        return last
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__


def exit_code(error: BaseException, *, as_json: bool = False) -> int:
    """Tell a failure on stderr, as text or as one JSON object; returns the code to exit with."""
    if signals.asked():
        message, code = signals.cause()
        _tell("ResourceError" if code < INTERRUPTED - 2 else "Stopped", message, code, as_json=as_json)
        return code
    if interrupted(error):
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):  # the reader has seen enough, as in topkin show … | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    known = explained(error) or shortage.explained(error, {}) or _lacking(error) or _forbidden(error)
    if known is not None:
        kind, message, code = type(known).__name__, str(known), known.exit_code
    else:
        kind, code = type(error).__name__, 1
        message = f"{one_line(error)}\nThis is not a failure that topkin knows; {TRACEBACK}=1 shows where it happened."
    _tell(kind, message, code, as_json=as_json)
    return code


def _lacking(error: BaseException) -> errors.ConfigError | None:
    """The error that says which library a reader's installation is without; None where that is not why."""
    for link in chain(error):
        if match := re.search(r"Unrecognized filesystem type in URI: (\S+)", str(link)):
            return errors.ConfigError(
                f"a path with :// begins with s3://, gs://, abfss:// or file://, got {match[1]}: correct it"
            )
        name = str(link.name).partition(".")[0] if isinstance(link, ModuleNotFoundError) else ""
        if name in NOT_FOR_READERS:
            return errors.ConfigError(
                f"{name.replace('_', '-')} is not installed, which whatever makes a run needs: this is an installation "
                "for readers; pip install topkin, without --no-deps, brings it"
            )
    return None


def _forbidden(error: BaseException) -> errors.ConfigError | None:
    """The error that says which file or folder this user has no right to; None where that is not why."""
    for link in chain(error):
        if isinstance(link, PermissionError) and link.errno == EACCES:
            what = f"{link.strerror} {link.filename}" if link.filename else link.strerror
            return errors.ConfigError(
                f"files and folders that are named must be open to who runs topkin, got {what}: ask the owner for the "
                "right, or run topkin as who made them (run.mode has the rights of what a run makes)"
            )
    return None


def _tell(kind: str, message: str, code: int, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": {"type": kind, "message": message, "exit_code": code}}), file=sys.stderr)
    else:
        print(f"topkin: {message}", file=sys.stderr)


@contextmanager
def exit_on_error(*, as_json: bool = False) -> Iterator[None]:
    """Turn any failure inside into a message and ``SystemExit`` with its code."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as e:  # noqa: BLE001 - the last place where a failure can be told
        raise SystemExit(exit_code(e, as_json=as_json)) from None
