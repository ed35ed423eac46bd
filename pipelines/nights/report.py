"""The stage ``report`` of a run over purchases: what was measured is held against ``[publish]`` and shown."""

from typing import Any

from topkin.artifacts import storage
from topkin.config.sections import Settings
from topkin.gates.judge import FILE, READS, judge
from topkin.gates.samples import MOST_USERS, MOST_VECTORS
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stage import Stage
from topkin.planning.estimate import StageCost, Workload
from topkin.report import data
from topkin.report.page import render

NEEDS = ("prepare", "train", "embed", "index", "recommend", "hindsight", "evaluate")


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
    metrics = storage.read_json(storage.join(folders["evaluate"], "metrics.json"))
    run_id = job.out.rstrip("/").split("/")[-2]  # …/runs/<run_id>/<attempt>
    page = render(data.gather(folders, metrics, as_of=job.as_of, run_id=run_id), judged.gates)
    storage.write_bytes(page.encode(), storage.join(job.out, "report.html"))
    return {f"gates {verdict}": n for verdict, n in judged.counts.items()}


STAGE = Stage(
    name="report",
    folder="report",
    sections=("run", "recommend", "publish"),
    needs=lambda settings: NEEDS,
    earlier=lambda settings: READS["purchases"],
    cost=cost,
    work=report,
)
