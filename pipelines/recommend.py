"""The job ``recommend``: every user's list under the rules, by the encoder or a baseline, or by what sells."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from topkin.artifacts import storage
from topkin.baselines.registry import left_out
from topkin.config.sections import Settings
from topkin.errors import ArtifactError, ConfigError
from topkin.pipelines.engine.job import Job, machine_of, run_pipeline
from topkin.planning.estimate import InputCounts, shards_of
from topkin.recommend.bought import weights_of
from topkin.recommend.eligibility import item_lists_fingerprint
from topkin.recommend.repurchase.blend import Weights
from topkin.recommend.repurchase.rates import FILE

STAGE = "recommend"
NEEDS = ("prepare", "train", "embed", "index")
SECTIONS = ("run", "prepare", "recommend")
SUMMARY = "lists.json"


@dataclass(frozen=True, kw_only=True)
class RecommendConfig:
    """What recommending reads, and where it writes. sources: a ``transforms.recommend.Sources``."""

    sources: Any
    out: str
    scratch: str

    @property
    def lists(self) -> str:
        """The folder of the lists: a partition of its own for each as-of date."""
        return storage.join(self.out, "recommendations", f"date={self.sources.as_of:%Y-%m-%d}")

    @property
    def short_lists(self) -> str:
        """The folder of the short lists."""
        return storage.join(self.out, "short_lists")

    @property
    def tally(self) -> str:
        """Where the counts go before they are told in ``lists.json``."""
        return storage.join(self.scratch, "counts.json")


def needs(settings: Settings) -> tuple[str, ...]:
    """The stages before this one: the index only where it is asked."""
    return NEEDS if settings.recommend.search == "index" else tuple(stage for stage in NEEDS if stage != "index")


def inputs_fingerprint(settings: Settings) -> list[list[str]]:
    """What is read here beside the stages' folders: both item lists by content, and a baseline's own setting.

    Raises InputError where a list has no file, ConfigError where the baseline cannot be fitted here.
    """
    found, model = item_lists_fingerprint(settings.recommend), settings.recommend.baseline
    if model is None:
        return found
    if why := left_out([model]):
        raise ConfigError(f'recommend.model = "{model}" cannot make the lists: {why[model]}, or choose another')
    return [*found, ["evaluate.neighbours", model, str(settings.evaluate.neighbours)]]


def configure(job: Job) -> RecommendConfig:
    """From a job's settings and the folders of the finished stages. Raises ArtifactError for two encoders."""
    from topkin.artifacts.embeddings import SUMMARY as EMBEDDED
    from topkin.artifacts.embeddings import encoder_of_stage
    from topkin.transforms.recommend import RecommendInputs

    encoder = str(storage.read_json(storage.join(job.folder("train"), "signature.json"))["encoder"])
    found = encoder_of_stage(job.folder("embed"))
    if found != encoder:
        raise ArtifactError(
            f"{job.folder('embed')} was made by encoder {found[:12]}…, the run's model is {encoder[:12]}…: "
            "run topkin embed again with --force"
        )
    catalogue = storage.read_parquet(storage.join(job.folder("prepare"), "catalogue.parquet"), ["item_id", "events"])
    known = int(np.asarray(catalogue["events"]).sum())
    made = storage.read_json(storage.join(job.folder("embed"), EMBEDDED))
    counts = InputCounts(
        purchases=known,
        known=known,
        users=made["users"],
        items=len(catalogue),
        dim=made["dim"],
        id_bytes=-(-catalogue["item_id"].nbytes // max(len(catalogue), 1)),
    )
    scratch = job.scratch or storage.join(job.out, ".scratch")
    sources = RecommendInputs(
        prepared=job.folder("prepare"),
        embeddings=job.folder("embed"),
        index=job.folder("index") if "index" in needs(job.settings) else "",
        encoder=encoder,
        parts=job.settings.run.parts,
        as_of=job.as_of,
        recent_days=job.settings.prepare.recent_days,
        settings=job.settings.recommend,
        shards=shards_of(counts, job.settings, machine_of(job.settings, job.beam)),
        repurchase=_chosen_weights(job),
        fitted=storage.join(scratch, "baseline"),
        neighbours=job.settings.evaluate.neighbours,
    )
    return RecommendConfig(sources=sources, out=job.out, scratch=scratch)


def _chosen_weights(job: Job) -> Weights | None:
    """The weights of bought items in the lists, those of training's validation where the settings leave them open."""
    settings = job.settings.recommend
    if weights_of(settings, {}) is None:
        return None
    training = storage.read_json(storage.join(job.folder("train"), "training.json"))
    return weights_of(settings, training.get("repurchase") or {})


def build(pipeline: Any, config: RecommendConfig) -> None:
    """Add the lists of every part to a pipeline."""
    from topkin.transforms.recommend import RecommendParts

    habits = storage.join(config.out, FILE)
    pipeline | "RecommendParts" >> RecommendParts(
        config.sources, config.lists, config.short_lists, config.tally, habits
    )


def execute(job: Job) -> dict[str, Any]:
    """Make the lists and write ``lists.json``: how many by source, and how many are short for which reason."""
    from topkin.transforms.recommend import allowed_of, fit

    config = configure(job)
    # A wrong list stops the job here.
    allowed = allowed_of(config.sources.settings, config.sources.catalogue(["item_id", "available"]))
    fit(config.sources)
    run_pipeline(lambda pipeline: build(pipeline, config), job.beam)
    counts = storage.read_json(config.tally)
    lists = {
        "date": f"{config.sources.as_of:%Y-%m-%d}",
        "encoder": config.sources.encoder,
        "model": config.sources.settings.model,
        "k": config.sources.settings.k,
        "search": config.sources.settings.search,
        "users": counts["users"]["all"],
        "users_with_list": counts["users"]["with_list"],
        "rows": sum(counts["source"].values()),
        "by_source": counts["source"],
        "repurchase": config.sources.repurchase and config.sources.repurchase.to_json(),
        "short": sum(counts["reason"].values()),
        "by_reason": counts["reason"],
        "fallback": counts["fallback"],
        "items": len(allowed.mask),
        "items_allowed": int(allowed.mask.sum()),
        "items_filtered_by_rule": dict(allowed.filtered_counts),
        "listed_ids_not_in_catalogue": dict(allowed.unknown),
    }
    storage.write_json(lists, storage.join(config.out, SUMMARY))
    if not job.scratch:
        storage.remove_folder(config.scratch)
    return {name: lists[name] for name in ("users", "users_with_list", "rows", "by_source", "short", "by_reason")}
