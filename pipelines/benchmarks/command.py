"""``topkin benchmark``: which benchmark is asked for, and what it prints.

``sequence``: each user's last position or time is held out. ``retail``: any configuration, at a cut date. Any other
name is that of a split: a folder with ``train.parquet`` and ``test.parquet`` of user_id and item_id, with an order or
times where the split has them.
"""

import json
from dataclasses import replace
from typing import Any

from topkin.errors import ConfigError
from topkin.pipelines.cli import logs
from topkin.pipelines.cli.commands import CommandOptions

SEQUENCE, RETAIL = "sequence", "retail"
TAKES = {RETAIL: ("--cut",), SEQUENCE: ("--data", "--keep-bought")}
OF_SPLITS = ("--data", "--index", "--keep-bought")


def main(name: str, options: CommandOptions, data: str | None, *, index: bool, keep_bought: bool) -> None:
    """``topkin benchmark``. Raises ConfigError for an option that this benchmark does not have."""
    given = {"--data": data is not None, "--index": index, "--keep-bought": keep_bought, "--cut": bool(options.as_of)}
    takes = TAKES.get(name, OF_SPLITS)
    if others := [flag for flag, there in given.items() if there and flag not in takes]:
        raise ConfigError(f"topkin benchmark {name} takes {', '.join(takes)}, got {', '.join(others)}: leave it out")
    if name == RETAIL:
        _retail(options)
        return
    result = _sequence(options, data, keep_bought) if name == SEQUENCE else _split(options, data, index, keep_bought)
    if options.json:
        print(json.dumps({"benchmark": name, **result}))
        return
    from topkin.pipelines.benchmarks.table import below, table
    from topkin.pipelines.cli.terminal.tables import Sheet, screen

    screen().print(Sheet.of_figures(table(result)), *below(result), sep="\n")


def _sequence(options: CommandOptions, data: str | None, keep_bought: bool) -> dict[str, Any]:
    from topkin.pipelines.benchmarks.staged import measure_sequence, sequence_settings

    settings = options.settings() if data is None else sequence_settings(data, options.sets or ())
    with options.progress() as tell:
        return measure_sequence(settings, keep_bought=keep_bought, tell=tell)


def _split(options: CommandOptions, data: str | None, index: bool, keep_bought: bool) -> dict[str, Any]:
    from topkin.config.load import settings_without_file
    from topkin.pipelines.benchmarks.pairs import measure_split
    from topkin.pipelines.benchmarks.staged import measure_dated, split_settings
    from topkin.recommend.second.chosen import sources_tried

    if data is None:
        raise ConfigError(
            "--data must name the folder with train.parquet and test.parquet of the split; beside splits there are "
            f"topkin benchmark {SEQUENCE} and topkin benchmark {RETAIL}"
        )
    dated = split_settings(data, options.sets or ())
    if dated is not None:
        if index:
            raise ConfigError("--index is for splits without order and times: topkin run measures its own index")
        with options.progress() as tell:
            return measure_dated(*dated, keep_bought=keep_bought, tell=tell)
    settings = settings_without_file(data, options.sets or ())
    logs.silence()
    return measure_split(
        data,
        settings.train,
        settings.run.seed,
        settings.index if index else None,
        evaluate=settings.evaluate,
        sources=sources_tried(settings.recommend, 0, timed=False),
        keep_bought=keep_bought,
    )


def _retail(options: CommandOptions) -> None:
    """One cut of a back-test, with what it cost."""
    from topkin.pipelines import backtest

    if options.as_of is None:
        raise ConfigError("--cut must be the date before which purchases are known, as in --cut 2011-11-09")
    backtest.main(replace(options, as_of=None), options.as_of, None)
