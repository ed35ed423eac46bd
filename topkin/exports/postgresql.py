"""PostgreSQL: a table for each, copied and replaced in one transaction; vectors are pgvector's where it is there."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import psycopg
import pyarrow as pa
from psycopg.sql import SQL, Composable, Identifier, Literal

from topkin.exports.sink import RECORD, busy, explained, foreign
from topkin.exports.tables import ExportTable
from topkin.exports.values import plain, rows

INDEXED = 2000
"""Coordinates up to which pgvector indexes a vector."""


def open_sink(target: str) -> "Postgresql":
    """``postgresql://USER:PASSWORD@HOST/DATABASE``, with libpq's options."""
    return Postgresql(target)


class Postgresql:
    """A database, in the schema that its ``search_path`` names first."""

    def __init__(self, target: str) -> None:
        self.target = target
        with explained(target, psycopg.OperationalError, psycopg.Error):
            self.db = psycopg.connect(target, autocommit=True)
            self.db.execute("SET client_min_messages = warning")
            columns = "name text PRIMARY KEY, version text NOT NULL, rows bigint NOT NULL"
            with self.db.transaction():  # of two that make it at once one would fail by a key that is there
                self.db.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [RECORD])
                self.db.execute(SQL("CREATE TABLE IF NOT EXISTS {} (" + columns + ")").format(Identifier(RECORD)))

    @contextmanager
    def alone(self, wait: float) -> Iterator[None]:
        """See :class:`topkin.exports.sink.Sink`. The lock is of a transaction, which poolers keep on one connection."""
        with ExitStack() as held:
            with explained(self.target, psycopg.OperationalError, psycopg.Error):
                db = held.enter_context(closing(psycopg.connect(self.target)))
                db.execute(SQL("SET LOCAL lock_timeout = {}").format(Literal(f"{max(wait, 0.001) * 1000:.0f}ms")))
                db.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                try:
                    db.execute("SELECT pg_advisory_xact_lock(hashtext('topkin export ' || current_schema()))")
                except psycopg.errors.LockNotAvailable as e:
                    raise busy(self.target) from e
            yield

    def version(self, table: str) -> str | None:
        """See :class:`topkin.exports.sink.Sink`."""
        with explained(self.target, psycopg.OperationalError, psycopg.Error):
            there = self.db.execute("SELECT to_regclass(quote_ident(%s))", [table]).fetchone()
            query = SQL("SELECT version FROM {} WHERE name = %s").format(Identifier(RECORD))
            row = self.db.execute(query, [table]).fetchone()
        if there is None or there[0] is None:
            return None
        if row is None:
            raise foreign(self.target, table)
        return str(row[0])

    def write(self, table: ExportTable) -> int:
        """See :class:`topkin.exports.sink.Sink`."""
        with explained(self.target, psycopg.OperationalError, psycopg.Error):
            vector = self._vector_schema() if table.vectors else None
            with self.db.transaction():
                return self._replace(table, vector)

    def _vector_schema(self) -> str | None:
        """Where pgvector's type is, which need not be in the search path; None where there is no pgvector."""
        with suppress(psycopg.Error):
            self.db.execute("CREATE EXTENSION IF NOT EXISTS vector")
        query = (
            "SELECT nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'vector'"
        )
        row = self.db.execute(query).fetchone()
        return str(row[0]) if row else None

    def _replace(self, table: ExportTable, vector: str | None) -> int:
        name, count = Identifier(f"{table.name}__new"), 0  # of this transaction alone: one of that name is another's
        kinds = SQL(", ").join(SQL("{} ").format(Identifier(f.name)) + _type(f.type, vector) for f in table.schema)
        self.db.execute(SQL("CREATE TABLE {} ({})").format(name, kinds))
        with self.db.cursor().copy(SQL("COPY {} FROM STDIN").format(name)) as copy:
            for batch in table.batches():
                for row in rows(batch):
                    copy.write_row([_value(v, vector is not None and n in table.vectors) for n, v in row.items()])
                count += batch.num_rows
        key = SQL(", ").join(map(Identifier, table.key))
        self.db.execute(SQL("CREATE INDEX ON {} ({})").format(name, key))
        for column, dim in table.vectors.items() if vector else ():
            if dim <= INDEXED:
                by = Identifier(str(vector), "vector_cosine_ops")
                self.db.execute(SQL("CREATE INDEX ON {} USING hnsw ({} {})").format(name, Identifier(column), by))
        comment = f"topkin export, version {table.version}"
        self.db.execute(SQL("COMMENT ON TABLE {} IS {}").format(name, Literal(comment)))
        live = Identifier(table.name)  # locked from here on alone: until then it is read
        self.db.execute(SQL("DROP TABLE IF EXISTS {}").format(live))
        self.db.execute(SQL("ALTER TABLE {} RENAME TO {}").format(name, live))
        upsert = "INSERT INTO {} VALUES (%s, %s, %s) ON CONFLICT (name) DO UPDATE SET version = EXCLUDED.version, "
        query = SQL(upsert + "rows = EXCLUDED.rows").format(Identifier(RECORD))
        self.db.execute(query, [table.name, table.version, count])
        return count

    def close(self) -> None:
        """See :class:`topkin.exports.sink.Sink`."""
        self.db.close()


def _value(value: object, vector: bool) -> object:
    if vector and value is not None:
        return str(value)
    if isinstance(value, list):
        return [_value(one, False) for one in value]
    return psycopg.types.json.Json(plain(value)) if isinstance(value, dict) else value


def _type(kind: pa.DataType, vector: str | None) -> Composable:
    """The type of a column. vector: the schema of pgvector's type, where there is one."""
    if pa.types.is_fixed_size_list(kind) and vector is not None:
        return Identifier(vector, "vector") + SQL("({})").format(Literal(kind.list_size))
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _type(kind.value_type, vector) + SQL("[]")
    for is_kind, name in (
        (pa.types.is_boolean, SQL("boolean")),
        (pa.types.is_int64, SQL("bigint")),
        (pa.types.is_integer, SQL("integer")),
        (pa.types.is_float32, SQL("real")),
        (pa.types.is_floating, SQL("double precision")),
        (pa.types.is_binary, SQL("bytea")),
        (pa.types.is_timestamp, SQL("timestamp")),
        (pa.types.is_struct, SQL("jsonb")),
    ):
        if is_kind(kind):
            return name
    return SQL("text")
