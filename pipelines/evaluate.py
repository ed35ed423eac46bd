"""The job ``evaluate``: the held-out purchases judge the model, the baselines and the published lists.

Where nothing was bought after the as-of date, the last days are held out once more and judge an encoder of the same
settings. Writes ``metrics.json`` and ``users/`` with the metrics of every judged user.
"""

from typing import TYPE_CHECKING, Any

from topkin.artifacts import storage
from topkin.config import undated
from topkin.config.sections import Settings
from topkin.config.shop import vectors
from topkin.evaluation import promise, summary
from topkin.evaluation.holdout import judged_on_holdout, nightly_notes, not_held_out
from topkin.evaluation.results import EvaluationResults
from topkin.linalg.mapped import MAPPED_FROM
from topkin.pipelines.encode.given import MAY_HAVE_SEEN
from topkin.pipelines.engine.job import Job, run_pipeline
from topkin.pipelines.engine.stage import Stage
from topkin.pipelines.nights import holdout, kept
from topkin.planning.estimate import StageCost, Workload
from topkin.search.topk import BUDGET_BYTES

if TYPE_CHECKING:
    from topkin.transforms.evaluate import EvaluateInputs

NEEDS = ("prepare", "train", "embed", "recommend")
COLUMNS = 2
"""Columns of all judged users, for each model, that are in the launcher at a time, and as many copies."""


def cost(load: Workload) -> StageCost:
    """All models over the users who are judged, at most ``evaluate.users``: vectors, and baselines.

    As if nothing were bought after the date: the last days are then held out once more.
    """
    c, asked, more = load.counts, load.settings.evaluate, holdout.work(load)
    judged = min(c.users, asked.users)
    learned, near = 32.0 * min(c.known, asked.purchases), 1.0 * c.items * asked.neighbours
    fits = learned + 24.0 * near + load.catalogue  # of neighbours: others are on the disk
    held = 0.0 if 4 * near >= MAPPED_FROM else 16.0 * near
    # The pooled vectors are not read: what diversity asks for comes of the scored ones, list by list.
    judges = load.item_vectors / 2 + load.catalogue + load.part + learned + held + BUDGET_BYTES
    columns = 16.0 * judged * (1 + len(asked.baselines)) * COLUMNS + judged * c.id_bytes
    return load.cost(
        "evaluate",
        rows=judged,
        bytes_read=3 * load.histories_file
        + load.user_vectors
        + load.machine.workers * (load.item_vectors + load.catalogue_file)
        + load.lists_file
        + more["bytes_read"],
        bytes_written=100.0 * judged + more["bytes_written"],
        flops=2.0 * load.dim * judged * c.items,
        cpu_seconds=1.0 * judged * c.items * load.costs.judged_pair + more["cpu_seconds"],
        memory=max(fits, judges, columns),
    )


def inputs_of(job: Job[Settings]) -> "EvaluateInputs":
    """What the workers read, from a job's settings and the folders of the finished stages."""
    from topkin.transforms.evaluate import EvaluateInputs

    return EvaluateInputs(
        folders={stage: job.folder(stage) for stage in NEEDS},
        fitted=storage.join(job.scratch, "baselines"),
        by_time=job.settings.prepare.split == "time",
        timed=job.settings.timed,
        by_vectors=not job.settings.has_purchases,
        parts=job.settings.run.n_parts,
        as_of=job.as_of,
        encoder=str(_signature(job)["encoder"]),
        evaluate=job.settings.evaluate,
        recommend=job.settings.recommend,
        seed=job.settings.run.seed,
    )


def _signature(job: Job[Settings]) -> dict[str, Any]:
    signature: dict[str, Any] = storage.read_json(storage.join(job.folder("train"), "signature.json"))
    return signature


def measure(job: Job[Settings], results: EvaluationResults, inputs: "EvaluateInputs | None" = None) -> dict[str, Any]:
    """``metrics.json`` of what the parts gave, but for the training's own figures. inputs: other than the job's."""
    from topkin.transforms.evaluate import facts_of

    settings, facts = job.settings, facts_of(inputs or inputs_of(job))
    return summary.scoreboard(results, facts, resamples=settings.evaluate.bootstrap, seed=settings.run.seed)


def _judged(job: Job[Settings]) -> dict[str, Any]:
    """The metrics by the held-out purchases, or by the last days; without either they say so."""
    from topkin.transforms.evaluate import EvaluateParts, read_results, samples

    held, nightly = holdout.instead(job), job.settings.evaluate.nightly
    if held["reason"] and not holdout.held_out_events(job):
        ks, bought = sorted(set(job.settings.evaluate.k)), job.settings.recommend.bought
        why = not_held_out(nightly, held["reason"]) if job.settings.has_purchases else vectors.NOTHING_JUDGES
        return summary.nothing_held_out(job.as_of, ks, bought, why)
    inputs = inputs_of(job)
    if not held["reason"]:
        inputs = holdout.inputs_at_cut(job, inputs, held)
    run_pipeline(EvaluateParts(inputs, job.out), job.beam)
    metrics = measure(job, read_results(inputs, job.out), inputs)
    if not held["reason"]:
        metrics = judged_on_holdout(metrics, held, job.as_of)
    if not job.settings.timed:  # the times that stand for positions are no dates
        metrics["heldout"] |= {"from": None, "to": None}
        metrics["cold_items"] |= {"days": None} if metrics["cold_items"] else {}
    metrics["sampled"], metrics["doubts"] = samples(inputs)
    for name in ("listed", "tallies"):
        storage.remove_folder(storage.join(job.out, name))
    return metrics


def evaluate(job: Job[Settings]) -> dict[str, Any]:
    """Judge, then write the metrics. Where nothing can be judged they say why instead."""
    if (live := _live(job)) is not None:
        return live
    metrics, signature = _judged(job), _signature(job)
    if metrics["judged"] != "holdout":
        metrics["split"] = "files" if job.settings.heldout is not None else job.settings.prepare.split
    metrics["encoder"] = signature["encoder"]
    if job.settings.recommend.baseline is not None:
        metrics["made_by"] = job.settings.recommend.baseline
    metrics["validation"] = signature.get("validation") or {}
    seen = signature.get("given") and metrics["judged"] and "made_by" not in metrics
    doubts = [*metrics.get("doubts", ()), *([MAY_HAVE_SEEN] if seen else [])]
    metrics["doubts"] = doubts
    metrics["promise"] = promise.promise_of(metrics) if job.settings.recommend.baseline is None else None
    storage.write_json(metrics, storage.join(job.out, "metrics.json"))
    protocol, metric = metrics["verdict"]["protocol"], metrics["verdict"]["metric"]
    return {
        "heldout_users": metrics["heldout"]["users"],
        "heldout_events": metrics["heldout"]["events"],
        f"{protocol}_{metric}": metrics[protocol].get("model", {}).get(metric),
        "good": metrics["verdict"]["good"],
        "beats": sorted(name for name, beaten in metrics["beats"].items() if beaten),
        "notes": [
            *undated.notes(job.settings, "evaluate"),
            *vectors.notes(job.settings, "evaluate"),
            *nightly_notes(metrics),
            *doubts,
            *promise.alarms(metrics),
        ],
    }


def _live(job: Job[Settings]) -> dict[str, Any] | None:
    """What the last days told on the night that trained the encoder, while that is kept: they are the same days."""
    before = kept.still_holds(job, "evaluate")
    if before is None or holdout.instead(job)["reason"]:
        return None
    metrics = storage.read_json(storage.join(before, "metrics.json"))
    if metrics["judged"] != "holdout":
        return None
    figures = kept.take(before, job.out)
    night = metrics["holdout"].get("night", metrics["as_of"])
    metrics |= {"as_of": job.as_of.isoformat(), "holdout": {**metrics["holdout"], "night": night}}
    storage.write_json(metrics, storage.join(job.out, "metrics.json"))
    return {
        **figures,
        "notes": [*undated.notes(job.settings, "evaluate"), *nightly_notes(metrics), *promise.alarms(metrics)],
    }


STAGE = Stage(
    name="evaluate",
    folder="evaluation",
    sections=("run", "evaluate", "recommend"),
    needs=lambda settings: NEEDS,
    earlier=kept.earlier("embed", "evaluate"),
    cost=cost,
    work=evaluate,
)
