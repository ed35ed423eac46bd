"""``topkin tune``: search settings of ``[train]`` on the validation periods alone; nothing held out is read.

Every trial is kept in ``<output>/tune/<key>/trials.json`` as soon as it is done, and a search that died goes on
with the next. The best settings are written beside it as ``best.toml``, to be copied into the configuration.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from topkin.artifacts import runs, storage
from topkin.config.reference import as_toml
from topkin.config.sections import Settings, TrainSettings
from topkin.errors import ConfigError
from topkin.evaluation import tuning
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.engine import stages


def search(
    settings: Settings,
    as_of: datetime,
    *,
    trials: int,
    keys: Sequence[str] = (),
    beam: Sequence[str] = (),
    tell: Callable[[stages.Event], None] = lambda event: None,
    on_trial: Callable[[Mapping[str, Any]], None] = lambda trial: None,
) -> tuple[str, list[dict[str, Any]]]:
    """Do the trials that are not done yet; returns the folder, and all trials in order.

    Each trial changes a few keys of the best one before it; the first is the configuration as it is.
    Raises ConfigError for a key that is not searched, InputError where validation has nobody to judge by.
    """
    space = tuning.space_of(keys)
    run = stages.run_stages(settings, as_of=as_of, only="prepare", beam=beam, tell=tell)
    prepared = stages.keys(settings, as_of)["prepare"]
    key = runs.stage_key({"prepared": prepared, "train": settings.train.model_dump(), "space": space})
    folder = storage.join(settings.run.output, "tune", key[:10])
    path = storage.join(folder, "trials.json")
    done: list[dict[str, Any]] = storage.read_json(path) if storage.exists(path) else []
    for number, draw in enumerate(islice(tuning.draws(space, settings.run.seed), trials)):
        if number >= len(done):
            best = tuning.best_of(done, "value")["changes"] if done else {}
            done.append(_trial(number, {**best, **draw}, settings, as_of, run.folder("prepare")))
            storage.write_json(done, path)
        on_trial(done[number])
    best = tuning.best_of(done[:trials], "value")
    storage.write_bytes(_as_section(best["changes"]).encode(), storage.join(folder, "best.toml"))
    return folder, done[:trials]


def _as_section(changes: Mapping[str, Any]) -> str:
    """Changes as sections [train] and, where it has some, [train.advanced]."""
    lines: dict[bool, list[str]] = {True: ["[train]"], False: ["[train.advanced]"]}
    for name, value in changes.items():
        lines[name in TrainSettings.model_fields].append(f"{name} = {as_toml(value)}")
    shown = lines[True] + (lines[False] if len(lines[False]) > 1 else [])
    return "\n".join(shown) + "\n"


def _trial(
    number: int, changes: Mapping[str, Any], settings: Settings, as_of: datetime, prepared: str
) -> dict[str, Any]:
    from topkin.models.data.histories import open_prepared
    from topkin.models.ops import device
    from topkin.models.training.context import TrainingContext
    from topkin.models.training.selection import best_epoch, select
    from topkin.models.training.validation import METRIC

    device.set_up()
    context = TrainingContext.of(settings, **changes)
    catalogue = storage.read_parquet(storage.join(prepared, "catalogue.parquet"))
    began = time.perf_counter()
    learned, histories = open_prepared(prepared, catalogue, as_of, settings)
    with device.repeatable():
        selection = select(context, histories, learned)
    if selection.validation is None:
        raise ConfigError(f"tune needs a validation, there is none: {selection.stopped}")
    best = best_epoch(selection.curve)
    return {
        "number": number,
        "changes": dict(changes),
        "value": selection.validation,
        "metric": METRIC,
        "epochs": best["epoch"] if best else 0,
        "blocks": {name: block.weight for name, block in selection.blocks.items()},
        "seconds": round(time.perf_counter() - began, 1),
    }


def main(options: CommandOptions, trials: int, keys: Sequence[str]) -> None:
    """``topkin tune``."""
    if trials < 1:
        raise ConfigError(f"--trials must be at least 1, got {trials}")
    flags, settings, as_of = options.beam_flags(), options.settings(), options.date()
    if settings.vectors_given:
        raise ConfigError("tune searches settings of [train]; users.vector leaves nothing to train: drop users.vector")

    def print_trial(trial: Mapping[str, Any]) -> None:
        if not (options.json or options.quiet):
            changed = ", ".join(f"{name} = {as_toml(value)}" for name, value in trial["changes"].items())
            figure = f"{trial['metric']} {trial['value']:.4f}"
            print(f"{trial['number']:3d}  {figure}  {changed or 'as configured'}", flush=True)

    with options.progress() as tell:
        folder, done = search(settings, as_of, trials=trials, keys=keys, beam=flags, tell=tell, on_trial=print_trial)
    best = tuning.best_of(done, "value")
    if options.json:
        print(json.dumps({"folder": folder, "best": best, "trials": done}))
    else:
        written = storage.join(folder, "best.toml")
        print(f"best: trial {best['number']}, {best['metric']} {best['value']:.4f}; {written}")
