"""Row rules: what replaces a column's value, and what makes a row good, as SQL over the row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.config.reference import in_single_quotes
from topkin.ending.expressions import DEFAULT, Limits
from topkin.errors import ConfigError
from topkin.ingest.sql import SIDES, Expression, side_column
from topkin.ingest.values.type_cures import normalise_key


@dataclass(frozen=True)
class Rules:
    """The expressions of one section of the configuration, in their order."""

    normalise: tuple[tuple[str, Expression], ...] = ()
    rules: tuple[tuple[str, Expression], ...] = ()

    @classmethod
    def of(
        cls,
        section: str,
        normalise: Mapping[str, str],
        rules: Mapping[str, str],
        expressions: Mapping[str, str] | None = None,
        *,
        limits: Limits = DEFAULT,
    ) -> "Rules":
        """From a section's two tables: column -> expression, reason -> condition.

        made: more columns by the key of their expression in the section, made after those of ``normalise``.
        limits: what each expression may take.
        """
        own = [(c, Expression(normalise_key(section, c), text, limits)) for c, text in normalise.items()]
        return cls(
            (
                *own,
                *(
                    (c, Expression(f"{section}.{c.removeprefix('__')}", text, limits))
                    for c, text in (expressions or {}).items()
                ),
            ),
            tuple((r, Expression(f"{section}.rules.{in_single_quotes(r)}", text, limits)) for r, text in rules.items()),
        )

    @property
    def rejection_reasons(self) -> list[str]:
        """The reason of each rule, in order."""
        return [reason for reason, _ in self.rules]

    def columns(self, available: Sequence[str]) -> list[str]:
        """Those of the available columns that some expression reads, in their order.

        SQL does not tell "ID" from "id": where a table has both, an expression cannot say which it means.
        Raises ConfigError for an expression that is not one over a row.
        """
        names: set[str] = set()
        for _, expression in (*self.normalise, *self.rules):
            names |= expression.names()
        return [c for c in available if c.lower() in names]

    def unread(self, names: Sequence[str]) -> list[str]:
        """The columns that ``normalise`` makes, and that neither are among ``names`` nor read by another expression.

        One that differs from such a name in letter case only is not read either: SQL would take it for that one.
        """
        lower = {c.lower() for c in names}
        unread = []
        for column, expression in self.normalise:
            others = (e for _, e in (*self.normalise, *self.rules) if e is not expression)
            read = column.lower() not in lower and any(column.lower() in e.names() for e in others)
            if column not in names and not read:
                unread.append(column)
        return unread

    def column_faults(self, columns: Sequence[str], *, sides: bool = False) -> list[ConfigError]:
        """An error for each expression that names a column which is none of ``columns``, nor made before it.

        sides: whether rules may ask the item and the user, see ``sql.SIDES``; ``normalise`` may not.
        """
        faults, known = [], list(columns)
        for column, expression in (*self.normalise, *((None, e) for _, e in self.rules)):
            try:
                expression.check_columns(known, sides=sides and column is None)
            except ConfigError as e:
                faults.append(e)
            known += [column] if column is not None and column not in known else []
        return faults

    def asked(self, schema: pa.Schema) -> dict[str, dict[str, str]]:
        """What rules ask the item and the user: side -> column, as it is written -> key of the first rule that does.

        schema: of the rows after ``normalise``. A column there that is called item or user and has fields of its own
        wins: these are meant.
        """
        own = {f.name.lower() for f in schema if pa.types.is_nested(f.type)}
        sides: dict[str, dict[str, str]] = {}
        for _, expression in self.rules:
            for name, *rest in expression.references():
                if rest and name.lower() in SIDES and name.lower() not in own:
                    fields = sides.setdefault(name.lower(), {})
                    if rest[0].lower() not in map(str.lower, fields):
                        fields[rest[0]] = expression.key
        return sides

    def of_rows(self, schema: pa.Schema) -> "Rules":
        """Without the rules that ask an item or a user which rows of the schema, after ``normalise``, do not have."""
        absent = {side for side in self.asked(schema) if side_column(side) not in schema.names}

        def asks(expression: Expression) -> bool:
            return any(len(path) > 1 and path[0].lower() in absent for path in expression.references())

        return replace(self, rules=tuple((reason, e) for reason, e in self.rules if not (absent and asks(e))))

    def bound(self, schema: pa.Schema) -> pa.Schema:
        """The schema after ``normalise``. Raises ConfigError where an expression does not fit the columns.

        Rules that ask an item or a user which the schema does not have are passed over.
        """
        empty = self.normalised(schema.empty_table())
        for _, expression in self.of_rows(empty.schema).rules:
            kind = expression.evaluate(empty).type
            if not pa.types.is_boolean(kind):
                raise ConfigError(
                    f"{expression.key}: {expression.text!r} must be true or false, got {kind}: compare it with a value"
                )
        return empty.schema

    def normalised(self, rows: pa.Table) -> pa.Table:
        """The rows with each normalised column replaced, or added at the end; a later expression sees the earlier."""
        for column, expression in self.normalise:
            values = expression.evaluate(rows)
            at = rows.column_names.index(column) if column in rows.column_names else -1
            rows = rows.append_column(column, values) if at < 0 else rows.set_column(at, column, values)
        return rows

    def broken(self, rows: pa.Table) -> np.ndarray:
        """The number of the first rule that each (normalised) row breaks, (n,) int32; -1 where it breaks none.

        A null is not true. A rule is asked of the rows that kept those before it, so that an earlier rule
        can guard a cast in a later one.
        """
        broken = np.full(len(rows), -1, np.int32)
        alive = np.arange(len(rows))
        for number, (_, expression) in enumerate(self.rules):
            kept = np.asarray(pc.fill_null(expression.evaluate(rows), False)).astype(bool, copy=False)
            if not kept.all():
                broken[alive[~kept]] = number
                alive = alive[kept]
                rows = rows.filter(pa.array(kept))
        return broken
