"""The stage ``report`` of a run over purchases: what was measured is held against ``[publish]`` and shown."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from topkin.artifacts import storage
from topkin.config.sections import Settings
from topkin.gates.gate import Gate
from topkin.gates.judge import FILE, READS, judge
from topkin.gates.samples import MOST_USERS, MOST_VECTORS
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stage import Stage
from topkin.planning.estimate import StageCost, Workload
from topkin.report import data
from topkin.report.page import render
from topkin.telemetry.secrets import masked

NEEDS = ("prepare", "train", "embed", "index", "recommend", "hindsight", "evaluate")
PAGE = "report.html"


def cost(load: Workload) -> StageCost:
    """One process: columns of the histories and purchases of two versions, a part at a time, and both catalogues."""
    c = load.counts
    return load.cost(
        "report",
        rows=c.users,
        bytes_read=2 * load.histories_file + load.item_vectors + 2 * load.catalogue_file + load.lists_file,
        bytes_written=1e6,
        cpu_seconds=0.1 * c.purchases * load.costs.purchase,  # of a few columns; no cleaning
        cores=1,
        memory=load.item_vectors
        + 2 * load.catalogue
        + load.part
        + 2 * MOST_USERS * load.k * (c.id_bytes + 20)
        + MOST_VECTORS * load.vector,
    )


def report(job: Job[Settings]) -> dict[str, Any]:
    """Ask the gates, then write what they found and the page; returns how many have passed, are refused, not asked."""
    folders = {stage: job.folder(stage) for stage in NEEDS}
    judged = judge(job.settings, folders, job.earlier)
    storage.write_json(judged.to_json(), storage.join(job.out, FILE))
    run_id = job.out.rstrip("/").split("/")[-2]  # …/runs/<run_id>/<attempt>
    write_page(job.out, folders, judged.gates, as_of=job.as_of, run_id=run_id)
    return {f"gates {verdict}": n for verdict, n in judged.counts.items()}


def write_page(out: str, folders: Mapping[str, str], gates: Sequence[Gate], *, as_of: datetime, run_id: str) -> None:
    """The page of a run, from the folders of the stages in NEEDS."""
    metrics = storage.read_json(storage.join(folders["evaluate"], "metrics.json"))
    page = render(data.gather(folders, metrics, as_of=as_of, run_id=run_id), gates)
    storage.write_bytes(masked(page).encode(), storage.join(out, PAGE))


STAGE = Stage(
    name="report",
    folder="report",
    sections=("run", "recommend", "publish"),
    needs=lambda settings: NEEDS,
    earlier=lambda settings: READS["purchases"],
    cost=cost,
    work=report,
)
