"""The job ``embed``: a vector for every item and every user, by the trained encoder."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from topkin.artifacts import storage
from topkin.artifacts.embeddings import SUMMARY
from topkin.pipelines.engine.job import Job, run_pipeline

STAGE = "embed"
NEEDS = ("prepare", "train")
SECTIONS = ("run", "embed")


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """What embedding reads, and where it writes. sources: a ``transforms.embed.Sources``."""

    sources: Any
    out: str
    scratch: str

    def tally(self, kind: str) -> str:
        """Where the counts of ``items`` or ``users`` go, until both are there."""
        return storage.join(self.scratch, f"{kind}.json")


def configure(job: Job) -> EmbedConfig:
    """From a job's settings and the folders of the finished stages."""
    from topkin.transforms.embed import EmbedInputs

    sources = EmbedInputs(
        prepared=job.folder("prepare"),
        model=job.folder("train"),
        parts=job.settings.run.parts,
        batch_size=job.settings.embed.batch_size,
        history_length=job.settings.embed.history_length,
        as_of=job.as_of,
    )
    return EmbedConfig(sources=sources, out=job.out, scratch=job.scratch or storage.join(job.out, ".scratch"))


def build(pipeline: Any, config: EmbedConfig, kind: str) -> None:
    """Add the encoding of all ``items`` to a pipeline, or of all ``users``: they need the finished items."""
    from topkin.transforms.embed import EmbedItems, EmbedUsers

    transform = EmbedItems if kind == "items" else EmbedUsers
    pipeline | f"Embed{kind.title()}" >> transform(config.sources, config.out, config.tally(kind))


def execute(job: Job) -> dict[str, Any]:
    """Embed the items, then the users, and write ``vectors.json``, which tells the blocks of their coordinates."""
    config = configure(job)
    counts: dict[str, Any] = {}
    for kind in ("items", "users"):
        run_pipeline(partial(build, config=config, kind=kind), job.beam)
        counts[kind] = storage.read_json(config.tally(kind))[kind]
    signature = storage.read_json(storage.join(job.folder("train"), "signature.json"))
    summary = {kind: counts[kind]["all"] for kind in counts}
    summary |= {f"{kind}_without_vector": counts[kind]["without_vector"] for kind in counts}
    summary |= {f"{kind}_not_finite": counts[kind]["not_finite"] for kind in counts}
    told = {
        "encoder": signature["encoder"],
        "dim": signature["dim"],
        "blocks": signature["blocks"],
        "history_length": config.sources.history_length,
    }
    storage.write_json({**told, **summary}, storage.join(job.out, SUMMARY))
    if not job.scratch:
        storage.remove_folder(config.scratch)
    return summary
