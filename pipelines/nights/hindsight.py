"""The job ``hindsight``: lists that were published on earlier nights, judged by what was bought since.

Writes ``hindsight.parquet``, the series over nights, and ``hindsight.json``, what tonight adds and the verdict.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from topkin.artifacts import manifest, schemas, storage
from topkin.config import undated
from topkin.config.sections import Settings
from topkin.errors import ArtifactError
from topkin.evaluation.hindsight import PastLists, compare
from topkin.evaluation.nights import carry_on, day, entry_of, hindsight_json
from topkin.pipelines.engine.job import EarlierVersion, Job, run_pipeline
from topkin.pipelines.engine.stage import EarlierVersions, Stage, StageReads
from topkin.planning.estimate import StageCost, Workload
from topkin.report.hindsight import SERIES, SUMMARY
from topkin.search.topk import BUDGET_BYTES

LISTS = "recommendations"


def cost(load: Workload) -> StageCost:
    """A list for each user who bought since, at most all, of each version; the histories are read twice."""
    c, versions = load.counts, len(set(load.settings.evaluate.hindsight))
    return load.cost(
        "hindsight",
        rows=versions * c.users,
        bytes_read=2 * load.histories_file + 2 * versions * load.lists_file,
        bytes_written=100.0 * versions * c.users,
        cpu_seconds=(2 * c.known + versions * c.users * load.k) * load.costs.purchase,  # rows that are read
        memory=(c.id_bytes + 16.0 * versions) * c.items + load.part + BUDGET_BYTES,
    )


def off(settings: Settings) -> str | None:
    """Why no lists are judged under these settings; None where they are."""
    if not settings.has_purchases:
        return "without purchases nothing tells what was bought since an earlier night"
    if not settings.evaluate.hindsight:
        return "evaluate.hindsight is empty"
    if settings.evaluate.nightly not in ("hindsight", "both"):
        return f'evaluate.nightly is "{settings.evaluate.nightly}"'
    if not settings.timed:
        return "purchases without times do not tell what was bought since an earlier night"
    if settings.prepare.split == "last":
        return 'prepare.split = "last" keeps the last purchases of users out of the histories'
    return None


def _lists_of(version: EarlierVersion, histories: pa.Schema) -> tuple[PastLists, str]:
    """A version's lists and the folder of their table. Raises ArtifactError where they cannot be read."""
    folder = version.folders["recommend"]
    manifest.verify(folder, contents=not storage.in_place(folder))
    summary = storage.read_json(storage.join(folder, "lists.json"))
    fs, inner = storage.filesystem(storage.parquet_files(storage.join(folder, LISTS))[0])
    stored = pq.read_schema(inner, filesystem=fs)
    for name, kind in (("user_id", histories.field("user_id").type), ("item_id", histories.field("items").type)):
        tonight = kind.value_type if pa.types.is_list(kind) else kind
        if stored.field(name).type != tonight:
            raise ArtifactError(f"their {name} is {stored.field(name).type}, tonight's is {tonight}")
    lists = PastLists(
        days=version.days,
        version=version.run_id,
        as_of=version.as_of,
        k=summary["k"],
        bought=summary["bought"],
        model=summary["model"],
    )
    return lists, storage.join(folder, LISTS)


def _judge(
    job: Job[Settings], versions: Sequence[tuple[PastLists, str]]
) -> tuple[list[pa.Table], list[dict[str, Any]]]:
    """Of each version that can be read, its rows of tonight and its entry in ``hindsight.json``."""
    from topkin.transforms.hindsight import HindsightInputs, JudgePastLists, read_results

    settings, ks = job.settings, tuple(sorted(set(job.settings.evaluate.k)))
    parts, out = settings.run.n_parts, storage.join(job.scratch, "users")
    inputs = HindsightInputs(prepared=job.folder("prepare"), parts=parts, versions=versions, ks=ks)
    run_pipeline(JudgePastLists(inputs, out), job.beam)
    tables, entries = [], []
    for lists, _ in versions:
        results = read_results(out, lists.days, parts)
        how = {"resamples": settings.evaluate.bootstrap, "seed": settings.run.seed}
        tables.append(compare(results, lists, job.as_of, ks, **how))
        entries.append(entry_of(lists, job.as_of, ks, tables[-1], results.counts))
    return tables, entries


def hindsight(job: Job[Settings]) -> dict[str, Any]:
    """Judge the versions that are there, and carry on the series of the night before."""
    why, settings = off(job.settings), job.settings
    path = storage.join(job.folder("prepare"), "histories", storage.part_name(0, settings.run.n_parts))
    fs, inner = storage.filesystem(path)
    histories = pq.read_schema(inner, filesystem=fs)
    readable: list[tuple[PastLists, str]] = []
    broken: list[dict[str, Any]] = []
    for version in job.versions:
        try:
            readable.append(_lists_of(version, histories))
        except ArtifactError as e:
            name = {"days": version.days, "version": version.run_id, "as_of": version.as_of.isoformat()}
            broken.append(name | {"reason": f"the lists of {day(version.as_of)} cannot be read: {e}"})
    tables, entries = _judge(job, readable) if readable else ([], [])
    series, before = None, None
    if "hindsight" in job.earlier:
        series = storage.read_parquet(storage.join(job.earlier["hindsight"], SERIES))
        before = storage.read_json(storage.join(job.earlier["hindsight"], SUMMARY))
    tonight = pa.concat_tables([schemas.HINDSIGHT.empty_table(), *tables])
    storage.write_parquet(carry_on(series, tonight, job.as_of), storage.join(job.out, SERIES))
    every = sorted([*entries, *broken], key=lambda entry: int(entry["days"]))
    summary = hindsight_json(job.as_of, settings.evaluate.hindsight, every, before, off=why)
    storage.write_json(summary, storage.join(job.out, SUMMARY))
    held_out = storage.read_json(storage.join(job.folder("prepare"), "statistics.json"))["heldout_events"]
    notes = undated.notes(settings, "hindsight")
    if not why and (every or before or not held_out):  # a first run that holds purchases out is judged by them
        notes = [line_of(summary)]
    users = {"users": summary["verdict"]["users"]} if summary["reason"] is None else {}
    return {"versions": len(entries), **users, "notes": notes}


def line_of(summary: dict[str, Any]) -> str:
    """What the screen says: the verdict of tonight, or why there is none, and that of the night before."""
    verdict = summary["verdict"]
    if summary["reason"] is None:
        return str(verdict["sentence"])
    earlier = f"; as before: {verdict['sentence']}" if verdict else ""
    return f"not judged: {summary['reason']}{earlier}"


def versions(settings: Settings) -> EarlierVersions:
    """The runs of so many days before, unless hindsight is off."""
    return EarlierVersions(days=() if off(settings) else settings.evaluate.hindsight, stages=("recommend",))


STAGE = Stage(
    name="hindsight",
    folder="hindsight",
    sections=("run",),
    needs=lambda settings: ("prepare",),
    reads=lambda settings: StageReads(
        settings={
            "evaluate.k": settings.evaluate.k,
            "evaluate.bootstrap": settings.evaluate.bootstrap,
            "evaluate.hindsight": settings.evaluate.hindsight,
            "prepare.split": settings.prepare.split,
        }
    ),
    earlier=lambda settings: () if off(settings) else ("hindsight",),
    versions=versions,
    cost=cost,
    work=hindsight,
)
