"""``run.parts = "auto"``: the number of parts that the inputs' rows ask for, before anything is keyed by it."""

from typing import TypeVar, cast

from topkin.config.items_run import ItemsRunSettings, RunSettingsOfAnyKind
from topkin.config.section import LEAST_PARTS, ROWS_A_PART, parts_for
from topkin.config.sections import Settings
from topkin.errors import InputError
from topkin.ingest.contract import InputSource, inspect, sources
from topkin.ingest.files import find
from topkin.ingest.items import items_sources
from topkin.pipelines.engine.job import input_files

S = TypeVar("S", bound=RunSettingsOfAnyKind)


def with_parts(settings: S, rows: int | None = None) -> S:
    """The settings with a number of parts in the place of ``auto``; with a number they are as they came.

    Args:
        settings: Of a run of either kind.
        rows: Of all inputs, those that lists add among them; as the footers of the files say by default.
    """
    if settings.run.parts != "auto":
        return settings
    parts = parts_for(_rows(settings) if rows is None else rows)
    return cast(S, settings.model_copy(update={"run": settings.run.model_copy(update={"parts": parts})}))


def _rows(settings: RunSettingsOfAnyKind) -> int:
    """Rows of all inputs; none of what cannot be read, which ``prepare`` refuses.

    Files of fewer bytes than the least number of parts may have rows are not opened: each would be a request.
    """
    named = items_sources(settings) if isinstance(settings, ItemsRunSettings) else _sources(settings)
    try:
        size = sum(f.bytes for n, s in named.items() for f in find(f"{n}.path", s.path, input_files(s.path)).files)
    except InputError:
        return 0
    if size <= LEAST_PARTS * ROWS_A_PART:
        return 0
    return sum(inspect(source, input_files(source.path)).rows_judged for source in named.values())


def _sources(settings: RunSettingsOfAnyKind) -> dict[str, InputSource]:
    assert isinstance(settings, Settings)
    return sources(settings)
