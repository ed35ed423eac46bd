"""Tables that break no word: columns as narrow as their longest word, and rows as blocks of lines where even these
do not fit.
"""

import os
import sys
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Column, Table
from rich.text import Text

GAP = 2
"""Characters from one column to the next."""


WIDE = 500
"""Columns of what is piped: to grep a row is a line."""


def screen() -> Console:
    """Where figures go: as wide as the terminal or as COLUMNS says, and piped as wide as they are."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=WIDE if piped else None, markup=False, highlight=False)


class Sheet:
    """A table that is laid out when the width is known.

    Args:
        title: Above it.
        *columns: Their names, no markup; one that begins with > is aligned to the right.
    """

    def __init__(self, title: str, *columns: str) -> None:
        self.title, self.rows = title, list[list[Text]]()
        self.names = [name.removeprefix(">") for name in columns]
        self._right = [name.startswith(">") for name in columns]

    @classmethod
    def of_figures(cls, rows: Sequence[Sequence[str]]) -> "Sheet":
        """A table whose first row has the names, and all but whose first column are figures."""
        sheet = cls("", rows[0][0], *(f">{name}" for name in rows[0][1:]))
        for row in rows[1:]:
            sheet.add(*row)
        return sheet

    def add(self, *cells: Text | str) -> None:
        """Add a row: texts of the data, no markup."""
        self.rows.append([cell if isinstance(cell, Text) else Text(cell) for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Rich's way to draw it."""
        if self.title:
            yield Text(self.title, style="bold")
        widths = self._widths(options.max_width)
        if widths is None:
            yield from self._blocks()
            return
        columns = [
            Column(Text(name), width=width, justify="right" if right else "left", overflow="fold")
            for name, width, right in zip(self.names, widths, self._right, strict=True)
        ]
        drawn = Table(*columns, box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="underline")
        for row in self.rows:
            drawn.add_row(*row)
        yield drawn

    def _widths(self, most: int) -> list[int] | None:
        """Each column's width, no less than its longest word, or number with unit; None where these do not fit."""
        widths, least = [], []
        for n, name in enumerate(self.names):
            cells = [row[n].plain for row in self.rows]
            whole = cells if self._right[n] else [word for cell in cells for word in cell.split()]
            least.append(max(map(cell_len, [*whole, *name.split()]), default=1))
            widths.append(max(map(cell_len, [name, *cells])))
        room = most - GAP * (len(widths) - 1)
        if sum(least) > room:
            return None
        while (over := sum(widths) - room) > 0:
            widest = max(range(len(widths)), key=lambda n: (widths[n] - least[n] > 0, widths[n]))
            widths[widest] -= min(over, max(1, (widths[widest] - least[widest]) // 2))
        return widths

    def _blocks(self) -> Iterator[RenderableType]:
        """The rows one below the other, a line a cell that is not empty."""
        for row in self.rows:
            block = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, GAP))
            for name, cell in zip(self.names, row, strict=True):
                if cell.plain:
                    block.add_row(Text(f"  {name}", style="dim"), cell)
            yield block
            yield Text()
