"""How the tables of a shop meet, and the expressions by which they do where only the spelling of ids differs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from topkin.errors import TopkinError
from topkin.ingest.contract import inspect
from topkin.ingest.files import Files
from topkin.ingest.inference.columns import SuggestedRule
from topkin.ingest.inference.tables import TableLook
from topkin.ingest.joins.read import MeasuredJoin, faults_of_types, input_joins, measured_joins
from topkin.ingest.joins.spelling import Spelling
from topkin.ingest.joins.words import join_line, left_line, percent


@dataclass(frozen=True)
class JoinedTables:
    """The tables with what mends their joins, a line about each join, and what ``check`` will refuse of them."""

    tables: Sequence[TableLook]
    lines: Sequence[str]
    findings: Sequence[TopkinError] = ()


def join_tables(tables: Sequence[TableLook], files: Files) -> JoinedTables:
    """Measure how tables meet, purchases the first, and normalise ids that differ in spelling only."""
    inspections = {table.section: inspect(table.source(), files, table.sample.read) for table in tables}
    findings = [finding for inspection in inspections.values() for finding in inspection.findings]
    if findings or len(tables) < 2:
        return JoinedTables(tables, (), findings)
    try:
        joins = input_joins(inspections, lambda _: files)
    except TopkinError as e:
        return JoinedTables(tables, (), [e])
    mended = list(tables)
    for joined in joins:
        mended = [_mended(table, joined) for table in mended]
    again = {table.section: inspect(table.source(), files, table.sample.read) for table in mended}
    of_types = faults_of_types(again, lambda _: files)
    return JoinedTables(mended, [_line(j) for j in joins], of_types or measured_joins(again, lambda _: files)[1])


def _line(joined: MeasuredJoin) -> str:
    """A join as the tables have it, and as the configuration that is written makes it."""
    spelling = joined.suggestion
    if not isinstance(spelling, Spelling):
        return join_line(joined.join)
    share = percent(int(spelling.shared.sum()), len(spelling.shared))
    return f"{left_line(joined.join)} as they are written, {share} as they are made: they differ in {spelling.differs}"


def _mended(table: TableLook, joined: MeasuredJoin) -> TableLook:
    """A table whose id is made as a join needs it, in place of what made it before."""
    normalise = list(table.normalise)
    for (section, column), expression in joined.mends.items():
        if section == table.section:
            rule = SuggestedRule(column, expression, f"{_line(joined)}; no two ids become one")
            normalise = [r for r in normalise if r.key != column] + [rule]
    return replace(table, normalise=normalise)
