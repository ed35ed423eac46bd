"""The job ``publish``: check a finished run, then move the pointer to it; or move the pointer back."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from topkin.artifacts import manifest, runs, schemas, sealing, storage
from topkin.config.items_run import RunSettingsOfAnyKind
from topkin.errors import ArtifactError, ConfigError, QualityGateError
from topkin.gates.gate import REFUSED
from topkin.gates.judge import READS, Judgement, judge
from topkin.pipelines.engine.registry import ORDER, ORDERS


def publish(
    run: runs.Run, settings: RunSettingsOfAnyKind, *, anyway: str | None = None, older: bool = False
) -> Judgement:
    """Verify every file and the encoder of every table, ask the gates beside what is live now, then move the pointer.

    Args:
        run: All stages of it are finished.
        settings: The limits are those of its ``[publish]``.
        anyway: Why it is published though gates refuse it; kept in the pointer with what they said.
        older: Whether it may take the place of a version of a later date.

    Returns:
        What the gates found.

    Raises:
        ArtifactError: The run is damaged or mixed.
        ConfigError: ``anyway`` gives no reason, or the live version is of a later date.
        QualityGateError: With every reason for refusing.
    """
    if anyway is not None and not anyway.strip():
        raise ConfigError("--publish-anyway needs the reason, which is kept with the version: got an empty one")
    stages = ORDERS[settings.kind]
    for stage in stages:
        _verify(run.folder(stage))
    live = runs.pointer(run.root)
    if live is None or (live["run_id"], live["manifests"]) != (run.run_id, sealing.digest(run.seals)):
        one_encoder(run, stages)
    judged = judge(settings, run.folders, live_folders(run, settings.kind))
    refused, note = judged.of(REFUSED), None
    if refused and anyway is None:
        listed = "\n".join(f"  - {gate.sentence}" for gate in refused)
        raise QualityGateError(
            f"run {run.run_id} is not published, because\n{listed}\n"
            f"The pointer stays where it was. See {run.folder('report')}/report.html; loosen [publish] in the "
            "configuration, or publish it with --publish-anyway REASON."
        )
    if refused and anyway is not None:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        names = [f"{gate.name}: {gate.sentence}" for gate in refused]
        note = {"reason": anyway.strip(), "refused": names, "at": at}
    runs.publish_run(run, note, older=older)
    return judged


def live_folders(run: runs.Run, kind: str) -> Mapping[str, str]:
    """The folders of the live version that gates compare a run with; none where it is the run itself, or is gone."""
    current = runs.pointer(run.root)
    name = None if current is None else current["run_id"]
    live = None if name in (None, run.run_id) else runs.read_if_whole(run.root, str(name))
    return {} if live is None else {stage: live.folders[stage] for stage in READS[kind] if stage in live.folders}


def rollback(output: str) -> tuple[runs.Run, list[str]]:
    """Move the pointer to the newest run published before that is still there, if its files are whole.

    Returns it and the names of those that are gone. Raises ArtifactError where there is none.
    """
    earlier, _ = runs.before_published(output)
    for folder in earlier.folders.values():
        _verify(folder)
    return runs.roll_back(output)


def _verify(folder: str) -> None:
    """Every byte against the manifest; in an object store, which keeps checksums itself, what changed and when."""
    manifest.verify(folder, contents=not storage.in_place(folder))


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


_OF_NO_ENCODER = ("calibration.parquet", "hindsight.parquet")
