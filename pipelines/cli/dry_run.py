"""``topkin run --dry-run``: what a run would cost, from what a look at the inputs or at earlier results tells."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from topkin.artifacts import stage_index, storage
from topkin.artifacts.cardinality import Distinct
from topkin.config.items_run import ItemsRunSettings
from topkin.config.sections import Settings
from topkin.errors import ConfigError
from topkin.ingest.contract import Inspection, inspect, readable_rows, sources, vector_dim
from topkin.ingest.files import batches
from topkin.pipelines.cli import logs
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.encode.catalogue import vector_dim as encoded_dim
from topkin.pipelines.engine import stages
from topkin.pipelines.engine.job import input_files, machine_of
from topkin.pipelines.engine.parts import with_parts
from topkin.planning.estimate import (
    InputCounts,
    Machine,
    StageCost,
    duration,
    empty_parts,
    idle_workers,
    refuse,
    size,
    too_many_parts,
)
from topkin.planning.items import plan_items

TEXT_ID = 24
"""Bytes of an id, where no purchase tells them."""


def main(options: CommandOptions) -> None:
    """Print the plan of the run that a command line asks for; nothing is done.

    Raises ConfigError where it does not fit.
    """
    flags, as_of, settings = options.beam_flags(), options.date(), with_parts(options.run_settings())
    logs.silence()
    if isinstance(settings, ItemsRunSettings):
        _items_alone(options, settings, flags)
        return
    plan = stages.plan_stages(counts_of(settings, as_of), settings, machine_of(settings, flags))
    if options.json:
        print(json.dumps({**asdict(plan), "seconds": plan.seconds, "fits": not plan.refusals}))
    else:
        c = plan.counts
        what = "events" if settings.events or settings.purchases.event_weights else "purchases"
        many = f"{c.purchases:,} {what}, " if settings.has_purchases else ""
        many += f"{c.users:,} users, {c.items:,} items"
        _print(plan.stages, plan.machine, many, plan.seconds)
        parts = settings.run.n_parts
        for note in (*idle_workers(parts, plan.machine), *empty_parts(parts, plan.counts.users)):
            print(note)
    refuse(plan)


def _items_alone(options: CommandOptions, settings: ItemsRunSettings, flags: list[str]) -> None:
    """Print the plan of a run over items alone."""
    from topkin.pipelines.items.plan import counts_of as counted

    counts, machine = counted(settings), machine_of(settings, flags)
    planned = plan_items(counts, settings, machine)
    seconds = sum(stage.seconds for stage in planned)
    short = [s.stage for s in planned if s.memory > machine.memory]
    faults = too_many_parts(settings.run.n_parts, counts.items + counts.queries)
    if options.json:
        value = {"counts": asdict(counts), "machine": asdict(machine), "stages": [asdict(s) for s in planned]}
        print(json.dumps({**value, "seconds": seconds, "fits": not (short or faults)}))
    else:
        many = f"{counts.items:,} items, {counts.queries:,} queries, {size(counts.row_bytes)} a row for the encoder"
        taken = f", {counts.row_seconds * 1e3:.3g} ms of a core a row as tried on some" if counts.row_seconds else ""
        _print(planned, machine, f"{many}{taken}", seconds)
    if short:
        faults.append(
            f"{' and '.join(short)} need more memory a worker than run.worker_memory, {size(machine.memory)}: raise "
            "run.parts, or take workers with more"
        )
    if faults:
        raise ConfigError("\n".join(faults))


def counts_of(settings: Settings, as_of: datetime) -> InputCounts:
    """How much there is: as a finished stage prepare counted, else as the inputs' footers and ids tell."""
    root, key = settings.run.output, stages.keys(settings, as_of)["prepare"]
    folder = stage_index.find(root, key)
    return of_inputs(settings) if folder is None else InputCounts.of_prepared(storage.join(root, folder))


def of_inputs(settings: Settings) -> InputCounts:
    """The counts of the input files, none of it rejected and all of it known: users and items are estimated."""
    inputs = {name: inspect(source, input_files(source.path)) for name, source in sources(settings).items()}
    findings = [finding for inspection in inputs.values() for finding in inspection.findings]
    if findings:
        raise type(findings[0])("\n".join(str(f) for f in findings))
    distinct, id_bytes = _distinct(inputs["purchases"]) if settings.has_purchases else (Counter(), TEXT_ID)
    rows = {name: inputs[name].rows if name in inputs else 0 for name in ("users", "items")}
    items = inputs.get("items")
    own = encoded_dim(settings)
    if own is None and items is not None:
        own = vector_dim(items, readable_rows(items, input_files(items.source.path)))
    events = sum(i.rows_judged for name, i in inputs.items() if name == "purchases" or name.startswith("events."))
    return InputCounts(
        purchases=events,
        known=events,
        users=max(distinct["user_id"], rows["users"]),
        items=max(distinct["item_id"], rows["items"]),
        input_bytes=sum(file.bytes for inspection in inputs.values() for file in inspection.files),
        id_bytes=id_bytes,
        vector_dim=own or 0,
    )


def _distinct(purchases: Inspection) -> tuple[dict[str, int], int]:
    """Distinct users and items among the purchases as they are in the files, about, and the bytes of an id."""
    source, files = purchases.source, input_files(purchases.source.path)
    sketches, seen, rows = {role: Distinct() for role in ("user_id", "item_id")}, 0, 0
    for file in purchases.files:
        named = {role: source.columns[role] for role in sketches}
        computed = not set(purchases.schema.names).issuperset(named.values())  # by an expression over the row
        columns = purchases.columns if computed else tuple(dict.fromkeys(named.values()))
        for table in batches(source.name, file, files, columns, rows=1 << 18):
            table = source.rules.normalised(table) if computed else table
            for role, column in named.items():
                sketches[role].add(table[column])
                seen += table[column].nbytes
            rows += 2 * len(table)
    return {role: sketch.count() for role, sketch in sketches.items()}, max(8, -(-seen // max(rows, 1)))


def _print(stages_of: Sequence[StageCost], m: Machine, many: str, seconds: float) -> None:
    from rich.console import Console
    from rich.text import Text

    from topkin.pipelines.cli.terminal.tables import Sheet

    workers = "1 worker" if m.workers == 1 else f"{m.workers:,} workers"
    columns = (">rows", ">read", ">written", ">FLOPs", ">memory a worker", ">shards", ">about")
    table = Sheet("plan, nothing is done", "stage", *columns)
    for stage in stages_of:
        flops = f"{stage.flops:.1e}" if stage.flops else ""
        memory = Text(size(stage.memory), style="bold red" if stage.memory > m.memory else "")
        shards = f"{stage.shards:,} ({stage.mode})" if stage.mode else ""
        sizes = size(stage.bytes_read), size(stage.bytes_written)
        table.add(stage.stage, f"{stage.rows:,}", *sizes, flops, memory, shards, duration(stage.seconds))
    console = Console()
    console.print(table)
    console.print(
        f"{many}; {workers} of {m.cores} cores and {size(m.memory)}; about {duration(seconds)} in all",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
