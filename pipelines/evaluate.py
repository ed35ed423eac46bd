"""The job ``evaluate``: the held-out purchases judge the model, the baselines and the published lists.

Writes ``metrics.json``, ``report.html`` and ``users/`` with the metrics of every judged user.
"""

from dataclasses import dataclass
from typing import Any

from topkin.artifacts import storage
from topkin.evaluation import summary
from topkin.evaluation.results import EvaluationResults
from topkin.pipelines.engine.job import Job, run_pipeline
from topkin.report import data
from topkin.report.page import render

STAGE = "evaluate"
NEEDS = ("prepare", "train", "embed", "recommend")
SECTIONS = ("run", "evaluate", "recommend")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What the evaluation reads, and where it writes. sources: a ``transforms.evaluate.Sources``."""

    sources: Any
    out: str
    resamples: int
    seed: int


def configure(job: Job) -> EvaluateConfig:
    """From a job's settings and the folders of the finished stages."""
    from topkin.transforms.evaluate import EvaluateInputs

    signature = storage.read_json(storage.join(job.folder("train"), "signature.json"))
    sources = EvaluateInputs(
        folders={stage: job.folder(stage) for stage in NEEDS},
        fitted=storage.join(job.scratch or storage.join(job.out, ".scratch"), "baselines"),
        by_time=job.settings.prepare.split == "time",
        parts=job.settings.run.parts,
        as_of=job.as_of,
        encoder=str(signature["encoder"]),
        evaluate=job.settings.evaluate,
        recommend=job.settings.recommend,
    )
    return EvaluateConfig(
        sources=sources, out=job.out, resamples=job.settings.evaluate.bootstrap, seed=job.settings.run.seed
    )


def build(pipeline: Any, config: EvaluateConfig) -> None:
    """Add the evaluation of every part to a pipeline."""
    from topkin.transforms.evaluate import EvaluateParts

    pipeline | "EvaluateParts" >> EvaluateParts(config.sources, config.out)


def measure(config: EvaluateConfig, results: EvaluationResults) -> dict[str, Any]:
    """``metrics.json`` of what the parts gave, but for the training's own figures."""
    from topkin.transforms.evaluate import facts_of

    return summary.scoreboard(results, facts_of(config.sources), resamples=config.resamples, seed=config.seed)


def execute(job: Job) -> dict[str, Any]:
    """Judge, then write the metrics and the report. Without held-out purchases it says so instead."""
    config = configure(job)
    statistics = storage.read_json(storage.join(job.folder("prepare"), "statistics.json"))
    if statistics["heldout_events"]:
        from topkin.transforms.evaluate import fit, read_results

        fit(config.sources)
        run_pipeline(lambda pipeline: build(pipeline, config), job.beam)
        metrics = measure(config, read_results(config.sources, config.out))
        for name in ("listed", "tallies"):
            storage.remove_folder(storage.join(config.out, name))
        if not job.scratch:
            storage.remove_folder(storage.join(job.out, ".scratch"))
    else:
        metrics = summary.nothing_held_out(
            job.as_of,
            sorted(set(job.settings.evaluate.k)),
            job.settings.recommend.bought,
            summary.NO_PURCHASES,
        )
    signature = storage.read_json(storage.join(job.folder("train"), "signature.json"))
    metrics["split"] = "files" if job.settings.heldout is not None else job.settings.prepare.split
    metrics["encoder"] = signature["encoder"]
    if job.settings.recommend.baseline is not None:
        metrics["made_by"] = job.settings.recommend.baseline
    metrics["validation"] = signature.get("validation") or {}
    storage.write_json(metrics, storage.join(job.out, "metrics.json"))
    folders = {stage: job.folder(stage) for stage in NEEDS}
    run_id = job.out.rstrip("/").split("/")[-2]  # …/runs/<run_id>/<attempt>
    page = render(data.gather(folders, metrics, as_of=job.as_of, run_id=run_id))
    storage.write_bytes(page.encode(), storage.join(job.out, "report.html"))
    protocol, metric = metrics["verdict"]["protocol"], metrics["verdict"]["metric"]
    return {
        "heldout_users": metrics["heldout"]["users"],
        "heldout_events": metrics["heldout"]["events"],
        f"{protocol}_{metric}": metrics[protocol].get("model", {}).get(metric),
        "good": metrics["verdict"]["good"],
        "beats": sorted(name for name, beaten in metrics["beats"].items() if beaten),
    }
