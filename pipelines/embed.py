"""The job ``embed``: a vector for every item and every user, by the trained encoder, or as they bring it."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from topkin.artifacts import storage
from topkin.artifacts.embeddings import ITEMS, SUMMARY, USERS
from topkin.config.sections import Settings
from topkin.encoding.reference import FILE as REFERENCE
from topkin.pipelines.engine.job import InOnePipeline, Job, OnePipeline
from topkin.pipelines.engine.stage import Stage
from topkin.planning.estimate import StageCost, Workload


def cost(load: Workload) -> StageCost:
    """The items' vectors and content in every worker, with the users of a part."""
    c, encoder = load.counts, load.word_rows
    return load.cost(
        "embed",
        rows=c.users + c.items,
        bytes_read=load.histories_file
        + load.machine.workers * (load.catalogue_file + load.item_vectors + load.own_vectors + encoder),
        bytes_written=load.item_vectors + load.user_vectors,
        cpu_seconds=(c.known + c.items) * load.costs.pooled_purchase * load.dim / load.costs.dim,
        cores=load.cores_by_part,
        memory=load.item_vectors + load.catalogue + load.own_vectors + load.part,
    )


def begin(job: Job[Settings]) -> OnePipeline:
    """What embeds the items, then the users."""
    from topkin.transforms.embed import Embed, EmbedInputs

    settings = job.settings.embed
    inputs = EmbedInputs(
        prepared=job.folder("prepare"),
        model=job.folder("train"),
        parts=job.settings.run.n_parts,
        batch_size=settings.batch_size,
        history_length=settings.history_length,
        as_of=job.as_of,
        given=job.settings.vectors_given,
    )
    tally = {kind: storage.join(job.scratch, f"{kind}.json") for kind in (ITEMS, USERS)}
    return OnePipeline(transform=Embed(inputs, job.out, tally), finish=partial(_finish, job, tally))


def _finish(job: Job[Settings], tally: Mapping[str, str]) -> dict[str, Any]:
    """Write ``vectors.json``, which tells the blocks of the coordinates; returns how many there are."""
    counts: dict[str, Any] = {}
    for path in tally.values():
        counts |= storage.read_json(path)
    summary = {kind: counts[kind]["all"] for kind in (ITEMS, USERS)}
    summary |= {f"{kind}_{what}": counts[kind][what] for what in ("without_vector", "not_finite") for kind in counts}
    signature = storage.read_json(storage.join(job.folder("train"), "signature.json"))
    meaning = {name: signature[name] for name in ("encoder", "dim", "blocks")}
    meaning |= {name: signature[name] for name in ("purchases",) if name in signature}
    meaning["history_length"] = job.settings.embed.history_length
    storage.write_json(meaning | summary, storage.join(job.out, SUMMARY))
    if storage.exists(kept := storage.join(job.folder("train"), REFERENCE)):
        storage.take_file(kept, storage.join(job.out, REFERENCE))
    return summary


STAGE = Stage(
    name="embed",
    folder="embeddings",
    sections=("run", "embed"),
    needs=lambda settings: ("prepare", "train"),
    cost=cost,
    work=InOnePipeline(begin),
)
