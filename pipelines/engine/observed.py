"""What monitoring reads of a run: ``lineage.json`` and ``metrics.prom`` in its folder.

Schemas and rows come from the tables' footers where these lie on a disk; in an object store, where each footer is a
request, rows are those that the stages counted.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import pyarrow.parquet as pq

from topkin.artifacts import manifest, storage
from topkin.artifacts.runs import Run, log
from topkin.config.items_run import RunSettingsOfAnyKind
from topkin.errors import TopkinError
from topkin.exports.tables import tables_of
from topkin.ingest.files import find_files
from topkin.telemetry.lineage import Dataset, run_event
from topkin.telemetry.prometheus import Gauge, Sample, text
from topkin.telemetry.secrets import masked_values

LINEAGE, METRICS = "lineage.json", "metrics.prom"
_OUTPUTS = ("recommend", "similar", "embed")


@dataclass(frozen=True)
class Observed:
    """A finished run: what ``run.json`` says of its stages, their summaries, and the tables read and made."""

    run: Run
    stages: Mapping[str, Mapping[str, Any]]
    summaries: Mapping[str, Mapping[str, Any]]
    inputs: Mapping[str, Dataset]
    outputs: Mapping[str, Dataset]

    @classmethod
    def of(cls, run: Run, settings: RunSettingsOfAnyKind) -> "Observed":
        """Look at a run. Raises as reading a table does."""
        summaries = {stage: (manifest.read(folder) or {}).get("summary", {}) for stage, folder in run.folders.items()}
        stages = storage.read_json(storage.join(run.path, "run.json"))["stages"]
        sources = summaries.get("prepare", {}).get("sources", {})
        inputs = {name: _input(path, sources.get(name, {})) for name, path in _paths(settings)}
        return cls(run, stages, summaries, inputs, _outputs(run))

    def write(self, *, published: bool) -> None:
        """Write both files; those of a run on a disk also below the output folder, where a collector finds the last."""
        now = datetime.now(UTC)
        event = run_event(
            namespace=self.run.root,
            run_id=self.run.run_id,
            nominal=f"{self.run.as_of.isoformat()}Z",
            finished=now.isoformat(timespec="seconds"),
            inputs=list(self.inputs.values()),
            outputs=list(self.outputs.values()),
            labels={"run": self.run.run_id, "version": version("topkin"), "published": str(published).lower()},
        )
        storage.write_json(masked_values(event), storage.join(self.run.path, LINEAGE))
        metrics = text(self._gauges(now, published)).encode()
        storage.write_bytes(metrics, storage.join(self.run.path, METRICS))
        if not storage.in_place(self.run.root):
            storage.write_bytes(metrics, storage.join(self.run.root, METRICS))

    def _gauges(self, now: datetime, published: bool) -> list[Gauge]:
        stages, sources = self.stages, self.summaries.get("prepare", {}).get("sources", {})
        rejected: list[Sample] = [
            ({"source": name, "reason": reason}, n)
            for name, counts in sources.items()
            for reason, n in counts["rejected"].items()
        ]
        counts: list[Sample] = [
            ({"stage": stage, "name": name}, float(value))
            for stage, summary in self.summaries.items()
            for name, value in summary.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        info = {"run": self.run.run_id, "version": version("topkin")}
        known = {name: one for name, one in self.outputs.items() if one.rows is not None}
        date = self.run.as_of.replace(tzinfo=UTC).timestamp()
        return [
            Gauge("topkin_run_info", "The last run, by its name.", [(info, 1)]),
            Gauge("topkin_run_as_of_seconds", "As-of date of the run, as Unix time.", [({}, date)]),
            Gauge("topkin_run_finished_seconds", "When the run ended, as Unix time.", [({}, int(now.timestamp()))]),
            Gauge("topkin_run_published", "1 where the run was published.", [({}, published)]),
            Gauge(
                "topkin_stage_seconds",
                "How long a stage took.",
                [({"stage": s}, e.get("seconds", 0)) for s, e in stages.items()],
            ),
            Gauge(
                "topkin_stage_reused",
                "1 where it was done before.",
                [({"stage": s}, e.get("reused", False)) for s, e in stages.items()],
            ),
            Gauge("topkin_stage_count", "What a stage counted.", counts),
            Gauge("topkin_input_rows", "Rows of an input.", [({"source": n}, c["rows"]) for n, c in sources.items()]),
            Gauge("topkin_rejected_rows", "Rows of an input that were not used.", rejected),
            Gauge("topkin_table_rows", "Rows of a table.", [({"table": n}, t.rows or 0) for n, t in known.items()]),
            Gauge("topkin_table_bytes", "Bytes of a table.", [({"table": n}, t.size or 0) for n, t in known.items()]),
        ]


def observe(run: Run, settings: RunSettingsOfAnyKind) -> Callable[[bool], None]:
    """Look at a finished run and write both files, and give what writes them again with whether it was published.

    A night stays one whatever comes of this: what goes wrong is logged.
    """
    seen: list[Observed] = []

    def write(published: bool) -> None:
        try:
            if not seen:
                seen.append(Observed.of(run, settings))
            seen[0].write(published=published)
        except (OSError, TopkinError) as e:
            log.warning("%s and %s of run %s were not written: %s", LINEAGE, METRICS, run.run_id, e)

    write(False)
    return write


def _paths(settings: RunSettingsOfAnyKind) -> Iterator[tuple[str, str]]:
    """The inputs: every section that has a path, by its name."""
    for name in ("purchases", "items", "users", "heldout", "queries"):
        if path := getattr(getattr(settings, name, None), "path", None):  # of a run over vectors purchases have none
            yield name, str(path)
    for name, section in getattr(settings, "events", {}).items():
        yield name, str(section.path)


def _input(path: str, counts: Mapping[str, Any]) -> Dataset:
    fields: list[tuple[str, str]] = []
    if not storage.in_place(path):
        with suppress(TopkinError, OSError, ValueError):
            fields = [(f.name, str(f.type)) for f in pq.read_schema(find_files(path)[0])]
    return Dataset(storage.canonical(path), fields, counts.get("rows"))


def _outputs(run: Run) -> dict[str, Dataset]:
    datasets = {}
    for name, table in tables_of(run).items():
        if table.stage not in _OUTPUTS or not table.folder:
            continue
        place = storage.canonical(table.paths[0]).rpartition("/")[0]
        if storage.in_place(run.root):
            datasets[name] = Dataset(place)
            continue
        rows = 0
        for path in table.paths:
            with storage.open_parquet(path) as file:
                rows += file.metadata.num_rows
        fields = [(field.name, str(field.type)) for field in table.schema]
        datasets[name] = Dataset(place, fields, rows, sum(storage.size(path) for path in table.paths))
    return datasets
