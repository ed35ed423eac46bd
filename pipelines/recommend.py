"""The job ``recommend``: every user's list under the rules, by the encoder or a baseline, or by what sells."""

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from topkin.artifacts import storage
from topkin.artifacts.embeddings import SUMMARY as EMBEDDED
from topkin.artifacts.embeddings import encoder_of_stage
from topkin.baselines.registry import BASELINES, left_out
from topkin.config import undated
from topkin.config.sections import Settings
from topkin.errors import ArtifactError, ConfigError
from topkin.pipelines.engine.job import Job, machine_of, run_pipeline
from topkin.pipelines.engine.stage import Stage, StageReads
from topkin.pipelines.nights import kept
from topkin.planning.estimate import PARTS_A_LOAD, InputCounts, StageCost, Workload, least
from topkin.recommend.bought import BOUGHT, weights_of
from topkin.recommend.eligibility import allowed_of, item_lists_fingerprint
from topkin.recommend.repurchase.blend import Weights
from topkin.recommend.repurchase.rates import FILE
from topkin.recommend.second.candidates import DEPTH
from topkin.recommend.second.chosen import blend_of, read_blend, sources_tried
from topkin.search.topk import BUDGET_BYTES

if TYPE_CHECKING:
    from topkin.transforms.recommend import RecommendInputs, RecommendParts

SUMMARY = "lists.json"
MOST_SHARDS = 4096


def needs(settings: Settings) -> tuple[str, ...]:
    """The stages before this one: the index only where it is asked."""
    return ("prepare", "train", "embed") + (("index",) if settings.recommend.search == "index" else ())


def reads(settings: Settings) -> StageReads:
    """Both item lists by content, and a baseline's own setting.

    Raises InputError where a list has no file, ConfigError where the baseline cannot be fitted here.
    """
    lists, model = item_lists_fingerprint(settings.recommend), settings.recommend.baseline
    if model is None:
        return StageReads(files=lists)
    if why := left_out([model]):
        raise ConfigError(f'recommend.model = "{model}" cannot make the lists: {why[model]}, or choose another')
    return StageReads(files=lists, settings={"evaluate.neighbours": settings.evaluate.neighbours})


def shards_of(load: Workload) -> int:
    """Into how many shards the search cuts the catalogue: 1 where a worker holds it, or no number helps.

    No number helps a baseline, which holds no vectors.
    """
    if load.settings.recommend.search == "index":
        return 1

    def fits(shards: int) -> bool:
        return memory(load, shards) <= load.machine.memory

    return least(fits, 1, MOST_SHARDS) or 1


def cost(load: Workload) -> StageCost:
    """Exact search in as few shards as fit a worker, or the index, or a baseline; then the rows of the lists."""
    c, rules, parts, workers = load.counts, load.settings.recommend, load.settings.run.parts, load.machine.workers
    shards, indexed = shards_of(load), rules.search == "index"
    if rules.baseline is None:
        flops = 2.0 * load.dim * c.users * _scored_items(load)
        scores = flops / load.costs.flops
        scores += second_seconds(load)
    else:
        flops = 0.0
        scores = BASELINES[rules.baseline].cost * c.users * c.items * load.costs.judged_pair
    read, moved = load.histories_file + load.user_vectors + workers * (load.item_vectors + load.catalogue_file), 0.0
    if shards > 1:
        moved = 8.0 * shards * c.users * load.k  # ids and scores, from shards to parts
        loads = -(-parts // PARTS_A_LOAD)
        explained = parts * load.item_vectors if rules.because else 0.0  # some row of nearly every row group
        read = (shards + 1) * (load.histories_file + load.user_vectors) + loads * load.item_vectors / 2 + explained
        read += workers * load.catalogue_file + moved
    needed, cure = memory(load, shards), ""
    if indexed and needed > load.machine.memory:
        exact = load.with_settings("recommend", search="exact")
        if memory(exact, shards_of(exact)) <= load.machine.memory:
            cure = 'set recommend.search = "exact", which cuts the catalogue into shards'
    return load.cost(
        "recommend",
        rows=c.users,
        bytes_read=read,
        bytes_written=load.lists_file + moved,
        flops=flops,
        cpu_seconds=scores + c.users * load.k * load.costs.list_row,
        memory=needed - load.costs.start_bytes["recommend"],
        shards=shards,
        mode="index" if indexed else "sharded" if shards > 1 else "resident",
        cure=cure,
    )


def memory(load: Workload, shards: int) -> float:
    """Bytes of a worker at its peak with the catalogue in so many shards."""
    c, rules = load.counts, load.settings.recommend
    row = 40 + (1 + rules.because) * (c.id_bytes + 8)
    listed = load.share * c.users * load.k * row + 2 * load.vector * _explained_items(load)
    # The hash table that finds ids; vectors, and a copy of what is allowed, or of a shard's rows while they are read.
    vectors = 3.0 * load.vector * math.ceil(c.items / shards)
    held = vectors if rules.baseline is None else load.fitted
    if sources_tried(rules, c.known):
        held += load.fitted
    context = load.catalogue + c.items * (c.id_bytes + 32)
    return load.costs.start_bytes["recommend"] + context + load.part + listed + held + BUDGET_BYTES


def second_seconds(load: Workload) -> float:
    """CPU seconds of a second stage, if all sources that are asked for take part: their scores, and candidates.

    A candidate costs what a row of the lists does, and each source may bring as many as the encoder.
    """
    c, names = load.counts, sources_tried(load.settings.recommend, load.counts.known)
    if not names or BOUGHT[load.settings.recommend.bought].weights:
        return 0.0
    dense = sum(BASELINES[name].cost for name in names) * c.users * c.items * load.costs.judged_pair
    return dense + (1 + len(names)) * min(DEPTH, c.items) * c.users * load.costs.list_row / 10


def _scored_items(load: Workload) -> float:
    """Items scored for a user: all of them, or those that the index looks at, as many times log n as it keeps."""
    items, index = load.counts.items, load.settings.index
    if load.settings.recommend.search == "exact":
        return items
    return min(items, math.ceil(items / index.shard_items) * index.ef_search * index.m)


def _explained_items(load: Workload) -> float:
    """Distinct items that the reasons of a part name, at most: those listed and those bought."""
    c, rules = load.counts, load.settings.recommend
    if not rules.because or rules.baseline is not None:
        return 0.0
    bought = min(c.known, c.users * load.settings.embed.history_length)
    return min(c.items, load.share * (c.users * load.k + bought))


def inputs_of(job: Job[Settings]) -> "RecommendInputs":
    """What the workers read, from a job's settings and the folders of the finished stages.

    Raises ArtifactError for two encoders.
    """
    from topkin.transforms.recommend import RecommendInputs

    encoder = str(storage.read_json(storage.join(job.folder("train"), "signature.json"))["encoder"])
    embedded_by = encoder_of_stage(job.folder("embed"))
    if embedded_by != encoder:
        raise ArtifactError(
            f"{job.folder('embed')} was made by encoder {embedded_by[:12]}…, the run's model is {encoder[:12]}…: "
            "run topkin embed again with --force"
        )
    settings = job.settings
    return RecommendInputs(
        prepared=job.folder("prepare"),
        embeddings=job.folder("embed"),
        index=job.folder("index") if "index" in needs(settings) else "",
        encoder=encoder,
        parts=settings.run.parts,
        as_of=job.as_of,
        recent_days=settings.prepare.recent_days,
        settings=settings.recommend,
        shards=shards_of(_workload(job)),
        repurchase=_chosen_weights(job),
        second=blend_of(settings.recommend, read_blend(job.folder("train"))),
        fitted=storage.join(job.scratch, "baseline"),
        neighbours=settings.evaluate.neighbours,
    )


def _workload(job: Job[Settings]) -> Workload:
    """As the finished stages counted it."""
    catalogue = storage.read_parquet(storage.join(job.folder("prepare"), "catalogue.parquet"), ["item_id", "events"])
    known = int(np.asarray(catalogue["events"]).sum())
    embedded = storage.read_json(storage.join(job.folder("embed"), EMBEDDED))
    counts = InputCounts(
        purchases=known,
        known=known,
        users=embedded["users"],
        items=len(catalogue),
        dim=embedded["dim"],
        id_bytes=-(-catalogue["item_id"].nbytes // max(len(catalogue), 1)),
    )
    return Workload(counts=counts, settings=job.settings, machine=machine_of(job.settings, job.beam))


def _chosen_weights(job: Job[Settings]) -> Weights | None:
    """The weights of bought items in the lists, those of training's validation where the settings leave them open."""
    settings = job.settings.recommend
    if weights_of(settings, {}) is None:
        return None
    chosen = storage.read_json(storage.join(job.folder("train"), "repurchase.json"))
    return weights_of(settings, chosen)


def transform(job: Job[Settings], inputs: "RecommendInputs") -> "RecommendParts":
    """What writes the lists of every part: a partition of their own for each as-of date."""
    from topkin.transforms.recommend import ListMaker, RecommendParts
    from topkin.transforms.unchanged.lists import ListUpdater

    before = kept.before(job, "recommend") if _may_carry(inputs) else None
    return RecommendParts(
        inputs,
        lists=storage.join(job.out, "recommendations", f"date={job.as_of:%Y-%m-%d}"),
        short_lists=storage.join(job.out, "short_lists"),
        tally=_tally(job),
        repeats=storage.join(job.out, FILE),
        maker=ListMaker if before is None else partial(ListUpdater, before=before),
    )


def _may_carry(inputs: "RecommendInputs") -> bool:
    """Whether a list depends on its user's history and vector and the items alone: not on the date, nor on others."""
    rules, alone = inputs.settings, inputs.second is None and inputs.shards == 1
    return rules.bought == "exclude" and rules.baseline is None and rules.search == "exact" and alone


def _tally(job: Job[Settings]) -> str:
    """Where the counts go before they are summed up in ``lists.json``."""
    return storage.join(job.scratch, "counts.json")


def recommend(job: Job[Settings]) -> dict[str, Any]:
    """Make the lists and write ``lists.json``: how many by source, and how many are short for which reason."""
    from topkin.transforms.recommend import fit

    inputs, rules = inputs_of(job), job.settings.recommend
    allowed = allowed_of(rules, inputs.catalogue(["item_id", "available"]))  # a wrong list stops the job here
    fit(inputs)
    run_pipeline(transform(job, inputs), job.beam)
    counts = storage.read_json(_tally(job))
    lists = {
        "date": f"{job.as_of:%Y-%m-%d}",
        "encoder": inputs.encoder,
        "model": rules.model,
        "bought": rules.bought,
        "k": rules.k,
        "search": rules.search,
        "users": counts["users"]["all"],
        "users_with_list": counts["users"]["with_list"],
        "rows": sum(counts["source"].values()),
        "by_source": counts["source"],
        "second_stage": inputs.second,
        "repurchase": inputs.repurchase and inputs.repurchase.to_json(),
        "short": sum(counts["reason"].values()),
        "by_reason": counts["reason"],
        "fallback": counts["fallback"],
        "items": len(allowed.mask),
        "items_allowed": int(allowed.mask.sum()),
        "items_filtered_by_rule": dict(allowed.filtered_counts),
        "listed_ids_not_in_catalogue": dict(allowed.unknown),
    }
    storage.write_json(lists, storage.join(job.out, SUMMARY))
    unknown = {f"ids_of_{name}_unknown": n for name, n in allowed.unknown.items() if n}
    told = ("users", "users_with_list", "rows", "by_source", "short", "by_reason")
    return {**{name: lists[name] for name in told}, **unknown, "notes": undated.notes(job.settings, "recommend")}


STAGE = Stage(
    name="recommend",
    folder="recommendations",
    sections=("run", "prepare", "recommend"),
    needs=needs,
    reads=reads,
    earlier=kept.earlier("prepare", "embed", "recommend"),
    cost=cost,
    work=recommend,
)
