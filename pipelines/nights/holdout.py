"""The last days held out once more: what the stages before ``evaluate`` would have given as of the cut, in scratch."""

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.artifacts.embeddings import ITEMS, SUMMARY, USERS
from topkin.config.sections import Settings
from topkin.evaluation.summary import MIN_USERS
from topkin.pipelines.engine.job import Job, run_pipeline
from topkin.planning.estimate import Workload
from topkin.recommend.bought import weights_of
from topkin.recommend.repurchase.rates import FILE
from topkin.recommend.second.chosen import blend_of, read_blend

if TYPE_CHECKING:
    from topkin.transforms.evaluate import EvaluateInputs

MODEL = "holdout"
"""The encoder's folder in that of the stage ``train``."""


def wanted(settings: Settings) -> bool:
    """Whether the settings ask for it."""
    return settings.evaluate.nightly in ("holdout", "both")


def held_out_events(job: Job[Settings]) -> int:
    """Purchases after the as-of date."""
    return int(storage.read_json(storage.join(job.folder("prepare"), "statistics.json"))["heldout_events"])


def instead(job: Job[Settings]) -> dict[str, Any]:
    """What training kept to be judged in the place of the run's encoder, see ``models.training.holdout``.

    Its ``reason`` says why that is not done.
    """
    if not wanted(job.settings):
        return {"reason": "it is not asked for"}
    if enough_judge(job):
        return {"reason": "the purchases after the as-of date judge"}
    training = storage.read_json(storage.join(job.folder("train"), "training.json"))
    record: dict[str, Any] = training.get("holdout", {"reason": "the model was trained without it"})
    return record


def enough_judge(job: Job[Settings]) -> bool:
    """Whether MIN_USERS users bought before the as-of date and after it: more than the first hours of a night have."""
    if not held_out_events(job):
        return False
    prepared, parts, judges = job.folder("prepare"), job.settings.run.n_parts, 0
    for part in range(parts):
        name = storage.part_name(part, parts)
        later = storage.read_parquet(storage.join(prepared, "heldout", name), ["user_id"])["user_id"].unique()
        if not len(later):
            continue
        known = storage.read_parquet(storage.join(prepared, "histories", name), ["user_id", "items"])
        buyers = known["user_id"].filter(pc.greater(pc.list_value_length(known["items"]), 0))
        judges += int(pc.sum(pc.is_in(buyers, value_set=later)).as_py() or 0)
        if judges >= MIN_USERS:
            return True
    return False


def inputs_at_cut(job: Job[Settings], inputs: "EvaluateInputs", record: dict[str, Any]) -> "EvaluateInputs":
    """What the evaluation reads, as of the cut: histories, catalogue and vectors are made for it in scratch.

    No lists were published as of the cut, so that none are judged.
    """
    from topkin.transforms.embed import Embed, EmbedInputs
    from topkin.transforms.holdout import CutInputs, CutPrepared

    settings, cut = job.settings, datetime.fromisoformat(record["cut"])
    model, scratch = storage.join(job.folder("train"), MODEL), storage.join(job.scratch, MODEL)
    folders = {name: storage.join(scratch, name) for name in ("prepare", "embed", "recommend")}
    cutting = CutInputs(
        prepared=job.folder("prepare"),
        parts=settings.run.n_parts,
        cut=cut,
        recent_days=settings.prepare.recent_days,
        second_half=record["users"] > 0,
    )
    repeats = storage.join(folders["recommend"], FILE)
    run_pipeline(CutPrepared(cutting, folders["prepare"], repeats), job.beam)
    weights = weights_of(settings.recommend, storage.read_json(storage.join(model, "repurchase.json")))
    second = blend_of(settings.recommend, read_blend(model))
    summary = {"repurchase": weights and weights.to_json(), "second_stage": second}
    storage.write_json(summary, storage.join(folders["recommend"], "lists.json"))
    embedding = EmbedInputs(
        prepared=folders["prepare"],
        model=model,
        parts=settings.run.n_parts,
        batch_size=settings.embed.batch_size,
        history_length=settings.embed.history_length,
        as_of=cut,
    )
    tally = {kind: storage.join(scratch, f"{kind}.json") for kind in (ITEMS, USERS)}
    run_pipeline(Embed(embedding, folders["embed"], tally), job.beam)
    signature = storage.read_json(storage.join(model, "signature.json"))
    storage.write_json({"blocks": signature["blocks"]}, storage.join(folders["embed"], SUMMARY))
    return replace(
        inputs,
        folders=folders,
        fitted=storage.join(scratch, "baselines"),
        as_of=cut,
        encoder=signature["encoder"],
        results_of=inputs.encoder,
        lists=False,
    )


def work(load: Workload) -> dict[str, float]:
    """What it adds to the cost of ``evaluate``, by field: purchases cut again, and embedded by the other encoder."""
    if not wanted(load.settings):
        return dict.fromkeys(("bytes_read", "bytes_written", "cpu_seconds"), 0.0)
    c, vectors = load.counts, load.item_vectors + load.user_vectors
    pooled = (c.known + c.items) * load.costs.pooled_purchase * load.dim / load.costs.dim
    return {
        "bytes_read": 2 * load.histories_file + load.catalogue_file + load.item_vectors + load.word_rows,
        "bytes_written": load.histories_file + load.catalogue_file + vectors,
        "cpu_seconds": c.known * load.costs.purchase + pooled,
    }
