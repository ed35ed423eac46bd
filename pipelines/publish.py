"""The job ``publish``: check a finished run, then move the pointer to it; or move the pointer back."""

from collections.abc import Sequence
from typing import Any

from topkin.artifacts import manifest, runs, schemas, storage
from topkin.config.items_run import ItemsRunSettings, RunSettingsOfAnyKind
from topkin.config.sections import Settings
from topkin.errors import ArtifactError, QualityGateError
from topkin.evaluation.summary import MIN_USERS
from topkin.pipelines.engine.registry import ORDER, ORDERS


def publish(run: runs.Run, settings: RunSettingsOfAnyKind) -> dict[str, Any]:
    """Verify every file, the encoder of every table and the quality gate, then move the pointer.

    Raises ArtifactError for a damaged or mixed run, QualityGateError with every reason for refusing.
    Returns the pointer's content.
    """
    stages = ORDERS[settings.kind]
    for stage in stages:
        manifest.verify(run.folder(stage))
    one_encoder(run, stages)
    reasons = refusals_of_items(run, settings) if isinstance(settings, ItemsRunSettings) else refusals(run, settings)
    if reasons:
        listed = "\n".join(f"  - {reason}" for reason in reasons)
        raise QualityGateError(
            f"run {run.run_id} is not published, because\n{listed}\n"
            f"The pointer stays where it was. See {run.folder('evaluate')}/report.html, "
            "or loosen [publish] in the configuration."
        )
    with storage.files_of_mode(settings.run.mode):
        return runs.publish_run(run)


def rollback(output: str) -> tuple[runs.Run, list[str]]:
    """Move the pointer to the newest run published before that is still there, if its files are whole.

    Returns it and the names of those that are gone. Raises ArtifactError where there is none.
    """
    earlier, _ = runs.before_published(output)
    for folder in earlier.folders.values():
        manifest.verify(folder)
    return runs.roll_back(output)


def one_encoder(run: runs.Run, stages: Sequence[str] = ORDER) -> str:
    """The hash of the one encoder behind every table of a run of some stages. Raises ArtifactError on a mix."""
    model = run.folder("train")
    trained = storage.join(model, "signature.json")
    signature = trained if storage.exists(trained) else storage.join(model, "encoder", "signature.json")
    encoder = str(storage.read_json(signature)["encoder"])
    judged = storage.read_json(storage.join(run.folder("evaluate"), "metrics.json")).get("encoder", encoder)
    if judged != encoder:
        raise ArtifactError(
            f"every table of a run must come from one encoder, {encoder[:12]}…; the report judges {judged[:12]}…: "
            "run topkin run --force"
        )
    for stage in stages[stages.index("embed") :]:  # from here on every table is made with the vectors
        folder = run.folder(stage)
        for name in storage.files(folder):
            if not name.endswith(".parquet") or name in _OF_NO_ENCODER or "rejects/" in name:
                continue
            with storage.open_parquet(storage.join(folder, name)) as file:
                made_by = schemas.encoder_of(file.schema_arrow)
            if made_by != encoder:
                raise ArtifactError(
                    f"every table of a run must come from one encoder, {encoder[:12]}…; {storage.join(folder, name)} "
                    f"comes from {made_by and made_by[:12]}…: run topkin run --force"
                )
    return encoder


_OF_NO_ENCODER = ("calibration.parquet",)


def refusals_of_items(run: runs.Run, settings: ItemsRunSettings) -> list[str]:
    """Why the gate refuses a run over items alone: every reason, or none."""
    gate, reasons = settings.publish, []
    metrics = storage.read_json(storage.join(run.folder("evaluate"), "metrics.json"))
    items, prepared = metrics["indexed"], metrics["prepared"]
    if items < gate.min_items:
        reasons.append(f"{items:,} items are in the index, fewer than publish.min_items = {gate.min_items:,}")
    if items < gate.min_embedded * prepared:
        reasons.append(
            f"{items:,} of {prepared:,} items have a vector in the index, less than publish.min_embedded = "
            f"{gate.min_embedded:g}"
        )
    if gate.min_recall is not None:
        retrieval = metrics["retrieval"]
        if retrieval is None:
            reasons.append(f"Recall@1 was not measured: {metrics['unjudged']} (publish.min_recall)")
        elif retrieval["recall_any@1"] < gate.min_recall:
            reasons.append(
                f"Recall@1, {retrieval['recall_any@1']:.4f}, is below publish.min_recall = {gate.min_recall:g}"
            )
    return reasons


def refusals(run: runs.Run, settings: Settings) -> list[str]:
    """Why the gate refuses a run: every reason, or none."""
    gate, reasons = settings.publish, []
    listed = storage.read_json(storage.join(run.folder("recommend"), "lists.json"))["users_with_list"]
    if listed < gate.min_users:
        reasons.append(f"{listed:,} users have a list, fewer than publish.min_users = {gate.min_users:,}")
    metrics = storage.read_json(storage.join(run.folder("evaluate"), "metrics.json"))
    if metrics["heldout"]["novel_users"] >= MIN_USERS:  # a night's first hours hold a few out, and tell nothing
        novel = metrics["novel"]
        for baseline in gate.must_beat:
            if baseline == metrics.get("made_by"):  # nothing is above itself
                continue
            if baseline not in novel:
                reasons.append(f"{baseline} was not measured: {metrics['left_out'][baseline]} (publish.must_beat)")
                continue
            model, other = novel["model"][gate.metric], novel[baseline][gate.metric]
            if model <= other:
                reasons.append(
                    f"the model's {gate.metric} on novel items, {model:.4f}, is not above {baseline}'s {other:.4f} "
                    "(publish.must_beat)"
                )
    return reasons
