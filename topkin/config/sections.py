"""The configuration: one frozen section per concern, every key typed and described.

``topkin.config.load`` reads a TOML file into :class:`Settings`; ``docs/configuration.md`` is generated
from the descriptions below. Paths are relative to the file that holds them.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from topkin.artifacts import storage
from topkin.artifacts.runs import Run
from topkin.baselines.registry import BASELINES
from topkin.config import undated
from topkin.config.encoder import EncoderSettings, beside_purchases
from topkin.config.publish.settings import PublishSettings, ReportSettings
from topkin.config.purchases import HeldoutSettings, PurchasesSettings
from topkin.config.section import (
    Baseline,
    Count,
    Days,
    Hook,
    Parts,
    RejectLimits,
    RejectsSettings,
    Section,
    Share,
    parts_for,
)
from topkin.config.shop.columns import unkept
from topkin.config.shop.events import EventSettings, event_fault
from topkin.config.shop.index import IndexSettings
from topkin.config.shop.lists import ListSettings, RecommendSettings, checked_lists
from topkin.config.shop.rules import misfit
from topkin.config.shop.similar import SimilarSettings
from topkin.config.tables import FEATURE_DIM, ItemsSettings, UsersSettings, feature_dim
from topkin.errors import ArtifactError


class RunSettings(Section):
    """Where results go, and what makes a run repeatable."""

    output: str = Field("topkin-out", description="Folder that holds the runs and the pointer to the published one.")
    seed: int = Field(42, ge=0, le=2**31 - 1, description="Seed of everything drawn at random.")
    parts: Parts = Field(
        "auto",
        description="Partitions by user: files per table, and units of parallel work. auto: 8, doubled until a part "
        "has a million rows of the inputs or fewer; workers do not count, the same data has the same parts. "
        "More than 1,000 are refused where there are fewer rows.",
    )
    worker_memory: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Gigabytes that one worker process may use, by which a run is planned, and refused if it does not "
        "fit; this machine's without it. Results are the same.",
    )
    keep: int = Field(
        14,
        ge=2,
        description="Versions that stay, the live one and those published before it; pinned runs stay too. Older "
        "runs are deleted after each published run and by topkin gc.",
    )
    wait: Annotated[float, Field(ge=0)] = Field(
        0, description="Seconds to wait for another process that works in the output folder, before it is told."
    )
    mode: Annotated[str, Field(pattern=r"^0?[0-7]{3}$")] = Field(
        "0640",
        description="Rights of the files that are made, in octal; folders may be entered by whoever may read.",
        examples=["0640"],
    )
    timeout: Annotated[str, Field(pattern=r"^(0*[1-9]\d*(\.\d+)?|0+\.0*[1-9]\d*)[mh]$")] | None = Field(
        None,
        description="Minutes or hours that a stage may take, above 0, as 90m or 6h; then the run ends with exit code "
        "6, and the same command goes on after the last finished stage. No limit without it.",
        examples=["90m"],
    )
    webhook: Hook | None = Field(
        None,
        description="Address, or the environment variable that holds it, to which topkin run posts a line on how it "
        "ended, as JSON with text; never stored or shown.",
    )

    @property
    def n_parts(self) -> int:
        """``parts`` as a number: a stage's settings have one, ``auto`` of no rows is the least."""
        return parts_for(0) if self.parts == "auto" else self.parts

    @property
    def timeout_seconds(self) -> float | None:
        """``timeout`` in seconds."""
        return None if self.timeout is None else float(self.timeout[:-1]) * {"m": 60, "h": 3600}[self.timeout[-1]]


class PrepareSettings(RejectLimits):
    """How events become histories and statistics."""

    recent_days: Days = Field(7, description="Length of the period called recent, in days before the as-of date.")
    split: Literal["time", "last"] = Field(
        "time",
        description="What is held out: all from the as-of date on, or the last purchase of each user before it, which "
        "lets the model know what others bought later. A section [heldout] takes the place of both.",
    )


PRESETS: dict[str, dict[str, int]] = {
    "small": {"svd_dim": 94, "svd_rank": 512, "next_item_dim": 32, "dim": 128},
    "standard": {"svd_dim": 318, "svd_rank": 1024, "next_item_dim": 64, "dim": 256},
    "large": {"svd_dim": 574, "svd_rank": 1024, "next_item_dim": 64, "dim": 384},
}
"""What ``train.preset`` sets, unless a key says otherwise: vectors of at most 256, 640 and 1,024 coordinates."""


class TrainAdvancedSettings(Section):
    """How the encoder's blocks are made, for those who measure: the defaults were, on several shops."""

    svd_rank: Count = Field(
        512, description="Directions of the decomposition of which svd_dim are kept, those that tell most."
    )
    svd_workers_from: Annotated[int, Field(ge=0)] = Field(
        100_000_000,
        description="Known purchases from which on the workers of the Beam runner decompose them, part by part, with "
        "no more than a block of the items in the process that trains; to rounding the vectors are the same.",
    )
    svd_half_life_days: Days | None = Field(
        None,
        description="Days in which a purchase loses half its weight in the decomposition; without it, age is nothing.",
    )
    svd_user_power: Share = Field(
        0.5, description="A user's purchases weigh the count of them to the power of minus this, twice: 0.5 as equals."
    )
    svd_power: Annotated[float, Field(ge=0, le=2)] = Field(
        0.7, description="Power of the singular values in the closed form's in-vectors: more smooths more."
    )
    svd_popularity: Share = Field(0.4, description="Power of an item's purchase count in the length of its out-vector.")
    svd_inverse_popularity: Annotated[float, Field(ge=0, le=2)] = Field(
        0.4, description="As inverse_popularity, for the closed form's histories."
    )
    next_item_half_life_days: Days | None = Field(
        83, description="As half_life_days, for the histories of the next-item block."
    )
    learning_rate_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        0.7, description="Factor on the step size from one epoch to the next."
    )
    temperature: Annotated[float, Field(ge=0.01, le=100)] = Field(
        0.1, description="Divides the cosines before the softmax."
    )
    logq: Share = Field(
        1.0, description="Share of log q(item) taken off the negatives' logits, so that they stand for all items."
    )
    negatives: Annotated[int, Field(ge=0)] = Field(
        4096,
        description="Items drawn per step, all as likely, as negatives of all its purchases, beside those asked for.",
    )
    hard_negatives: Annotated[int, Field(ge=0)] = Field(
        0,
        description="From the second epoch on, negatives drawn per step, on average, of those items that the vectors "
        "of the epoch before rank highest for a sample of users who did not buy them.",
    )
    folds: Annotated[int, Field(ge=2, le=1000)] = Field(
        4, description="Parts of a user's purchases: each is asked for from the others, once an epoch."
    )
    history_length: Count = Field(
        64, description="Purchases of a user that a question pools; drawn at random where there are more."
    )
    neighbours: Annotated[int, Field(ge=0, le=1000)] = Field(
        5, description="Items bought by the same users that an item's row is smoothed over; 0 for none."
    )
    smoothing: Annotated[float, Field(ge=0, le=100)] = Field(
        1.0, description="Weight of the neighbours' rows, all together, beside the item's own."
    )
    svd_share: Annotated[float, Field(ge=0, le=100)] = Field(
        0.06,
        description="Weight of the closed form's scores, in standard deviations, beside the trained block's while it "
        "is trained, so that it learns what they lack; 0 trains it by itself.",
    )
    inverse_popularity: Annotated[float, Field(ge=0, le=2)] = Field(
        0.5, description="Weight of a purchase in its history: item's purchase count to the power of minus this."
    )
    user_power: Share = Field(
        0.5, description="Examples weigh the user's count of items to the power of minus this: 1 makes users equal."
    )
    example_half_life_days: Days | None = Field(
        60, description="Days in which a purchase loses half its weight as an example; without it, age counts nothing."
    )
    id_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="Share of items per step that are seen by their content alone, as new items are."
    )
    word_buckets: Count = Field(16384, description="Hash buckets for the words of titles.")
    title_words: Count = Field(12, description="Most words of a title that are read.")
    min_sales: Annotated[int, Field(ge=0)] = Field(
        3, description="Items with fewer purchases are known by their content alone, where they have any."
    )
    validation_cuts: Count = Field(
        3, description="Periods of validation_days, one before the other, that weigh the closed form and the prior."
    )


class TrainSettings(Section):
    """The encoder: a closed form of the purchases, a trained two-tower network, a prior of what sells now."""

    preset: Literal["small", "standard", "large"] = Field(
        "small",
        description="Sizes of the blocks, svd_dim, svd_rank, next_item_dim and dim, where these are not set.",
    )
    svd_dim: Annotated[int, Field(ge=0)] = Field(
        94, description="Coordinates of the closed-form block, a truncated decomposition of the purchases; 0 for none."
    )
    next_item_dim: Annotated[int, Field(ge=0)] = Field(
        32, description="Coordinates of the block of what users with such a history took up next, lately; 0 for none."
    )
    dim: Annotated[int, Field(ge=2)] = Field(128, description="Coordinates of the trained block.")
    feature_dim: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Coordinates of the block that is trained on what items are, their features, titles, categories "
        "and prices, and on how well they sell; 0 for none. Without it 32 where items or purchases have features.",
    )
    user_feature_dim: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Of the block that is trained on what users of such features buy, likewise: users.features."
    )
    epochs: Annotated[int, Field(ge=0)] = Field(
        8, description="Most passes over the purchases; 0 for no trained block."
    )
    max_purchases: Count = Field(
        30_000_000,
        description="Purchases that an epoch reads, about: where there are more those of users drawn anew for each "
        "epoch. The closed form reads all.",
    )
    max_items: Count = Field(
        3_000_000,
        description="Items that are learned, those that sold most; where there are more the others are known by what "
        "they are, as new items.",
    )
    batch_size: Count | None = Field(
        None,
        description="Purchases asked for per step, each a negative of users who did not make it; without it a "
        "two-hundredth of an epoch's, 256 to 8,192.",
    )
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(0.01, description="Adam's step size.")
    half_life_days: Days | None = Field(
        None,
        description="Days in which a purchase loses half its weight in the history; without it, age counts nothing.",
    )
    recency_weight: Annotated[float, Field(ge=0, le=10)] | None = Field(
        None,
        description="Weight of recent sales in every score, in standard deviations of it beside the first block's; "
        "chosen on validation without it.",
    )
    validation_days: Days | None = Field(
        None,
        description="Last days, kept to choose by, a quarter of the time at most; without it 28, or what leaves most.",
    )
    validation_users: Count = Field(5000, description="Most users of a period that validation is measured on.")
    patience: Count = Field(
        2, description="Epochs not better by more than validation's noise, before a training stops that rises no more."
    )
    every_days: Annotated[float, Field(ge=0)] = Field(
        0,
        description="A run as of fewer days after the live encoder's training keeps that encoder; 0: each run trains.",
    )
    advanced: TrainAdvancedSettings = Field(default_factory=lambda: TrainAdvancedSettings())

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        preset = values.get("preset", "small") if isinstance(values, dict) else None
        if not isinstance(preset, str) or preset not in PRESETS:
            return values
        sizes, advanced = dict(PRESETS[preset]), values.get("advanced", {})
        rank = sizes.pop("svd_rank")
        if isinstance(advanced, dict):
            values = {**values, "advanced": {"svd_rank": rank, **advanced}}
        return {**sizes, **values}

    @model_validator(mode="after")
    def _some_block(self) -> "TrainSettings":
        if self.svd_dim == 0 and self.next_item_dim == 0 and self.epochs == 0:
            raise ValueError(
                "train.svd_dim, train.next_item_dim and train.epochs must not all be 0: no block would be learned"
            )
        return self

    def changed(self, **values: Any) -> "TrainSettings":
        """A copy with other values of some keys, those of ``[train.advanced]`` too by their bare names.

        Raises:
            ValidationError: a key is not there, or does not take its value.
        """
        own = {name: value for name, value in values.items() if name in type(self).model_fields}
        advanced = {name: value for name, value in values.items() if name not in own}
        whole = self.model_dump()
        return type(self)(**{**whole, **own, "advanced": {**whole["advanced"], **advanced}})


class EmbedSettings(Section):
    """Running the encoder over all users and items."""

    batch_size: Count = Field(1024, description="Rows per call of the model; batches are padded to it.")
    history_length: Count = Field(512, description="Most recent purchases of a user that the vector pools.")


class EvaluateSettings(Section):
    """What is measured over the held-out purchases."""

    k: tuple[Count, ...] = Field((5, 10, 20), description="Cut-offs of the metrics.")
    days: Days | None = Field(None, description="Length of the held-out period; all that comes after without it.")
    baselines: tuple[Baseline, ...] = Field(
        tuple(name for name, entry in BASELINES.items() if entry.requires is None and entry.default),
        description="What the model is measured against; ials needs the library implicit, and is left out without it. "
        "next_items and user_knn_rarity, sources of topkin's own lists, are measured where they are named.",
    )
    neighbours: Count = Field(100, description="Neighbours of an item in item-kNN, and of a user in user-kNN.")
    users: Count = Field(
        1_000_000,
        description="Users who judge, about, where more could: then drawn by run.seed, which is told.",
    )
    purchases: Count = Field(
        100_000_000,
        description="Purchases that baselines learn from here, about, where there are more: then those of users drawn "
        "by run.seed, which is told.",
    )
    bootstrap: Count = Field(500, description="Resamples for the paired 95 % intervals and the p-values.")
    hindsight: tuple[Count, ...] = Field(
        (1, 7, 28),
        description="Days: the lists published about so many days before are judged by what was bought since; none "
        "with an empty list.",
    )
    nightly: Literal["holdout", "hindsight", "both", "off"] = Field(
        "both",
        description="How a run is judged that has no purchases after the as-of date: holdout judges an encoder of the "
        "same settings on the last days, held out once more; hindsight judges the lists of earlier runs on what was "
        "bought since.",
    )


class Settings(Section):
    """All sections of a configuration file."""

    kind: ClassVar[str] = "purchases"
    has_purchases: ClassVar[bool] = True

    run: RunSettings = Field(default_factory=lambda: RunSettings())
    purchases: PurchasesSettings
    items: ItemsSettings | None = None
    users: UsersSettings | None = None
    heldout: HeldoutSettings | None = None
    events: dict[str, EventSettings] = Field(default_factory=dict)
    prepare: PrepareSettings = Field(default_factory=lambda: PrepareSettings())
    rejects: RejectsSettings = Field(default_factory=lambda: RejectsSettings())
    train: TrainSettings = Field(default_factory=lambda: TrainSettings())
    embed: EmbedSettings = Field(default_factory=lambda: EmbedSettings())
    encoder: EncoderSettings | None = None
    index: IndexSettings = Field(default_factory=lambda: IndexSettings())
    recommend: RecommendSettings = Field(default_factory=lambda: RecommendSettings())
    lists: dict[str, ListSettings] = Field(default_factory=dict)
    similar: SimilarSettings = Field(default_factory=lambda: SimilarSettings())
    evaluate: EvaluateSettings = Field(default_factory=lambda: EvaluateSettings())
    report: ReportSettings = Field(default_factory=lambda: ReportSettings())
    publish: PublishSettings = Field(default_factory=lambda: PublishSettings())

    @property
    def timed(self) -> bool:
        """Whether the purchases have times; else they have an order."""
        return self.purchases.timed

    @property
    def feature_dim(self) -> int:
        """``train.feature_dim``, and what stands for it where it is open."""
        asked = FEATURE_DIM if self.train.feature_dim is None and self.purchases.features else self.train.feature_dim
        return feature_dim(asked, self.items)

    @property
    def user_feature_dim(self) -> int:
        """``train.user_feature_dim``, likewise."""
        return feature_dim(self.train.user_feature_dim, self.users) if self.users and self.users.features else 0

    @model_validator(mode="after")
    def _without_times(self) -> "Settings":
        for name, events in (("purchases", self.purchases), ("heldout", self.heldout)):
            if events is not None and events.timed and events.order is not None:
                raise ValueError(
                    f"{name}.timestamp and {name}.order exclude each other, got {events.timestamp!r} and "
                    f"{events.order!r}: order stands in for times that the {name} lack; drop one"
                )
        if self.heldout is not None and self.heldout.timed != self.timed:
            form = "timestamp" if self.timed else "order"
            raise ValueError(
                f"purchases and heldout must both have times or both an order, and purchases have {form}: set "
                f"heldout.{form}"
            )
        if not self.timed:
            for name, section in undated.sections(self).items():
                object.__setattr__(self, name, section)
        return self

    @property
    def vectors_given(self) -> bool:
        """Whether users and items bring vectors whose cosine is the score, so that nothing is trained."""
        return self.users is not None and self.users.vector is not None

    @property
    def knows_new_users(self) -> bool:
        """Whether the encoder knows users without purchases: by vectors made elsewhere, or by features."""
        return self.vectors_given or bool(self.user_feature_dim and self.train.epochs)

    @model_validator(mode="after")
    def _vectors_of_users(self) -> "Settings":
        if self.users is not None and self.users.vector is not None:
            came, recommend = f"got users.vector = {self.users.vector!r}", self.recommend
            if self.items is None or self.items.vector is None:
                raise ValueError(
                    f"users.vector goes with items.vector, made by the same model: their cosine is the score, {came} "
                    "alone: set items.vector, or drop users.vector"
                )
            if self.train != TrainSettings():
                raise ValueError(f"users.vector leaves nothing to train, {came} and [train]: drop one")
            tables = (self.purchases, self.items, self.users)
            if any(f.learned for table in tables for f in table.features.values()):
                raise ValueError(f"features are what training learns from, {came}, with which nothing is: drop one")
            if recommend.baseline is not None:  # whose lists have reasons, and go by purchases
                return self
            if recommend.sources and "sources" in recommend.model_fields_set:
                raise ValueError(
                    f"recommend.sources are weighed by training, {came}, with which nothing is trained: drop one"
                )
            if recommend.because and "because" in recommend.model_fields_set:
                raise ValueError(
                    "recommend.because names the purchases that a score is the sum of, and a cosine with a user's own "
                    f"vector is none, {came}: drop one"
                )
            object.__setattr__(self, "recommend", recommend.model_copy(update={"because": 0, "sources": ()}))
        recommend = self.recommend
        if self.knows_new_users and recommend.baseline is None and "min_history" not in recommend.model_fields_set:
            object.__setattr__(self, "recommend", recommend.model_copy(update={"min_history": 0}))
        return self

    @model_validator(mode="after")
    def _events(self) -> "Settings":
        if fault := event_fault(self):
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _columns_of_rules(self) -> "Settings":
        if wrong := (misfit(self) if self.recommend.ruled else None) or unkept(self):
            raise ValueError(wrong)
        object.__setattr__(self, "lists", checked_lists(self))
        return self

    @property
    def list_names(self) -> tuple[str, ...]:
        """The lists of each user: ``""``, that of ``[recommend]``, then those of ``[lists]``."""
        return ("", *self.lists)

    def of_list(self, name: str) -> "Settings":
        """The settings with those of one list in the place of ``[recommend]``."""
        return self.model_copy(update={"recommend": self.lists[name], "lists": {}}) if name else self

    @model_validator(mode="after")
    def _items_of_the_encoder(self) -> "Settings":
        if self.encoder is not None and (misfit := beside_purchases(self.encoder, self.items)):
            raise ValueError(misfit)
        return self

    @model_validator(mode="after")
    def _evaluated_where_gated(self) -> "Settings":
        name, _, k = self.publish.metric.partition("@")
        if name not in METRICS or not k.isdigit() or int(k) not in self.evaluate.k:
            raise ValueError(
                f"publish.metric must be one of {', '.join(METRICS)}, then @ and one of evaluate.k "
                f"{list(self.evaluate.k)}, got {self.publish.metric!r}"
            )
        if self.heldout is not None and self.prepare.split != "time":
            raise ValueError('prepare.split = "last" and a section [heldout] are two answers to one question: drop one')
        unmeasured = [name for name in self.publish.must_beat if name not in self.evaluate.baselines]
        if unmeasured:
            raise ValueError(
                f"publish.must_beat must name baselines of evaluate.baselines, got {', '.join(unmeasured)}: add them "
                "there, or take them off"
            )
        return self


METRICS = ("recall", "precision", "ndcg", "map", "mrr", "hit_rate")


def recorded_settings(run: Run) -> Settings:
    """The settings that a run was made with. Raises ArtifactError where they are of another version."""
    path = storage.join(run.path, "run.json")
    try:
        return Settings.model_validate(storage.read_json(path)["settings"])
    except ValidationError as e:
        raise ArtifactError(f"{path} must hold settings of this version of topkin: run again ({e})") from e
