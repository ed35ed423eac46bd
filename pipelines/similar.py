"""The job ``similar``: items like an item, users like a user, and what users like a user bought."""

from dataclasses import dataclass
from typing import Any

from topkin.artifacts import storage
from topkin.config.sections import Settings
from topkin.pipelines.engine.job import Job, run_pipeline
from topkin.recommend.eligibility import item_lists_fingerprint

STAGE = "similar"
NEEDS = ("prepare", "embed")
SECTIONS = ("run", "similar")  # of recommend the allow-list and the deny-list alone, see inputs_fingerprint


@dataclass(frozen=True, kw_only=True)
class SimilarConfig:
    """What the neighbours are made from, and where. sources: a ``transforms.similar.Sources``."""

    sources: Any
    out: str
    scratch: str

    @property
    def tally(self) -> str:
        """Where the counts go until they are told."""
        return storage.join(self.scratch, "counts.json")


def inputs_fingerprint(settings: Settings) -> list[list[str]]:
    """The allow-list and the deny-list by content: read here, beside the stages' folders."""
    return item_lists_fingerprint(settings.recommend)


def configure(job: Job) -> SimilarConfig:
    """From a job's settings and the folders of the finished stages."""
    from topkin.artifacts.embeddings import SUMMARY
    from topkin.encoding.blocks import Block
    from topkin.transforms.similar import SimilarInputs

    made = storage.read_json(storage.join(job.folder("embed"), SUMMARY))
    sources = SimilarInputs(
        prepared=job.folder("prepare"),
        embeddings=job.folder("embed"),
        encoder=made["encoder"],
        blocks=[Block.from_json(b) for b in made["blocks"]],
        parts=job.settings.run.parts,
        as_of=job.as_of,
        settings=job.settings.similar,
        rules=job.settings.recommend,
    )
    return SimilarConfig(sources=sources, out=job.out, scratch=job.scratch or storage.join(job.out, ".scratch"))


def build(pipeline: Any, config: SimilarConfig) -> None:
    """Add the neighbours of every part to a pipeline."""
    from topkin.transforms.similar import SimilarParts

    pipeline | "SimilarParts" >> SimilarParts(config.sources, config.out, config.tally)


def execute(job: Job) -> dict[str, Any]:
    """Make the three tables; returns their rows."""
    config = configure(job)
    run_pipeline(lambda pipeline: build(pipeline, config), job.beam)
    rows = storage.read_json(config.tally)["rows"]
    if not job.scratch:
        storage.remove_folder(config.scratch)
    return dict(rows)
