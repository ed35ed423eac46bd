"""The job ``similar``: items like an item, users like a user, and what users like a user bought."""

from functools import partial
from typing import TYPE_CHECKING, Any

from topkin.artifacts import storage
from topkin.artifacts.embeddings import SUMMARY
from topkin.config.sections import Settings
from topkin.encoding.blocks import Block
from topkin.pipelines.engine.job import Job, run_pipeline
from topkin.pipelines.engine.stage import Stage, StageReads
from topkin.pipelines.nights import kept
from topkin.planning.estimate import StageCost, Workload
from topkin.recommend.eligibility import item_lists_fingerprint
from topkin.recommend.unchanged.carry import SHARE
from topkin.search.topk import BUDGET_BYTES

if TYPE_CHECKING:
    from topkin.transforms.similar import SimilarInputs


def cost(load: Workload) -> StageCost:
    """Every item against all items, every user against all users; two parts of the users at a time.

    Where encoders are kept, the users who changed are in memory beside them.
    """
    c, near = load.counts, load.settings.similar
    flops = 2.0 * load.dim * (c.items**2 * (near.items > 0) + c.users**2 * (near.users > 0))
    rows, workers = load.neighbour_rows, load.machine.workers
    bought = 16 * load.share * c.known * near.users
    changed = SHARE * load.user_vectors if load.settings.train.every_days and near.users else 0.0
    return load.cost(
        "similar",
        rows=c.users,
        bytes_read=workers * (load.item_vectors + load.catalogue_file)
        + load.settings.run.parts * (load.histories_file + load.user_vectors),
        bytes_written=12.0 * rows,
        flops=flops,
        cpu_seconds=flops / load.costs.flops + rows * load.costs.neighbour_row,
        memory=load.item_vectors + load.catalogue + 2 * load.part + bought + changed + BUDGET_BYTES,
    )


def inputs_of(job: Job[Settings]) -> "SimilarInputs":
    """What the workers read, from a job's settings and the folders of the finished stages."""
    from topkin.transforms.similar import SimilarInputs

    embedded = storage.read_json(storage.join(job.folder("embed"), SUMMARY))
    return SimilarInputs(
        prepared=job.folder("prepare"),
        embeddings=job.folder("embed"),
        encoder=embedded["encoder"],
        blocks=[Block.from_json(block) for block in embedded["blocks"]],
        parts=job.settings.run.parts,
        as_of=job.as_of,
        settings=job.settings.similar,
        rules=job.settings.recommend,
    )


def find_neighbours(job: Job[Settings]) -> dict[str, Any]:
    """Make the three tables; returns their rows."""
    from topkin.transforms.similar import NeighbourFinder, SimilarParts
    from topkin.transforms.unchanged.similar import NeighbourUpdater

    tally = storage.join(job.scratch, "counts.json")
    before = kept.before(job, "similar")
    finder = NeighbourFinder if before is None else partial(NeighbourUpdater, before=before)
    run_pipeline(SimilarParts(inputs_of(job), job.out, tally, finder), job.beam)
    return dict(storage.read_json(tally)["rows"])


STAGE = Stage(
    name="similar",
    folder="similar",
    sections=("run", "similar"),
    needs=lambda settings: ("prepare", "embed"),
    earlier=kept.earlier("prepare", "embed", "similar"),
    reads=lambda settings: StageReads(files=item_lists_fingerprint(settings.recommend)),
    cost=cost,
    work=find_neighbours,
)
