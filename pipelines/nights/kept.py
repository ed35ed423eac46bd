"""Nights between two trainings: what of the run published before still holds tonight.

With ``train.every_days`` a night keeps the encoder of the live version while it is younger. Then the vectors of what
did not change are the same numbers, and the stages after it do again only what changed. A folder is taken from only
where its recipe, the hash of the code and settings that made it, is tonight's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from topkin.artifacts import manifest, storage
from topkin.artifacts.embeddings import SUMMARY
from topkin.config.sections import Settings
from topkin.encoding.reference import Reference, columns_of
from topkin.errors import ArtifactError
from topkin.pipelines.engine.job import Job

if TYPE_CHECKING:
    from topkin.transforms.unchanged.before import Before


def earlier(*stages: str) -> Callable[[Settings], tuple[str, ...]]:
    """For ``Stage.earlier``: these stages of the run published before, where encoders are kept."""
    return lambda settings: stages if settings.train.every_days else ()


@dataclass(frozen=True)
class LiveEncoder:
    """The encoder of the run published before. folder: where it is, None where it is not kept; why: in words."""

    folder: str | None
    why: str

    @classmethod
    def of(cls, job: Job[Settings], columns: pa.Schema) -> "LiveEncoder":
        """For the stage ``train`` of tonight. columns: those of tonight that an encoder takes as they are."""
        every, folder = job.settings.train.every_days, job.earlier.get("train")
        if not every:
            return cls(None, "")
        if folder is None:
            return cls(None, "trained: no run was published as of an earlier date")
        try:
            sealed = manifest.verify(folder)  # so that :func:`take` cannot fail: damage means a training
        except ArtifactError as e:
            return cls(None, f"trained: {e}")
        reference = Reference.read(folder)
        if not job.recipe or sealed.get("recipe") != job.recipe or reference is None:
            return cls(None, "trained: the live encoder was made by other settings or another version of topkin")
        if reference.columns != columns_of(columns):
            return cls(None, "trained: ids, vectors or features have another type than the live encoder's")
        days = (job.as_of - reference.as_of).total_seconds() / 86_400
        age = f"the encoder of {reference.as_of:%Y-%m-%d}, {days:.3g} days old,"
        if days >= every:
            return cls(None, f"trained: {age} is due, train.every_days is {every:g}")
        return cls(folder, f"not trained: {age} is kept for {every:g} days")


def still_holds(job: Job[Settings], stage: str) -> str | None:
    """The folder of a stage of the run published before, where tonight's encoder and recipe made it; else None.

    Its files are verified: where one is damaged, it holds no more.
    """
    folders = [job.earlier.get(name) for name in ("embed", stage)]
    if not job.recipe or not job.settings.train.every_days or None in folders:
        return None
    embedded, folder = (str(f) for f in folders)
    try:
        sealed = manifest.verify(folder)
        now, before = (storage.read_json(storage.join(f, SUMMARY)) for f in (job.folder("embed"), embedded))
    except ArtifactError:
        return None
    same = sealed.get("recipe") == job.recipe and now["encoder"] == before["encoder"]
    return folder if same and now["history_length"] == before["history_length"] else None


def before(job: Job[Settings], stage: str) -> "Before | None":
    """What a stage reads of the run published before to do again only what changed; None where it does all.

    Its files are verified: damage means that all is done.
    """
    from topkin.transforms.unchanged.before import Before

    folder, prepared = still_holds(job, stage), job.earlier.get("prepare")
    if folder is None or prepared is None:
        return None
    embeddings = job.earlier["embed"]
    try:
        for name in (prepared, embeddings):
            manifest.verify(name)
    except ArtifactError:
        return None
    encoder = str(storage.read_json(storage.join(embeddings, SUMMARY))["encoder"])
    return Before(
        prepared=prepared, embeddings=embeddings, folder=folder, encoder=encoder, parts=job.settings.run.n_parts
    )


def take(folder: str, out: str) -> dict[str, Any]:
    """Have all files of a finished folder, which was verified, in another too; returns its summary without notes."""
    sealed = manifest.read(folder) or {}
    for name in sealed["files"]:
        target = storage.join(out, name)
        storage.make_folder(target.rpartition("/")[0])
        storage.take_file(storage.join(folder, name), target)
    return {name: value for name, value in sealed["summary"].items() if name != "notes"}


def same_items(here: str, there: str) -> bool:
    """Whether two folders of embeddings have the same items in the same order, with the same vectors.

    Those that cannot be read are not.
    """
    try:
        tables = [storage.read_parts(storage.join(folder, "items"), ["item_id", "vector"]) for folder in (here, there)]
    except ArtifactError:
        return False
    return tables[0].equals(tables[1])
