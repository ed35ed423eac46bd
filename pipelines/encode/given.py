"""Vectors of users and items that were made elsewhere, in a run over purchases: nothing is trained."""

from typing import Any

from topkin.artifacts import storage
from topkin.artifacts.embeddings import vectors_of
from topkin.config.sections import Settings
from topkin.encoding.given import given_block, hash_of, hash_vectors
from topkin.pipelines.engine.job import Job
from topkin.planning.estimate import StageCost, Workload

TOLD = "The vectors of users and items were made elsewhere, and nothing was trained"
MAY_HAVE_SEEN = "the vectors were made elsewhere; where they have seen what judges them, the figures are too good"
NO_HOLDOUT = "the vectors were made elsewhere, and have seen these days"


def cost(load: Workload) -> StageCost:
    """All vectors are read once, a part of the users at a time."""
    c = load.counts
    return load.cost(
        "train",
        rows=c.users + c.items,
        bytes_read=load.own_vectors + load.user_vectors,
        bytes_written=1000.0,
        cpu_seconds=(c.users + c.items) * load.costs.purchase,
        cores=1,
        memory=2 * load.own_vectors + 2 * load.share * load.user_vectors,
    )


def describe(job: Job[Settings]) -> dict[str, Any]:
    """Write what stands for a model: ``signature.json``, ``training.json``, ``repurchase.json``; how many vectors."""
    prepared, parts = job.folder("prepare"), job.settings.run.n_parts
    items = storage.read_parquet(storage.join(prepared, "catalogue.parquet"), ["item_id", "vector"])
    vectors = vectors_of(items)
    dim, of_items, with_vector = vectors.shape[1], hash_vectors(items["item_id"], vectors), {"users": 0}
    with_vector["items"] = int(vectors.any(axis=1).sum())
    of_users = users = 0
    for part in range(parts):
        path = storage.join(prepared, "histories", storage.part_name(part, parts))
        rows = storage.read_parquet(path, ["user_id", "vector"])
        theirs = vectors_of(rows)
        of_users += hash_vectors(rows["user_id"], theirs)
        users, with_vector["users"] = users + len(rows), with_vector["users"] + int(theirs.any(axis=1).sum())
    encoder = hash_of(dim, of_items, of_users)
    signature = {"encoder": encoder, "dim": dim, "blocks": [given_block(dim).to_json()], "given": True}
    storage.write_json(signature, storage.join(job.out, "signature.json"))
    storage.write_json({"given": TOLD, "holdout": {"reason": NO_HOLDOUT}}, storage.join(job.out, "training.json"))
    storage.write_json({}, storage.join(job.out, "repurchase.json"))
    note = (
        f"nothing is trained: {with_vector['items']:,} of {len(items):,} items and {with_vector['users']:,} of "
        f"{users:,} users have a vector of {dim} numbers, made elsewhere"
    )
    return {"dim": dim, "items": with_vector["items"], "users": with_vector["users"], "notes": [note]}
