"""Row rules: what replaces a column's value, and what makes a row good, as SQL over the row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.errors import ConfigError
from topkin.ingest.sql import Expression


@dataclass(frozen=True)
class Rules:
    """The expressions of one section of the configuration, in their order."""

    normalise: tuple[tuple[str, Expression], ...] = ()
    rules: tuple[tuple[str, Expression], ...] = ()

    @classmethod
    def of(cls, section: str, normalise: Mapping[str, str], rules: Mapping[str, str]) -> "Rules":
        """From a section's two tables: column -> expression, reason -> condition."""
        return cls(
            tuple((c, Expression(f"{section}.normalise.{c}", text)) for c, text in normalise.items()),
            tuple((r, Expression(f"{section}.rules.{r!r}", text)) for r, text in rules.items()),
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

    def bound(self, schema: pa.Schema) -> pa.Schema:
        """The schema after ``normalise``. Raises ConfigError where an expression does not fit the columns."""
        empty = self.normalised(schema.empty_table())
        for _, expression in self.rules:
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
