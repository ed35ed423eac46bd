"""The job ``index``: NMSLIB shards over the item vectors, checked and measured."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from topkin.artifacts import storage
from topkin.artifacts.embeddings import SUMMARY, read_items, read_users
from topkin.config.sections import IndexSettings
from topkin.pipelines.engine.job import Job

STAGE = "index"
NEEDS = ("embed",)
SECTIONS = ("run", "index")


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """What the index is built from, and where."""

    embeddings: str
    out: str
    parts: int
    settings: IndexSettings
    seed: int


def configure(job: Job) -> IndexConfig:
    """From a job's settings and the folder of the embeddings."""
    return IndexConfig(
        embeddings=job.folder("embed"),
        out=job.out,
        parts=job.settings.run.parts,
        settings=job.settings.index,
        seed=job.settings.run.seed,
    )


def sample_users(config: IndexConfig, encoder: str, users: int) -> np.ndarray:
    """The vectors of ``index.sample`` users drawn by the seed, (n, dim) float32; those without a vector are dropped."""
    chosen = np.random.default_rng(config.seed).choice(users, min(users, config.settings.sample), replace=False)
    chosen = np.sort(chosen)
    found, first = [], 0
    for part in range(config.parts):
        _, vectors = read_users(config.embeddings, part, config.parts, encoder)
        inside = chosen[(chosen >= first) & (chosen < first + len(vectors))] - first
        found.append(vectors[inside])
        first += len(vectors)
    sampled = np.concatenate(found)
    return np.asarray(sampled[sampled.any(axis=1)])


def execute(job: Job) -> dict[str, Any]:
    """Build the index and measure its recall on a sample of the users, or of the items where no user has a vector."""
    from topkin.search.hnsw.build import build_index

    config = configure(job)
    made = storage.read_json(storage.join(config.embeddings, SUMMARY))
    items = read_items(config.embeddings, made["encoder"])
    queries = sample_users(config, made["encoder"], made["users"])
    info = build_index(
        items.vectors,
        config.out,
        config.settings,
        config.seed,
        ids=items.ids,
        encoder=made["encoder"],
        queries=queries if len(queries) else None,
    )
    recall = {name: value for name, value in info["recall"].items() if name.startswith("recall@")}
    return {
        "indexed": info["indexed"],
        "without_vector": info["without_vector"],
        "shards": len(info["shards"]),
        **recall,
    }
