"""Progress on a terminal: bars with rows done, rate, time left; elsewhere a line now and then."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from topkin.pipelines.cli.terminal.lines import Steps, in_words
from topkin.telemetry import progress


@contextmanager
def shown(*, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Show all work reported inside, on a terminal as bars; gives a function that prints a line above them.

    Lines go to stderr too. With ``quiet`` neither bars nor lines are shown.
    """
    if quiet:
        yield lambda line: None
    elif not sys.stderr.isatty():

        def plain(line: str) -> None:
            print(line, file=sys.stderr, flush=True)

        with progress.listen(Steps(lambda update: plain(f"{'':<10} {in_words(update)}"))):
            yield plain
    else:
        with _bars() as write_line:
            yield write_line


@contextmanager
def _bars() -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.fields[done]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    tasks: dict[str, TaskID] = {}
    lock = threading.Lock()  # stages report from their own threads

    with Progress(*columns, console=console, transient=True) as bars:

        def forget(*, all_of_them: bool) -> None:
            for step, task_id in list(tasks.items()):
                if all_of_them or bars.tasks[bars.task_ids.index(task_id)].finished:
                    bars.remove_task(tasks.pop(step))

        def listener(step: str, rows: int, total: int | None) -> None:
            with lock:
                new = step not in tasks
                if new:
                    forget(all_of_them=False)  # or a hundred epochs would fill the screen
                    tasks[step] = bars.add_task(step, total=total, done="")
                bars.update(tasks[step], advance=rows, total=total)  # None leaves the total as it is
                task = bars.tasks[bars.task_ids.index(tasks[step])]
                bars.update(tasks[step], done=describe(int(task.completed), task.total, task.speed))
                if new:
                    bars.refresh()

        def write_line(line: str) -> None:
            with lock:
                forget(all_of_them=True)
                console.print(line, markup=False, highlight=False)

        with progress.listen(listener):
            yield write_line


def describe(rows: int, total: float | None, per_second: float | None) -> str:
    """``"12,000 of 50,000 rows, 4,000/s"``."""
    of = f" of {total:,.0f}" if total is not None else ""
    return f"{rows:,}{of} rows" + (f", {per_second:,.0f}/s" if per_second else "")
