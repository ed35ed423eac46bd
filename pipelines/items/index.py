"""The job ``index`` of items alone: NMSLIB shards over the encoder's vectors, checked and measured."""

from typing import Any

from topkin.artifacts import storage
from topkin.artifacts.embeddings import SUMMARY, read_encoded
from topkin.config.items_run import ItemsRunSettings
from topkin.linalg.cosine import unit_rows
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stage import Stage


def build(job: Job[ItemsRunSettings]) -> dict[str, Any]:
    """Build the index and measure its recall on a sample of the items."""
    from topkin.search.hnsw.build import build_index

    encoder = storage.read_json(storage.join(job.folder("embed"), SUMMARY))["encoder"]
    items = read_encoded(job.folder("embed"), encoder)
    info = build_index(
        unit_rows(items.vectors), job.out, job.settings.index, job.settings.run.seed, ids=items.ids, encoder=encoder
    )
    recall = {name: value for name, value in info["recall"].items() if name.startswith("recall@")}
    summary = {"indexed": info["indexed"], "without_vector": info["without_vector"], "shards": len(info["shards"])}
    return summary | recall


STAGE = Stage(
    name="index",
    folder="index",
    sections=("run", "index"),
    needs=lambda settings: ("embed",),
    work=build,
)
