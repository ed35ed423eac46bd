"""The job ``similar`` of items alone: the items nearest to each item, exactly."""

from typing import Any

from topkin.artifacts import storage
from topkin.artifacts.embeddings import SUMMARY
from topkin.config.items_run import ItemsRunSettings
from topkin.pipelines.engine.job import Job, run_pipeline
from topkin.pipelines.engine.stage import Stage


def find_neighbours(job: Job[ItemsRunSettings]) -> dict[str, Any]:
    """Make the table; returns its rows."""
    from topkin.transforms.items.similar import ItemNeighboursInputs, SimilarItems

    inputs = ItemNeighboursInputs(
        prepared=job.folder("prepare"),
        embeddings=job.folder("embed"),
        encoder=storage.read_json(storage.join(job.folder("embed"), SUMMARY))["encoder"],
        k=job.settings.similar.items,
        parts=job.settings.run.n_parts,
    )
    folder = storage.join(job.out, "similar_items")
    run_pipeline(SimilarItems(inputs, folder), job.beam)
    rows = 0
    for path in storage.parquet_files(folder):
        with storage.open_parquet(path) as file:
            rows += file.metadata.num_rows
    return {"similar_items": rows}


STAGE = Stage(
    name="similar",
    folder="similar",
    sections=("run", "similar"),
    needs=lambda settings: ("prepare", "embed"),
    dated=False,
    work=find_neighbours,
)
