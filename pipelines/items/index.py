"""The job ``index`` of items alone: NMSLIB shards over the encoder's vectors, checked and measured."""

from typing import Any

from topkin.artifacts import storage
from topkin.artifacts.embeddings import SUMMARY, read_encoded
from topkin.config.items_run import ItemsRunSettings
from topkin.linalg.cosine import unit_rows
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stage import Stage, StageReads
from topkin.search.hnsw.engines import library_of


def build(job: Job[ItemsRunSettings]) -> dict[str, Any]:
    """Build the index, or grow it from the published one, and measure its recall on a sample of the items."""
    from topkin.search.hnsw.build import build_index
    from topkin.search.hnsw.grow import grow_index

    settings, seed = job.settings.index, job.settings.run.seed
    encoder = storage.read_json(storage.join(job.folder("embed"), SUMMARY))["encoder"]
    items = read_encoded(job.folder("embed"), encoder)
    vectors, earlier = unit_rows(items.vectors), job.earlier.get("index")
    if earlier is None:
        info = build_index(vectors, job.out, settings, seed, ids=items.ids, encoder=encoder)
    else:
        info = grow_index(earlier, job.out, vectors, settings, seed, ids=items.ids, encoder=encoder)
    recall = {name: value for name, value in info["recall"].items() if name.startswith("recall@")}
    growth = info.get("growth", {})
    counts = {name: growth[name] for name in ("added", "changed", "removed") if name in growth}
    summary = {"indexed": info["indexed"], "without_vector": info["without_vector"], "shards": len(info["shards"])}
    return {**summary, **recall, **counts, "notes": _notes(job.settings, info)}


def _notes(settings: ItemsRunSettings, info: dict[str, Any]) -> list[str]:
    """Whether the index was grown, and why not where that was asked for."""
    growth = info.get("growth", {"built_anew": "no run was published as of an earlier date"})
    if settings.index.growth == "rebuild":
        return []
    if "built_anew" in growth:
        return [f"built anew: {growth['built_anew']}"]
    came = ", ".join(f"{growth[name]:,} {name}" for name in ("added", "changed", "removed"))
    shards, gone = len(info["shards"]), info["tombstones"]
    return [f"grown from the index published before: {came}; {shards} shards with {gone:,} tombstones"]


STAGE = Stage(
    name="index",
    folder="index",
    sections=("run", "index"),
    needs=lambda settings: ("embed",),
    reads=lambda settings: StageReads(settings=library_of(settings.index.engine)),
    earlier=lambda settings: ("index",) if settings.index.growth == "delta" else (),
    dated=False,
    work=build,
)
