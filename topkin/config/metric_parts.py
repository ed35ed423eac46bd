"""The parts of metric learning by name, as data: losses, miners, distances, reducers, samplers and learners.

A configuration names a part alone, ``"triplet"``, or as a table with its arguments, ``{ name = "triplet", margin =
0.2 }``. Nothing here imports TensorFlow; a test compares these tables with the library's classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from topkin.config.section import Section
from topkin.errors import nearest_name

Reads = Literal["rows", "classes", "views", "scores", "pairs"]
"""What a loss reads: rows and their labels; rows' cosines with one vector a class; two views of each row; one row's
scores of candidates; distances of pairs made beforehand."""


@dataclass(frozen=True)
class Part:
    """A part of the library: its class, the arguments that a configuration may give, and of a loss what it reads."""

    cls: str
    arguments: tuple[str, ...] = ()
    reads: Reads = "rows"


_BATCH = ("distance", "miner", "reducer")
_VIEWS = ("distance", "reducer")

LOSSES = {
    "am_softmax": Part("AMSoftmax", ("margin", "scale", "reducer"), "classes"),
    "arcface": Part("ArcFace", ("margin", "scale", "reducer"), "classes"),
    "bpr": Part("BPR", ("reducer",), "scores"),
    "ccl": Part("CCL", ("margin", "weight", "reducer"), "scores"),
    "center": Part("Center", ("weight", "reducer"), "classes"),
    "circle": Part("Circle", ("m", "gamma", *_BATCH)),
    "contrastive": Part("Contrastive", ("positive_margin", "negative_margin", "squared", *_BATCH)),
    "cosface": Part("CosFace", ("margin", "scale", "reducer"), "classes"),
    "cross_batch_memory": Part("CrossBatchMemory", ("loss", "size")),
    "info_nce": Part("InfoNCE", ("temperature", "symmetric", *_VIEWS), "views"),
    "lifted_structure": Part("LiftedStructure", ("negative_margin", "positive_margin", *_BATCH)),
    "multi_similarity": Part("MultiSimilarity", ("alpha", "beta", "base", *_BATCH)),
    "n_pair": Part("NPair", ("l2", *_BATCH)),
    "nt_xent": Part("NTXent", ("temperature", *_BATCH)),
    "pair_contrastive": Part("PairContrastive", ("margin", "reducer"), "pairs"),
    "proxy_anchor": Part("ProxyAnchor", ("margin", "alpha"), "classes"),
    "proxy_nca": Part("ProxyNCA", ("temperature", "reducer"), "classes"),
    "proxy_nca_plus": Part("ProxyNCAPlus", ("temperature", "reducer"), "classes"),
    "sampled_softmax": Part("SampledSoftmax", ("temperature", *_VIEWS), "views"),
    "soft_nearest_neighbour": Part("SoftNearestNeighbour", ("temperature", *_BATCH)),
    "soft_triple": Part("SoftTriple", ("centres", "scale", "temperature", "margin", "pull", "reducer"), "classes"),
    "sub_center_arcface": Part("SubCenterArcFace", ("centres", "margin", "scale", "reducer"), "classes"),
    "sup_con": Part("SupCon", ("temperature", *_BATCH)),
    "triplet": Part("Triplet", ("margin", "soft", *_BATCH)),
    "weighted_sum": Part("WeightedSum", ("losses", "weights")),
}
MINERS = {
    "all_pairs": Part("AllPairs", ("distance",)),
    "all_triplets": Part("AllTriplets", ("distance",)),
    "angular": Part("Angular", ("degrees",)),
    "batch_easy_hard": Part("BatchEasyHard", ("positive", "negative", "distance")),
    "batch_hard": Part("BatchHard", ("distance",)),
    "distance_weighted": Part("DistanceWeighted", ("cutoff", "farthest")),
    "multi_similarity_miner": Part("MultiSimilarityMiner", ("epsilon", "distance")),
    "popular_hard": Part("PopularHard", ("k", "correction", "temperature", "distance")),
    "semi_hard": Part("SemiHard", ("margin", "distance")),
    "triplet_margin": Part("TripletMargin", ("margin", "kind", "distance")),
}
DISTANCES = {
    "cosine": Part("Cosine"),
    "euclidean": Part("Euclidean"),
    "inner_product": Part("InnerProduct"),
    "manhattan": Part("Manhattan"),
    "snr": Part("SNR"),
    "squared_euclidean": Part("SquaredEuclidean"),
}
REDUCERS = {
    "mean": Part("Mean"),
    "mean_of_non_zero": Part("MeanOfNonZero"),
    "per_anchor": Part("PerAnchor"),
    "per_class": Part("PerClass"),
    "sum": Part("Sum"),
}
SAMPLERS = {
    "class_batches": Part("ClassBatches", ("classes", "examples", "batches")),
    "pair_batches": Part("PairBatches", ("batch_size", "per_row")),
    "row_batches": Part("RowBatches", ("batch_size",)),
}
LEARNERS = {
    "barlow_twins": Part("BarlowTwins", ("redundancy",)),
    "byol": Part("BYOL", ("momentum",)),
    "sim_siam": Part("SimSiam"),
    "simclr": Part("SimCLR", ("temperature",)),
    "swav": Part("SwAV", ("prototypes", "temperature", "epsilon", "iterations", "frozen_steps")),
    "vicreg": Part("VICReg", ("invariance", "variance", "covariance")),
}

TABLES: Mapping[str, Mapping[str, Part]] = {
    "loss": LOSSES,
    "losses": LOSSES,
    "miner": MINERS,
    "distance": DISTANCES,
    "reducer": REDUCERS,
    "sampler": SAMPLERS,
    "learner": LEARNERS,
}
"""The parts that a key takes, the keys of other parts' arguments too."""


class PartSettings(Section):
    """A part by its name, with its arguments beside it: a table of these, or the name alone."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    name: str = Field(description="Of the part, as docs/metric_learning.md lists them; its arguments stand beside it.")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, values: object) -> Any:
        return {"name": values} if isinstance(values, str) else values

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that were given, parts among them as text or table."""
        return dict(self.model_extra or {})


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def named(name: str, table: Mapping[str, Part]) -> str | None:
    """The name of a part in its spelling here, whatever its case and underscores; None where there is none."""
    return next((known for known in table if _plain(known) == _plain(name)), None)


def part_of(key: str, settings: PartSettings) -> Part:
    """What a key names; see :func:`faults`, which finds those that name none."""
    table = TABLES[key]
    return table[named(settings.name, table) or settings.name]


def inner_parts(key: str, value: object) -> list[PartSettings]:
    """The parts that an argument names: one, or of ``losses`` each. Raises ValueError where it is neither."""
    values = value if key == "losses" and isinstance(value, list) else [value]
    if any(not isinstance(v, str) and not (isinstance(v, dict) and isinstance(v.get("name"), str)) for v in values):
        raise ValueError("a part is a name, or a table with a name")
    return [PartSettings.model_validate(v) for v in values]


def faults(place: str, key: str, settings: PartSettings) -> Iterator[str]:
    """What is wrong with a part, each in a line: a name or an argument that is not there, inside it too.

    Args:
        place: The dotted key, for messages.
        key: One of :data:`TABLES`.
        settings: What came.
    """
    table = TABLES[key]
    known = named(settings.name, table)
    if known is None:
        near = nearest_name(settings.name, table)
        hint = f"; did you mean {near!r}?" if near else ""
        learner = named(settings.name, LEARNERS) if table is LOSSES else None
        if learner is not None:
            hint = f'; {learner!r} learns without labels: method = "self_supervised", learner = "{learner}"'
        yield f"{place} must be one of {', '.join(table)}, got {settings.name!r}{hint}"
        return
    allowed = table[known].arguments
    for name, value in settings.arguments.items():
        if name not in allowed:
            near = nearest_name(name, allowed)
            hint = f"; did you mean {near!r}?" if near else ""
            takes = ", ".join(allowed) if allowed else "none"
            yield f"{place}: the arguments of {known!r} are {takes}, got {name!r}{hint}"
        elif name in TABLES:
            try:
                inside = inner_parts(name, value)
            except ValueError as e:
                yield f"{place}.{name}: {e}, got {value!r}"
                continue
            for part in inside:
                yield from faults(f"{place}.{name}", name, part)


def leaves(settings: PartSettings) -> Iterator[Part]:
    """The losses that a loss is made of: itself, or those that it sums or remembers."""
    if part_of("loss", settings).cls in ("WeightedSum", "CrossBatchMemory"):
        for key in ("losses", "loss"):
            if key in settings.arguments:
                for part in inner_parts(key, settings.arguments[key]):
                    yield from leaves(part)
    else:
        yield part_of("loss", settings)
