"""What a run will cost before it is started: work, time and memory of every stage, from counts alone.

Each stage has its own formula beside its work, over the arrays and tables of a :class:`Workload`. Time is units of
work times what one costs (``costs.MEASURED``). Memory is what a stage holds at once, by its dtypes. What does not fit
is refused with the setting that would make it fit. docs/scaling.md explains every formula.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from topkin.artifacts import storage
from topkin.config.section import LEAST_PARTS
from topkin.config.sections import Settings
from topkin.errors import ConfigError
from topkin.planning.costs import MEASURED, Costs

MOST_PARTS = 1 << 20
CHEAP_PARTS = 1000
"""Parts that may be without a row: so many small files take seconds."""
COORDINATE = 4  # bytes of a float32
ROW = 20  # bytes on disk of a purchase in a history, as measured on generated shops
HELD_BYTES = 64 << 20
"""Parts of users that a process keeps for whoever asks for them again, beside the one it works on."""
PARTS_A_LOAD = 8  # parts that a shard is searched for each time it is loaded


@dataclass(frozen=True, kw_only=True)
class InputCounts:
    """How much there is.

    Args:
        purchases: Rows of the input, those that its lists add, and events of other types.
        known: Those before the as-of date that count.
        users: Users with or without purchases.
        items: Items of the catalogue.
        input_bytes: Of all input files.
        id_bytes: Of an id in memory.
        dim: Coordinates of a vector, 0 for as many as the settings allow.
        vector_dim: Numbers of the vector that an item brings, 0 for none.
    """

    purchases: int
    known: int
    users: int
    items: int
    input_bytes: int = 0
    id_bytes: int = 16
    dim: int = 0
    vector_dim: int = 0

    @classmethod
    def of_prepared(cls, folder: str) -> "InputCounts":
        """Of a folder of the stage prepare."""
        counts = storage.read_json(storage.join(folder, "statistics.json"))
        logs = [n for name, n in counts["sources"].items() if name == "purchases" or name.startswith("events.")]
        rows = sum(n["rows"] + n.get("unnested", 0) for n in logs)
        inputs = (n["before"] for n in counts.get("event_types", {}).values() if n["role"] == "input")
        known, own = counts["events"] + sum(inputs), counts.get("vector_dim", 0)
        return cls(purchases=rows, known=known, users=counts["users"], items=counts["items"], vector_dim=own)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What works. memory: bytes that one worker process may use. cores: of a worker. workers: how many there are."""

    memory: float
    cores: int = 1
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """What one stage will cost.

    Args:
        stage: Its name.
        rows: Rows that it works on.
        bytes_read: By all workers together.
        bytes_written: By all workers together.
        flops: Of its matrix products, 0 where it has none.
        cpu_seconds: Of one core, all workers together, what they start with too.
        seconds: Expected, on the machine.
        memory: Bytes of one worker at its peak.
        shards: Runs into which the catalogue is cut.
        mode: resident, sharded or index for the lists, otherwise empty.
        cure: A change of settings with which it would fit, beside those that help every stage; empty for none.
    """

    stage: str
    rows: int
    bytes_read: float
    bytes_written: float
    cpu_seconds: float
    seconds: float
    memory: float
    flops: float = 0.0
    shards: int = 1
    mode: str = ""
    cure: str = ""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is to be done and by what: all that a stage's formula depends on, and the sizes that several share."""

    counts: InputCounts
    settings: Settings
    machine: Machine
    costs: Costs = MEASURED

    def with_settings(self, section: str, **values: object) -> "Workload":
        """The same with other values in one section."""
        changed = getattr(self.settings, section).model_copy(update=values)
        return replace(self, settings=self.settings.model_copy(update={section: changed}))

    @cached_property
    def dim(self) -> int:
        """Coordinates of a vector: the blocks' and two of the prior, or those of given vectors."""
        if self.settings.vectors_given:
            return max(self.counts.dim or self.counts.vector_dim, 1)
        train = self.settings.train
        dims = (self.settings.feature_dim, self.settings.user_feature_dim)
        features = sum(dim + 1 for dim in dims if dim)  # and the rate of sales
        blocks = train.svd_dim + train.next_item_dim + (train.dim + features if train.epochs else 0)
        return self.counts.dim or blocks + 2

    @property
    def vector(self) -> int:
        """Bytes of a vector."""
        return COORDINATE * self.dim

    @property
    def of_lists(self) -> "list[Workload]":
        """The same with each list of ``[lists]`` in the place of that of ``[recommend]``."""
        return [replace(self, settings=self.settings.of_list(name)) for name in self.settings.lists]

    @property
    def share(self) -> float:
        """The share of everything by user that the largest part holds: the hash spreads users nearly evenly."""
        return min(1.0, 1.2 / self.settings.run.n_parts)

    @property
    def k(self) -> int:
        """Items of a list, at most."""
        return min(self.settings.recommend.k, self.counts.items)

    @property
    def neighbour_rows(self) -> int:
        """Rows of the three tables of neighbours."""
        near, c = self.settings.similar, self.counts
        return c.items * near.items + c.users * (near.users + near.bought)

    @property
    def histories_file(self) -> float:
        """Bytes on disk of all histories."""
        return ROW * self.counts.known

    @property
    def catalogue_file(self) -> float:
        """Bytes on disk of the catalogue."""
        return 100.0 * self.counts.items

    @property
    def catalogue(self) -> float:
        """Bytes of the catalogue in memory."""
        return self.counts.items * (self.counts.id_bytes + 60.0)

    @property
    def item_vectors(self) -> float:
        """Bytes of the scored and the pooled vectors of all items."""
        return 2.0 * self.vector * self.counts.items

    @property
    def user_vectors(self) -> float:
        """Bytes of the vectors of all users."""
        return float(self.vector * self.counts.users)

    @property
    def own_vectors(self) -> float:
        """Bytes of the vectors that the items bring."""
        return float(COORDINATE * self.counts.vector_dim * self.counts.items)

    @property
    def lists_file(self) -> float:
        """Bytes on disk of all lists."""
        return 12.0 * self.counts.users * self.k

    @property
    def part(self) -> float:
        """Bytes of the users of a part in memory: two vectors each, and their histories."""
        c = self.counts
        return self.share * c.users * 2 * self.vector + self.share * c.known * (c.id_bytes + 60)

    @property
    def fitted(self) -> float:
        """Bytes of the fitted baselines, and of all purchases while they are fitted."""
        return 32.0 * self.counts.known + 24.0 * self.counts.items * self.settings.evaluate.neighbours

    @property
    def word_rows(self) -> float:
        """Bytes of the encoder's rows for the words of titles, in and out; none where no title is read."""
        titled = self.settings.items is not None and self.settings.items.title is not None
        return 2.0 * COORDINATE * self.settings.train.advanced.word_buckets * self.dim if titled else 0.0

    @property
    def cores_by_part(self) -> int:
        """Cores at work where one works on a part."""
        return min(self.machine.cores * self.machine.workers, self.settings.run.n_parts)

    def start(self, stage: str) -> tuple[float, float]:
        """CPU seconds of all processes before a stage's first row, and how long that is; 0 if that was not measured."""
        own = self.costs.start_seconds.get(stage, 0.0)
        worker = self.costs.worker_seconds.get(stage, 0.0) if self.machine.workers > 1 else 0.0
        return own + self.machine.workers * worker, own + worker

    def cost(
        self, stage: str, *, cpu_seconds: float, memory: float, cores: float | None = None, **more: Any
    ) -> StageCost:
        """The cost of a stage, with what it takes before its first row: 0 where that was not measured.

        Args:
            stage: Its name.
            cpu_seconds: Of one core, all workers together, beside what they start with.
            memory: Bytes of one worker at its peak, beside those of an empty process.
            cores: Cores at work at a time; by default all those of as many workers as there are parts.
            more: The other fields of :class:`StageCost`.
        """
        cores = cores or self.machine.cores * min(self.machine.workers, self.settings.run.n_parts)
        cpu, seconds = self.start(stage)
        return StageCost(
            stage=stage,
            cpu_seconds=cpu + cpu_seconds,
            seconds=seconds + cpu_seconds / cores,
            memory=self.costs.start_bytes.get(stage, 0.0) + memory,
            **more,
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run's stages, and why it cannot be done as it is: a sentence with its cure for each stage that does not fit."""

    counts: InputCounts
    machine: Machine
    stages: tuple[StageCost, ...]
    refusals: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Expected, of all stages."""
        return sum(stage.seconds for stage in self.stages)

    def stage(self, name: str) -> StageCost:
        """A stage by its name."""
        return next(stage for stage in self.stages if stage.stage == name)


def idle_workers(parts: int, machine: Machine) -> list[str]:
    """What a person must know where parts are too few to give all workers work."""
    if parts >= machine.workers:
        return []
    idle = f"{machine.workers - parts:,} of {machine.workers:,} workers have nothing to do"
    return [f"run.parts is {parts:,}, so that {idle}: set run.parts = {2 * machine.workers}"]


def empty_parts(parts: int, users: int) -> list[str]:
    """What a person must know where parts are more than the users that they divide."""
    if parts <= max(LEAST_PARTS, users):
        return []
    return [f'run.parts is {parts:,} for {users:,} users, so that most files are empty: set run.parts = "auto"']


def too_many_parts(parts: int, rows: int) -> list[str]:
    """Why so many parts are refused for rows of the inputs: each is files of its own in every table."""
    most = max(CHEAP_PARTS, rows)
    if parts <= most:
        return []
    return [
        f"run.parts must be at most {most:,} for {rows:,} rows of the inputs, got {parts:,}: each part is files of its "
        'own in every table, and most would be empty; set run.parts = "auto"'
    ]


Formula = Callable[[Workload], StageCost]


def plan(load: Workload, formulas: Iterable[Formula]) -> Plan:
    """What stages will cost by their formulas, and what of them does not fit the machine or the inputs."""
    stages, c = [], load.counts
    refusals = too_many_parts(load.settings.run.n_parts, c.purchases + c.users + c.items)
    for formula in formulas:
        stages.append(formula(load))
        if stages[-1].memory > load.machine.memory:
            refusals.append(_refusal(stages[-1], formula, load))
    return Plan(counts=load.counts, machine=load.machine, stages=tuple(stages), refusals=tuple(refusals))


def refuse(planned: Plan) -> None:
    """Raise ConfigError for a plan that does not fit, with the cure of each stage."""
    if planned.refusals:
        raise ConfigError("\n".join(planned.refusals))


def least(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The least number from low to high for which a condition holds that stays true; None where it never does."""
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _refusal(stage: StageCost, formula: Formula, load: Workload) -> str:
    """Why a stage does not fit, and the setting with which it would."""

    def fits(parts: int) -> bool:
        return formula(load.with_settings("run", parts=parts)).memory <= load.machine.memory

    shortage = (
        f"{stage.stage} needs {size(stage.memory)} of memory a worker, "
        f"run.worker_memory is {load.machine.memory / 1e9:.3g} (GB)"
    )
    parts = least(fits, load.settings.run.n_parts, MOST_PARTS)
    if parts is not None:
        return f"{shortage}: set run.parts = {parts}"
    if stage.cure:
        return f"{shortage}: {stage.cure}"
    low, high = load.machine.memory, stage.memory
    for _ in range(40):  # with shards a smaller worker than for the whole would do
        middle = (low + high) / 2
        enough = formula(replace(load, machine=replace(load.machine, memory=middle))).memory <= middle
        low, high = (low, middle) if enough else (middle, high)
    return f"{shortage}: take workers with more, and set run.worker_memory = {math.ceil(high / 1e8) / 10:g}"


def size(n: float) -> str:
    """Bytes for people: ``"1.2 GB"``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 999.5:
            return f"{n:,.0f} {unit}" if unit == "B" or n >= 99.95 else f"{n:,.1f} {unit}"
        n /= 1000
    return f"{n:,.1f} PB"


def duration(seconds: float) -> str:
    """Seconds for people: ``"2 min"``."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}" if seconds < 10 * length else f"{seconds / length:,.0f} {unit}"
    return f"{seconds:,.1f} s"
