"""The job ``evaluate``: the held-out purchases judge the model, the baselines and the published lists.

Writes ``metrics.json``, ``report.html`` and ``users/`` with the metrics of every judged user.
"""

from typing import TYPE_CHECKING, Any

from topkin.artifacts import storage
from topkin.config import undated
from topkin.config.sections import Settings
from topkin.evaluation import summary
from topkin.evaluation.results import EvaluationResults
from topkin.pipelines.engine.job import Job, run_pipeline
from topkin.pipelines.engine.stage import Stage
from topkin.planning.estimate import StageCost, Workload
from topkin.report import data
from topkin.report.page import render
from topkin.search.topk import BUDGET_BYTES
from topkin.telemetry.secrets import masked

if TYPE_CHECKING:
    from topkin.transforms.evaluate import EvaluateInputs

NEEDS = ("prepare", "train", "embed", "recommend")


def cost(load: Workload) -> StageCost:
    """All models over all users, for those with held-out purchases are at most all: vectors, and baselines."""
    c = load.counts
    return load.cost(
        "evaluate",
        rows=c.users,
        bytes_read=2 * load.histories_file
        + load.user_vectors
        + load.machine.workers * (load.item_vectors + load.catalogue_file)
        + load.lists_file,
        bytes_written=100.0 * c.users,
        flops=2.0 * load.dim * c.users * c.items,
        cpu_seconds=1.0 * c.users * c.items * load.costs.judged_pair,
        memory=load.item_vectors + load.catalogue + load.part + load.fitted + BUDGET_BYTES,
    )


def inputs_of(job: Job[Settings]) -> "EvaluateInputs":
    """What the workers read, from a job's settings and the folders of the finished stages."""
    from topkin.transforms.evaluate import EvaluateInputs

    return EvaluateInputs(
        folders={stage: job.folder(stage) for stage in NEEDS},
        fitted=storage.join(job.scratch, "baselines"),
        by_time=job.settings.prepare.split == "time",
        timed=job.settings.timed,
        parts=job.settings.run.parts,
        as_of=job.as_of,
        encoder=str(_signature(job)["encoder"]),
        evaluate=job.settings.evaluate,
        recommend=job.settings.recommend,
    )


def _signature(job: Job[Settings]) -> dict[str, Any]:
    signature: dict[str, Any] = storage.read_json(storage.join(job.folder("train"), "signature.json"))
    return signature


def measure(job: Job[Settings], results: EvaluationResults) -> dict[str, Any]:
    """``metrics.json`` of what the parts gave, but for the training's own figures."""
    from topkin.transforms.evaluate import facts_of

    settings = job.settings
    return summary.scoreboard(
        results, facts_of(inputs_of(job)), resamples=settings.evaluate.bootstrap, seed=settings.run.seed
    )


def _judged(job: Job[Settings]) -> dict[str, Any]:
    """The metrics by the held-out purchases; without any they say so."""
    statistics = storage.read_json(storage.join(job.folder("prepare"), "statistics.json"))
    if not statistics["heldout_events"]:
        ks, bought = sorted(set(job.settings.evaluate.k)), job.settings.recommend.bought
        return summary.nothing_held_out(job.as_of, ks, bought, summary.NO_PURCHASES)
    from topkin.transforms.evaluate import EvaluateParts, fit, read_results

    inputs = inputs_of(job)
    fit(inputs)
    run_pipeline(EvaluateParts(inputs, job.out), job.beam)
    metrics = measure(job, read_results(inputs, job.out))
    if not job.settings.timed:  # the times that stand for positions are no dates
        metrics["heldout"] |= {"from": None, "to": None}
        metrics["cold_items"] |= {"days": None} if metrics["cold_items"] else {}
    for name in ("listed", "tallies"):
        storage.remove_folder(storage.join(job.out, name))
    return metrics


def evaluate(job: Job[Settings]) -> dict[str, Any]:
    """Judge, then write the metrics and the report. Without held-out purchases it says so instead."""
    metrics, signature = _judged(job), _signature(job)
    metrics["split"] = "files" if job.settings.heldout is not None else job.settings.prepare.split
    metrics["encoder"] = signature["encoder"]
    if job.settings.recommend.baseline is not None:
        metrics["made_by"] = job.settings.recommend.baseline
    metrics["validation"] = signature.get("validation") or {}
    storage.write_json(metrics, storage.join(job.out, "metrics.json"))
    folders = {stage: job.folder(stage) for stage in NEEDS}
    run_id = job.out.rstrip("/").split("/")[-2]  # …/runs/<run_id>/<attempt>
    page = render(data.gather(folders, metrics, as_of=job.as_of, run_id=run_id))
    storage.write_bytes(masked(page).encode(), storage.join(job.out, "report.html"))
    protocol, metric = metrics["verdict"]["protocol"], metrics["verdict"]["metric"]
    return {
        "heldout_users": metrics["heldout"]["users"],
        "heldout_events": metrics["heldout"]["events"],
        f"{protocol}_{metric}": metrics[protocol].get("model", {}).get(metric),
        "good": metrics["verdict"]["good"],
        "beats": sorted(name for name, beaten in metrics["beats"].items() if beaten),
        "notes": undated.notes(job.settings, "evaluate"),
    }


STAGE = Stage(
    name="evaluate",
    folder="report",
    sections=("run", "evaluate", "recommend"),
    needs=lambda settings: NEEDS,
    cost=cost,
    work=evaluate,
)
