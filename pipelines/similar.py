"""The job ``similar``: items like an item, users like a user, and what users like a user bought."""

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import SUMMARY
from topkin.config.sections import Settings
from topkin.config.shop import vectors
from topkin.encoding.blocks import Block
from topkin.pipelines.engine.job import InOnePipeline, Job, OnePipeline
from topkin.pipelines.engine.stage import Stage, StageReads
from topkin.pipelines.nights import kept
from topkin.planning.estimate import StageCost, Workload
from topkin.recommend.bundles import baskets_of, bundles_table, count_pairs
from topkin.recommend.clusters import LEARNED_FROM, QUERIES, n_clusters
from topkin.recommend.rules.eligibility import allowed_of, item_lists_fingerprint
from topkin.recommend.unchanged.carry import SHARE
from topkin.search.topk import BUDGET_BYTES

if TYPE_CHECKING:
    from topkin.transforms.search.users import ClusterInputs
    from topkin.transforms.similar import SimilarInputs

BUNDLES = "bundles.parquet"


PROBES = 8
"""Clusters that are searched for a user, as far as a plan knows."""


BASKET = 20
"""Items of the basket that an item lies in, as far as a plan knows."""
A_PAIR, PAIR_BYTES = 0.2, 60.0
"""What a pair costs to count and to list, in purchases to prepare, and the bytes of a pair of items that were together:
1,000,000 purchases of 2,000 to 20,000 items in baskets of 10 to 40 take 0.11 to 0.19 purchases for each pair."""


def clustered(settings: Settings, users: int) -> bool:
    """Whether users are compared with those of some clusters alone."""
    return settings.similar.users > 0 and users > settings.similar.exact_users


def cost(load: Workload) -> StageCost:
    """Every item against all items, every user against all users, or those of some clusters; two parts at a time.

    Where encoders are kept, the users who changed are in memory beside them. Bundles are counted in one process.
    """
    c, near = load.counts, load.settings.similar
    clusters, some = max(1.0, math.sqrt(c.users) / 2), clustered(load.settings, c.users)
    asked = min(1.0, PROBES / clusters) * c.users  # of a cluster, or by a user
    compared = clusters + asked + QUERIES if some else c.users
    flops = 2.0 * load.dim * (c.items**2 * (near.items > 0) + c.users * compared * (near.users > 0))
    lists = PROBES * c.users * (8.0 * near.users + 8) if some else 0.0  # of each cluster, back to the parts
    moved = PROBES * load.user_vectors + lists if some else 0.0
    cluster = 2.0 * asked * load.vector if some else 0.0
    learned = 3.0 * LEARNED_FROM * clusters * load.vector if some else 0.0
    rows, workers = load.neighbour_rows, load.machine.workers
    bought = 16 * load.share * c.known * near.users
    pairs = basket_pairs(load)
    kept_encoder = load.settings.train.every_days and near.users and not some
    changed = SHARE * load.user_vectors if kept_encoder else 0.0
    together = pairs * load.costs.purchase * A_PAIR
    stage = load.cost(
        "similar",
        rows=c.users,
        bytes_read=workers * (load.item_vectors + load.catalogue_file)
        + load.settings.run.n_parts * (load.histories_file + (0.0 if some else load.user_vectors))
        + (3 * load.user_vectors + moved if some else 0.0)
        + (load.histories_file if pairs else 0.0),
        bytes_written=12.0 * (rows + c.items * near.bundles) + moved,
        flops=flops,
        cpu_seconds=flops / load.costs.flops + rows * load.costs.neighbour_row,
        memory=load.item_vectors
        + load.catalogue
        + BUDGET_BYTES
        + max(2 * load.part + bought + changed, load.part + cluster, learned, PAIR_BYTES * min(pairs, c.items**2)),
    )
    cpu_seconds, seconds = stage.cpu_seconds + together, stage.seconds + together  # in one process, after the rest
    return replace(stage, cpu_seconds=cpu_seconds, seconds=seconds)


def basket_pairs(load: Workload) -> float:
    """Pairs of items that are counted in the baskets of all users; 0 where no bundles are asked for."""
    return float(BASKET * load.counts.known) if load.settings.similar.bundles else 0.0


def inputs_of(job: Job[Settings]) -> "SimilarInputs":
    """What the workers read, from a job's settings and the folders of the finished stages."""
    from topkin.transforms.similar import SimilarInputs

    embedded = storage.read_json(storage.join(job.folder("embed"), SUMMARY))
    return SimilarInputs(
        prepared=job.folder("prepare"),
        embeddings=job.folder("embed"),
        encoder=embedded["encoder"],
        blocks=[Block.from_json(block) for block in embedded["blocks"]],
        parts=job.settings.run.n_parts,
        as_of=job.as_of,
        settings=job.settings.similar,
        rules=job.settings.recommend,
    )


def begin(job: Job[Settings]) -> OnePipeline:
    """What makes the three tables; the summary has their rows."""
    from topkin.transforms.search.users import ClusterInputs, NearestInClusters
    from topkin.transforms.similar import NeighbourFinder, SimilarParts
    from topkin.transforms.unchanged.similar import NeighbourUpdater

    inputs, tally = inputs_of(job), storage.join(job.scratch, "counts.json")
    users = storage.read_json(storage.join(job.folder("embed"), SUMMARY))["users"]
    if clustered(job.settings, users):  # anew each night: what changed moves the others' clusters
        scratch, seed = storage.join(job.scratch, "clusters"), job.settings.run.seed
        clusters = ClusterInputs(similar=inputs, users=users, clusters=n_clusters(users), seed=seed, scratch=scratch)
        transform = SimilarParts(inputs, job.out, tally, neighbours=NearestInClusters(clusters))
        return OnePipeline(transform=transform, finish=partial(_finish, job, inputs, tally, clusters))
    before = kept.before(job, "similar")
    finder = NeighbourFinder if before is None else partial(NeighbourUpdater, before=before)
    transform = SimilarParts(inputs, job.out, tally, finder)
    return OnePipeline(transform=transform, finish=partial(_finish, job, inputs, tally))


def _finish(
    job: Job[Settings], inputs: "SimilarInputs", tally: str, clusters: "ClusterInputs | None" = None
) -> dict[str, Any]:
    """Write the items bought together; returns the summary. clusters: where users were compared within some alone."""
    if clusters is not None:
        from topkin.transforms.search.users import measured

        figures = measured(clusters)
        note = (
            f"users like a user are those of the {figures['probes']} nearest of {figures['clusters']:,} clusters, "
            f"which hold {figures['recall']:.1%} of the nearest to {figures['queries']:,} users (similar.exact_users)"
        )
        return {
            **storage.read_json(tally)["rows"],
            **_bundles(job, inputs),
            "users_recall": round(figures["recall"], 6),
            "notes": [*vectors.notes(job.settings, "similar"), note],
        }
    return {
        **storage.read_json(tally)["rows"],
        **_bundles(job, inputs),
        "notes": vectors.notes(job.settings, "similar"),
    }


def _bundles(job: Job[Settings], inputs: "SimilarInputs") -> dict[str, int]:
    """Write the items that are bought together, from all baskets, in this process; returns the rows, if it is asked."""
    if not inputs.settings.bundles:
        return {}
    catalogue = storage.read_parquet(storage.join(inputs.prepared, "catalogue.parquet"), ["item_id", "available"])
    ids, settings = catalogue["item_id"].combine_chunks(), inputs.settings
    parts = (
        storage.join(inputs.prepared, "histories", storage.part_name(p, inputs.parts)) for p in range(inputs.parts)
    )
    counts = count_pairs((baskets_of(storage.read_parquet(p, ["items", "times"]), ids) for p in parts), len(ids))
    allowed = allowed_of(inputs.rules, catalogue).mask
    table = bundles_table(counts, ids, allowed, settings.bundles, settings.bundle_support)
    schema = schemas.with_encoder(table.schema, inputs.encoder)  # as every table of a run
    storage.write_parquet(table.cast(schema), storage.join(job.out, BUNDLES))
    return {"bundles": len(table)}


STAGE = Stage(
    name="similar",
    folder="similar",
    sections=("run", "similar"),
    needs=lambda settings: ("prepare", "embed"),
    earlier=kept.earlier("prepare", "embed", "similar"),
    reads=lambda settings: StageReads(files=item_lists_fingerprint(settings.recommend)),
    cost=cost,
    work=InOnePipeline(begin),
)
