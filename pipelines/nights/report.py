"""The stage ``report`` of a run over purchases: what was measured is held against ``[publish]`` and shown."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from topkin.artifacts import storage
from topkin.config.sections import Settings
from topkin.errors import InputError
from topkin.gates.gate import Gate
from topkin.gates.judge import FILE, READS, judge
from topkin.gates.samples import MOST_USERS, MOST_VECTORS
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stage import WHERE, Stage
from topkin.pipelines.nights.pictures import Pictures
from topkin.planning.estimate import StageCost, Workload
from topkin.report import data
from topkin.report.night.changes import FILE as CHANGES
from topkin.report.night.changes import changes
from topkin.report.page import render
from topkin.telemetry.secrets import masked

NEEDS = ("prepare", "train", "embed", "index", "recommend", "similar", "hindsight", "evaluate")
PAGE = "report.html"
PAGE_BYTES = 4e6
"""Of a large shop's page; the objects of which its JSON is made take several times as much."""


def cost(load: Workload) -> StageCost:
    """One process: columns of the histories and purchases of two versions, a part at a time, both catalogues, and what
    the page holds of them.
    """
    c = load.counts
    return load.cost(
        "report",
        rows=c.users,
        bytes_read=2 * load.histories_file + load.item_vectors + 2 * load.catalogue_file + 2 * load.lists_file,
        bytes_written=PAGE_BYTES,
        cpu_seconds=0.4 * c.purchases * load.costs.purchase,  # of a few columns; no cleaning
        cores=1,
        memory=load.item_vectors
        + 2 * load.catalogue
        + load.part
        + 2 * MOST_USERS * load.k * (c.id_bytes + 20)
        + MOST_VECTORS * load.vector
        + 10 * PAGE_BYTES
        + (load.costs.start_bytes["embed"] if load.settings.report.image else 0),  # what decodes images
    )


def report(job: Job[Settings]) -> dict[str, Any]:
    """Ask the gates, then write what they found and the page; returns how many have passed, are refused, not asked."""
    folders = {stage: job.folder(stage) for stage in NEEDS}
    judged = judge(job.settings, folders, job.earlier)
    storage.write_json(judged.to_json(), storage.join(job.out, FILE))
    changed = changes(folders, job.earlier, judged.to_json())
    if changed is not None:
        storage.write_json(changed, storage.join(job.out, CHANGES))
    run_id = job.out.rstrip("/").split("/")[-2]  # …/runs/<run_id>/<attempt>
    notes = write_page(job.out, folders, judged.gates, as_of=job.as_of, run_id=run_id, settings=job.settings)
    return {**{f"gates {verdict}": n for verdict, n in judged.counts.items()}, **({"notes": notes} if notes else {})}


def write_page(
    out: str, folders: Mapping[str, str], gates: Sequence[Gate], *, as_of: datetime, run_id: str, settings: Settings
) -> list[str]:
    """The page of a run, from the folders of the stages in NEEDS, and what changed, which ``out`` holds.

    Returns what a person must know of its pictures. A picture that is not there stops no night.
    """
    try:
        pictures, notes = Pictures.of(settings), []
    except InputError as e:
        pictures, notes = None, [f"the page has no pictures: {e}"]
    metrics = storage.read_json(storage.join(folders["evaluate"], "metrics.json"))
    changed = storage.join(out, CHANGES)
    content = data.gather(
        folders,
        metrics,
        as_of=as_of,
        run_id=run_id,
        changes=storage.read_json(changed) if storage.exists(changed) else None,
        pictures=pictures,
    )
    shown = settings.model_dump(mode="json", exclude_defaults=True)
    shown["run"] = {name: value for name, value in shown.get("run", {}).items() if name not in WHERE}
    storage.write_bytes(masked(render(content, gates, shown)).encode(), storage.join(out, PAGE))
    return notes if pictures is None else [pictures.note]


STAGE = Stage(
    name="report",
    folder="report",
    sections=("run", "recommend", "report", "publish"),
    needs=lambda settings: NEEDS,
    earlier=lambda settings: READS["purchases"],
    cost=cost,
    work=report,
)
