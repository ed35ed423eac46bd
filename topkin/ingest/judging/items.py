"""The inputs of a run over items alone, looked at before any work."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from topkin.config.items_run import ItemsRunSettings
from topkin.errors import ConfigError, InputError, TopkinError
from topkin.ingest.contract import Inspection, inspect
from topkin.ingest.items import OWN, Feed, ItemsPlan, items_sources, kept_type
from topkin.ingest.judging.inputs import FilesOf
from topkin.ingest.judging.judged import Judged, judged, merged
from topkin.ingest.judging.limits import check_limited_reasons, faults_of_rejects
from topkin.ingest.judging.sample import ROWS, sample_rows
from topkin.ingest.readers import INPUT, escape_invalid_utf8
from topkin.ingest.values.findings import value_findings

FeedsOf = Callable[[pa.Schema], Sequence[Feed]]
"""What feeds an encoder, of the columns that its rows have after ``normalise``."""


@dataclass(frozen=True, kw_only=True)
class ItemsLook:
    """The inputs by name, the plan where nothing is wrong with them, and what a sample of each would become.

    ``findings``: errors not raised, each with its message. ``feeds``: what feeds the encoder. ``sampled``: the sample
    of each as it was read.
    """

    inspections: Mapping[str, Inspection]
    plan: ItemsPlan | None
    judged: Mapping[str, Judged]
    findings: Sequence[TopkinError]
    feeds: Sequence[Feed] = ()
    sampled: Mapping[str, Sequence[pa.Table]] = field(default_factory=dict)

    def good_items(self) -> pa.Table | None:
        """The items of the sample that break no rule, as they are prepared; None where they could not be read."""
        if self.plan is None or "items" not in self.sampled:
            return None
        plan = self.plan
        return pa.concat_tables([plan.clean("items", table).accepted for table in self.sampled["items"]])


def look_at_items(
    settings: ItemsRunSettings, feeds_of: FeedsOf, clock: datetime, files_of: FilesOf, rows: int = ROWS
) -> ItemsLook:
    """Hold all files to the contract and to the encoder's inputs, and at most ``rows`` rows of each to the rules."""
    bare = {name: inspect(source, files_of(source.path)) for name, source in items_sources(settings).items()}
    findings = [f for inspection in bare.values() for f in inspection.findings]
    if findings:
        return ItemsLook(inspections=bare, plan=None, judged={}, findings=findings)
    try:
        stored = bare["items"].schema
        feeds = feeds_of(bare["items"].source.rules.bound(stored))
        if kept := [f.name for f in feeds if f.name in OWN]:
            raise ConfigError(
                f"an input of the encoder must have another name than {' and '.join(OWN)}, got {kept[0]!r}: rename the "
                "model's input"
            )
        sources = items_sources(settings, feeds, stored.names)
        check_limited_reasons(settings.prepare, sources)
    except TopkinError as e:
        return ItemsLook(inspections=bare, plan=None, judged={}, findings=[e])
    inspections = {name: inspect(source, files_of(source.path)) for name, source in sources.items()}
    findings = [f for inspection in inspections.values() for f in inspection.findings]
    findings = findings or _types_that_differ(inspections)
    if findings:
        return ItemsLook(inspections=inspections, plan=None, judged={}, findings=findings)
    items = inspections["items"]
    plan = ItemsPlan(
        sources=sources,
        id_types={name: inspection.types["item_id"] for name, inspection in inspections.items()},
        inputs={role: kept_type(t) for role, t in items.types.items() if role.startswith(INPUT)},
        paths=[f"{INPUT}{f.name}" for f in feeds if f.is_path],
    )
    results: dict[str, Judged] = {}
    sampled: dict[str, Sequence[pa.Table]] = {}
    for name, inspection in inspections.items():
        try:
            sampled[name] = tables = sample_rows(inspection, files_of(inspection.source.path), rows)
            for table in tables:
                findings += value_findings(inspection, escape_invalid_utf8(table).rows, clock)
            results[name] = merged([judged(name, table, plan, {}) for table in tables])
        except TopkinError as e:
            findings.append(e)
    return ItemsLook(
        inspections=inspections, plan=plan, judged=results, findings=findings, feeds=feeds, sampled=sampled
    )


def rejected_items_over_limits(settings: ItemsRunSettings, look: ItemsLook) -> list[TopkinError]:
    """What is wrong where more of a sample's rows would be rejected than ``[prepare]`` allows."""
    faults: list[str] = []
    for name, result in look.judged.items():
        source = look.inspections[name].source
        faults += faults_of_rejects(source, result.rejected, result.rows, settings.prepare, result.examples)
    return [InputError(fault) for fault in faults]


def _types_that_differ(inspections: Mapping[str, Inspection]) -> list[TopkinError]:
    """What is wrong where the queries feed the encoder with other types than the items."""
    if "queries" not in inspections:
        return []
    items, queries = inspections["items"], inspections["queries"]
    return [
        InputError(
            f"queries.path: what feeds the encoder's input {role.removeprefix(INPUT)!r} must be {t}, as of the items, "
            f"got {queries.types[role]}: write both with one type, or set queries.normalise"
        )
        for role, t in items.types.items()
        if role.startswith(INPUT) and kept_type(queries.types[role]) != kept_type(t)
    ]
