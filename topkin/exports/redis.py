"""Redis: a key for each user or item, which holds its rows as a JSON list; a hash for each table names the version.

The rows of user 17 in the table recommendations are at ``PREFIX:VERSION:recommendations:17``, and VERSION is the field
``version`` of the hash ``PREFIX:recommendations``. The version before stays for readers that are at it.
"""

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, groupby
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import redis

from topkin.artifacts.lookup import format_id
from topkin.errors import ConfigError
from topkin.exports.sink import busy, explained, foreign
from topkin.exports.tables import ExportTable
from topkin.exports.values import rows, to_json
from topkin.telemetry.secrets import masked

EXPIRY = 300
"""Seconds in which the lock of an export that was killed ends; it is put off with each batch."""
KEYS = 1000
"""Keys that are sent, or removed, at a time."""


def open_sink(target: str) -> "Redis":
    """``redis://HOST:PORT/DATABASE``, with ``?prefix=shop`` for another prefix than topkin; ``rediss://`` by TLS.

    Other parameters are the client's, such as ``ssl_ca_certs=FILE`` for a certificate of an authority of one's own.
    """
    try:
        parts = urlsplit(target)
    except ValueError as e:
        raise ConfigError(f"{masked(target)} must be a URL, it is none ({e}): redis://HOST:PORT/DATABASE") from e
    if not re.fullmatch(r"/?\d*/?", parts.path):  # which the client would take for 0
        raise ConfigError(f"{masked(target)} must end with the number of a database: redis://HOST:PORT/0")
    prefix = parse_qs(parts.query).get("prefix", ["topkin"])[0]
    query = "&".join(p for p in parts.query.split("&") if p and not p.startswith("prefix="))
    return Redis(target, urlunsplit(parts._replace(query=query)), prefix)


class Redis:
    """A database of a server."""

    def __init__(self, target: str, url: str, prefix: str) -> None:
        self.target, self.prefix = target, prefix
        with self._explained():
            self.db: Any = redis.Redis.from_url(url, decode_responses=True)
            try:
                self.db.ping()
            except TypeError as e:
                raise ConfigError(f"{masked(target)} must have prefix and parameters of redis-py alone: {e}") from e
            self.lock: Any = self.db.lock(f"{prefix}::export", timeout=EXPIRY, thread_local=False)

    @contextmanager
    def alone(self, wait: float) -> Iterator[None]:
        """See :class:`topkin.exports.sink.Sink`."""
        with self._explained():
            taken = self.lock.acquire(blocking_timeout=wait, blocking=wait > 0, token=uuid.uuid4().hex)
            left = 0 if taken else self.db.pttl(self.lock.name) / 1000
        if not taken:
            raise busy(self.target, f"another is at work there, whose lock ends by itself in at most {left:.0f} s")
        try:
            yield
        finally:
            with suppress(redis.RedisError):  # lost, or expires
                self.lock.release()

    def version(self, table: str) -> str | None:
        """See :class:`topkin.exports.sink.Sink`."""
        with self._explained():
            kind = self.db.type(self._pointer(table))
            pointer = self.db.hgetall(self._pointer(table)) if kind == "hash" else {}
        if kind != "none" and "kept" not in pointer:
            raise foreign(self.target, self._pointer(table))
        return pointer.get("version")

    def write(self, table: ExportTable) -> int:
        """See :class:`topkin.exports.sink.Sink`. Raises ConfigError for a table that is not by user or item."""
        if not table.key[0].endswith("_id"):
            raise ConfigError(f"redis takes tables by user or item, {table.name} is by {table.key[0]}: another target")
        pointer, start = self._pointer(table.name), f"{self.prefix}:{table.version}:{table.name}"
        with self._explained():
            before = self.db.hgetall(pointer)
            kept = [*json.loads(before.get("kept", "[]")), table.version]  # what may have keys, if this is stopped
            self.db.hset(pointer, "kept", json.dumps(sorted(set(kept))))
            count = 0
            for keys in _some(self._lists(table)):
                pipe = self.db.pipeline(transaction=False)
                for owner, listed in keys:
                    pipe.set(f"{start}:{owner}", to_json(listed))
                    count += len(listed)
                pipe.execute()
                self._go_on()
            stays = [v for v in (before.get("version"), table.version) if v]
            for version in sorted({*kept} - {*stays}):
                self._remove(f"{self.prefix}:{version}:{table.name}:*")
            self._go_on()
            self.db.hset(pointer, mapping={"version": table.version, "rows": count, "kept": json.dumps(stays)})
        return count

    def _lists(self, table: ExportTable) -> Iterator[tuple[str | int, list[dict[str, Any]]]]:
        owner = table.key[0]
        every = chain.from_iterable(rows(batch) for batch in table.batches())
        for value, listed in groupby(every, key=lambda row: row[owner]):
            yield format_id(value), list(listed)

    def _remove(self, pattern: str) -> None:
        for keys in _some(self.db.scan_iter(_literal(pattern), count=KEYS)):
            self.db.unlink(*keys)
            self._go_on()

    def _go_on(self) -> None:
        """Put off the lock's end. Raises BusyError where another has it by now: nothing that readers see is changed."""
        try:
            self.lock.reacquire()
        except redis.exceptions.LockError as e:
            raise busy(self.target, f"this one stood still for more than {EXPIRY} s and lost its lock") from e

    def _pointer(self, table: str) -> str:
        return f"{self.prefix}:{table}"

    def _explained(self) -> Any:
        unreachable = (redis.ConnectionError, redis.TimeoutError)
        return explained(self.target, unreachable, redis.RedisError, ValueError)

    def close(self) -> None:
        """See :class:`topkin.exports.sink.Sink`."""
        self.db.close()


def _literal(pattern: str) -> str:
    """With no meaning in all but the last character."""
    return "".join(f"\\{c}" if c in "*?[]\\^-" else c for c in pattern[:-1]) + pattern[-1]


def _some(values: Iterator[Any]) -> Iterator[list[Any]]:
    some: list[Any] = []
    for value in values:
        some.append(value)
        if len(some) == KEYS:
            yield some
            some = []
    if some:
        yield some
