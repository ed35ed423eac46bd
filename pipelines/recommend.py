"""The job ``recommend``: every user's list under the rules, by the encoder or a baseline, or by what sells."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from topkin.artifacts import storage
from topkin.artifacts.embeddings import SUMMARY as EMBEDDED
from topkin.artifacts.embeddings import encoder_of_stage
from topkin.artifacts.runs import list_folder
from topkin.baselines.registry import BASELINES, left_out
from topkin.config import undated
from topkin.config.sections import Settings
from topkin.config.shop import vectors
from topkin.config.shop.lists import in_words_of
from topkin.errors import ArtifactError, ConfigError
from topkin.pipelines.engine.job import InOnePipeline, Job, OnePipeline, machine_of
from topkin.pipelines.engine.stage import EarlierVersions, Stage, StageReads
from topkin.pipelines.nights import kept
from topkin.planning.estimate import HELD_BYTES, PARTS_A_LOAD, InputCounts, StageCost, Workload, least
from topkin.recommend.bought import weights_of
from topkin.recommend.repurchase.blend import Weights
from topkin.recommend.repurchase.rates import FILE
from topkin.recommend.rules.allot import BAND
from topkin.recommend.rules.eligibility import Allowed, allowed_of, item_lists_fingerprint
from topkin.recommend.rules.shop import depth_of
from topkin.recommend.second.candidates import DEPTH
from topkin.recommend.second.chosen import blend_of, read_blend, sources_tried
from topkin.search.topk import BUDGET_BYTES

if TYPE_CHECKING:
    from apache_beam.utils.shared import Shared

    from topkin.transforms.lists.several import SeveralLists
    from topkin.transforms.recommend import RecommendInputs, RecommendParts
    from topkin.transforms.unchanged.before import Before

SUMMARY = "lists.json"
MOST_SHARDS = 4096
FEW_NEW = (
    "{of}{few_new:,} lists have fewer new items than recommend.new_items asks for: no more may be listed for the user"
)
NO_CATEGORY = (
    "recommend.cooldown_by_category names {names}, which no item has as its category: they are written as in the "
    "catalogue, {some}"
)
ANEW = "under rules of the shop every list is made anew each night, also while the encoder is kept"


def needs(settings: Settings) -> tuple[str, ...]:
    """The stages before this one: the index only where it is asked."""
    indexed = any(lists.search == "index" for lists in (settings.recommend, *settings.lists.values()))
    return ("prepare", "train", "embed") + (("index",) if indexed else ())


def reads(settings: Settings) -> StageReads:
    """Item lists by content, and a baseline's own setting.

    Raises InputError where a list has no file, ConfigError where the baseline cannot be fitted here.
    """
    files, other = [], {}
    for name in settings.list_names:
        rules = settings.of_list(name).recommend
        with in_words_of(name):
            files += item_lists_fingerprint(rules)
            if rules.baseline is not None:
                if why := left_out([rules.baseline]):
                    wrong = f"{why[rules.baseline]}, or choose another"
                    raise ConfigError(f'recommend.model = "{rules.baseline}" cannot make the lists: {wrong}')
                other = {"evaluate.neighbours": settings.evaluate.neighbours}
    return StageReads(files=files, settings=other)


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
    """Exact search in as few shards as fit a worker, or the index, or a baseline; then the rows of the lists.

    Lists by exact search share one: another is its rows and candidates, and what a baseline or the index asks for.
    """
    c, rules, parts, workers = load.counts, load.settings.recommend, load.settings.run.n_parts, load.machine.workers
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
    scores += ruled_candidates(load) * load.costs.list_row / (10 if rules.capacity is None else 4)
    if rules.capacity is not None:
        moved += 16.0 * ruled_candidates(load)  # in files, between the steps
        read += 16.0 * ruled_candidates(load)
    rows = c.users * load.k * load.costs.list_row
    for other in load.of_lists:
        own, again = cost(other), other.settings.recommend
        shared = again.baseline is None and again.search == rules.search == "exact" and rules.baseline is None
        rows += own.cpu_seconds - other.start("recommend")[0]
        rows -= 2.0 * load.dim * c.users * _scored_items(other) / load.costs.flops if shared else 0
        moved += own.bytes_written
        read += 0 if shared else own.bytes_read
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
        cpu_seconds=scores + rows,
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
    lists = [load, *load.of_lists]
    held = vectors if rules.baseline is None else 0.0
    if any(
        one.settings.recommend.baseline or sources_tried(one.settings.recommend, c.known, timed=one.settings.timed)
        for one in lists
    ):
        held += load.fitted
    for one in lists:
        held += load.share * 16.0 * ruled_candidates(one)
        if one.settings.recommend.capacity is not None:  # see ``rules.allot``
            held += 12.0 * c.users * one.k + 60.0 * min(BAND, ruled_candidates(one))
    context = load.catalogue + c.items * (c.id_bytes + 32)
    for other in load.of_lists:  # each has the items' context, and its rows wait for those of the others
        listed += context + load.share * c.users * other.k * row
    kept = min(HELD_BYTES, load.part * load.settings.run.n_parts)
    kept *= 1 + sum(one.settings.recommend.capacity is not None for one in lists)  # their queries, for every step
    return load.costs.start_bytes["recommend"] + context + load.part + kept + listed + held + BUDGET_BYTES


def ruled_candidates(load: Workload) -> float:
    """Candidates that rules of the shop choose from at first, of all users; 0 without such rules.

    One costs a tenth of a row of the lists, or where items have a capacity a fourth (``benchmarks.jobs.rules``).
    """
    rules = load.settings.recommend
    return float(load.counts.users * min(depth_of(rules, rules.k), load.counts.items)) if rules.ruled else 0.0


def second_seconds(load: Workload) -> float:
    """CPU seconds of a second stage, if all sources that are asked for take part: their scores, and candidates.

    A candidate costs what a row of the lists does, and each source may bring as many as the encoder. Sources that are
    tried without being asked for seldom take part, and are not counted.
    """
    c, names = load.counts, sources_tried(load.settings.recommend, load.counts.known, timed=load.settings.timed)
    if not names or "sources" not in load.settings.recommend.model_fields_set:
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
        parts=settings.run.n_parts,
        as_of=job.as_of,
        recent_days=settings.prepare.recent_days,
        settings=settings.recommend,
        shards=shards_of(_workload(job)),
        repurchase=_chosen_weights(job),
        second=blend_of(settings.recommend, read_blend(job.folder("train"))),
        fitted=storage.join(job.scratch, "baseline"),
        neighbours=settings.evaluate.neighbours,
        shown=_shown(job),
    )


def versions(settings: Settings) -> EarlierVersions:
    """The published runs whose lists are not shown again."""
    nights = max(lists.not_shown_nights for lists in (settings.recommend, *settings.lists.values()))
    return EarlierVersions(days=range(1, nights + 1), stages=("recommend",)) if nights else EarlierVersions()


def _shown(job: Job[Settings]) -> tuple[str, ...]:
    """The tables of lists of the last nights, as many as are not shown again."""
    nights = job.settings.recommend.not_shown_nights
    since = job.as_of - timedelta(days=nights)
    return tuple(
        storage.join(version.folders["recommend"], "recommendations")
        for version in job.versions
        if nights and version.as_of >= since
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


def of_list(job: Job[Settings], name: str) -> Job[Settings]:
    """The job of one list; of the one without a name the same."""
    if not name:
        return job
    versions = [
        replace(version, folders={"recommend": folder})
        for version in job.versions
        if storage.exists(folder := list_folder(version.folders["recommend"], name))
    ]
    settings, out = job.settings.of_list(name), list_folder(job.out, name)
    return replace(job, settings=settings, out=out, scratch=storage.join(job.scratch, name), versions=versions)


def transform(job: Job[Settings], lists: Mapping[str, "RecommendInputs"]) -> "RecommendParts | SeveralLists":
    """What writes the lists of every part: a partition of their own for each as-of date. lists: by name."""
    from apache_beam.utils.shared import Shared

    from topkin.transforms.lists.several import SeveralLists

    before = kept.before(job, "recommend") if any(map(_may_carry, lists.values())) else None
    if len(lists) == 1:
        return _transform(job, lists[""], before)
    held = Shared()
    return SeveralLists({name: _transform(of_list(job, name), lists[name], before, held) for name in lists})


def _transform(
    job: Job[Settings], inputs: "RecommendInputs", before: "Before | None", held: "Shared | None" = None
) -> "RecommendParts":
    """What writes one list of each user. held: by which lists share the vectors of the items."""
    from topkin.transforms.lists.limited import LimitedParts
    from topkin.transforms.recommend import ListMaker, RecommendParts
    from topkin.transforms.unchanged.lists import ListUpdater

    kind: Callable[..., RecommendParts] = RecommendParts
    if inputs.settings.capacity is not None:
        kind = partial(LimitedParts, folder=storage.join(job.scratch, "candidates"))
    maker: Callable[..., ListMaker] = ListMaker
    if carries := before is not None and _may_carry(inputs):
        maker = partial(ListUpdater, before=replace(before, folder=list_folder(before.folder, inputs.name)))
    return kind(
        inputs=inputs,
        lists=storage.join(job.out, "recommendations", f"date={job.as_of:%Y-%m-%d}"),
        short_lists=storage.join(job.out, "short_lists"),
        tally=_tally(job),
        repeats=storage.join(job.out, FILE),
        maker=maker if held is None else partial(maker, held=held),
        shared_search=not carries,
    )


def _may_carry(inputs: "RecommendInputs") -> bool:
    """Whether a list depends on its user's history and vector and the items alone: not on the date, nor on others.

    Under rules of a shop everybody is searched for anew, for what they go by may be another each night.
    """
    rules, alone = inputs.settings, inputs.second is None and inputs.shards == 1 and not inputs.settings.ruled
    return rules.bought == "exclude" and rules.baseline is None and rules.search == "exact" and alone


def _tally(job: Job[Settings]) -> str:
    """Where the counts go before they are summed up in ``lists.json``."""
    return storage.join(job.scratch, "counts.json")


def begin(job: Job[Settings]) -> OnePipeline:
    """What makes the lists; then ``lists.json`` of each: how many by source, and how many short for which reason."""
    from topkin.transforms.recommend import fit

    jobs, lists, allowed = {name: of_list(job, name) for name in job.settings.list_names}, {}, {}
    for name, own in jobs.items():
        with in_words_of(name):  # a wrong list stops the job here
            lists[name] = replace(inputs_of(own), name=name, fitted=storage.join(job.scratch, "baseline"))
            allowed[name] = _counts_of(
                allowed_of(own.settings.recommend, lists[name].catalogue(["item_id", "available"]))
            )
    exact = [n for n, i in lists.items() if i.settings.baseline is None and i.settings.search == "exact"]
    shards = max((lists[name].shards for name in exact), default=1)  # the search is one
    lists |= {name: replace(lists[name], shards=shards) for name in exact}
    fit(list(lists.values()))
    return OnePipeline(transform=transform(job, lists), finish=partial(finish, job, lists, allowed))


def _counts_of(allowed: Allowed) -> dict[str, Any]:
    """What ``lists.json`` says of the items that may be listed."""
    return {
        "items": len(allowed.mask),
        "items_allowed": int(allowed.mask.sum()),
        "items_filtered_by_rule": dict(allowed.filtered_counts),
        "listed_ids_not_in_catalogue": dict(allowed.unknown),
    }


def finish(
    job: Job[Settings], lists: Mapping[str, "RecommendInputs"], allowed: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Write ``lists.json`` of every list; returns the summary. lists, allowed: by name, and counts of the items."""
    jobs = {name: of_list(job, name) for name in lists}
    summaries = {name: _summary(own, lists[name], allowed[name]) for name, own in jobs.items()}
    categories = set(lists[""].catalogue(["category"])["category"].to_pylist()) - {None}
    unknown = sorted({c for own in jobs.values() for c in own.settings.recommend.cooldown_by_category} - categories)
    main = summaries.pop("")
    notes = [
        *undated.notes(job.settings, "recommend"),
        *vectors.notes(job.settings, "recommend"),
        *([ANEW] if any(i.settings.ruled for i in lists.values()) and job.settings.train.every_days else []),
        *(
            [NO_CATEGORY.format(names=", ".join(unknown), some=", ".join(sorted(map(str, categories))[:5]) or "none")]
            if unknown
            else []
        ),
        *(f"list {name}: {one['rows']:,} rows, {one['short']:,} short" for name, one in summaries.items()),
        *(
            FEW_NEW.format(**one, of=f"list {name}: " * bool(name))
            for name, one in {"": main, **summaries}.items()
            if one.get("few_new")
        ),
    ]
    return {**main, **({"lists": summaries} if summaries else {}), "notes": notes}


def _summary(job: Job[Settings], inputs: "RecommendInputs", allowed: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``lists.json`` of one list; returns what is told of it."""
    rules, counts = job.settings.recommend, storage.read_json(_tally(job))
    few_new = {name: n for name, n in counts["users"].items() if name == "few_new"}
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
        **few_new,
        **allowed,
    }
    storage.write_json(lists, storage.join(job.out, SUMMARY))
    unknown = {f"ids_of_{name}_unknown": n for name, n in allowed["listed_ids_not_in_catalogue"].items() if n}
    keys = ("users", "users_with_list", "rows", "by_source", "short", "by_reason")
    return {**{name: lists[name] for name in keys}, **few_new, **unknown}


STAGE = Stage(
    name="recommend",
    folder="recommendations",
    sections=("run", "prepare", "recommend", "lists"),
    needs=needs,
    reads=reads,
    earlier=kept.earlier("prepare", "embed", "recommend"),
    versions=versions,
    cost=cost,
    work=InOnePipeline(begin),
)
