"""What a run will cost before it is started: work, time and memory of every stage, from counts alone.

Time is units of work times what one costs (``costs.MEASURED``). Memory is the arrays and tables that a stage
holds at once, by their dtypes. A catalogue whose vectors do not fit a worker is cut into shards; what does
not fit at all is refused with the setting that would make it fit. docs/scaling.md explains every formula.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from topkin.artifacts import storage
from topkin.artifacts.runs import FOLDERS
from topkin.baselines.registry import BASELINES
from topkin.config.sections import Settings
from topkin.errors import ConfigError
from topkin.planning.costs import MEASURED, Costs
from topkin.search.topk import BUDGET_BYTES

MOST_SHARDS = 4096
MOST_PARTS = 1 << 20
COORDINATE = 4  # bytes of a float32
ROW = 20  # bytes on disk of a purchase in a history, as measured on generated shops
SHUFFLED = 20_000_000  # purchases that training shuffles at a time
PARTS_A_LOAD = 8  # parts that a shard is searched for each time it is loaded


@dataclass(frozen=True, kw_only=True)
class InputCounts:
    """How much there is. purchases: rows of the input; known: those before the as-of date that count.

    input_bytes: of all input files. id_bytes: of an id in memory. dim: coordinates of a vector, 0 for as many as the
    settings allow. vector_dim: numbers of the vector that an item brings, 0 for none.
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
        found = storage.read_json(storage.join(folder, "statistics.json"))
        rows = found["sources"]["purchases"]["rows"]
        own = found.get("vector_dim", 0)
        return cls(purchases=rows, known=found["events"], users=found["users"], items=found["items"], vector_dim=own)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What works. memory: bytes that one worker process may use. cores: of a worker. workers: how many there are."""

    memory: float
    cores: int = 1
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What one stage will cost. mode: resident, sharded or index for the lists, otherwise empty.

    memory: bytes of one worker at its peak. cpu_seconds: of one core, all workers together. seconds: expected,
    on the machine. flops: of its matrix products, 0 where it has none.
    """

    stage: str
    rows: int
    bytes_read: float
    bytes_written: float
    flops: float
    cpu_seconds: float
    seconds: float
    memory: float
    shards: int = 1
    mode: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run's stages, and why it cannot be done as it is: a sentence with its cure for each stage that does not fit."""

    counts: InputCounts
    machine: Machine
    stages: tuple[Stage, ...]
    refusals: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Expected, of all stages."""
        return sum(stage.seconds for stage in self.stages)

    def stage(self, name: str) -> Stage:
        """A stage by its name."""
        return next(stage for stage in self.stages if stage.stage == name)


def plan(
    counts: InputCounts,
    settings: Settings,
    machine: Machine,
    *,
    stages: Sequence[str] = tuple(FOLDERS),
    costs: Costs = MEASURED,
) -> Plan:
    """What the stages will cost, with the fewest shards that fit."""
    shards = shards_of(counts, settings, machine, costs=costs)
    made = tuple(_stage(name, counts, settings, machine, shards, costs) for name in stages)
    refused = [_refusal(stage, counts, settings, machine, costs) for stage in made if stage.memory > machine.memory]
    return Plan(counts=counts, machine=machine, stages=made, refusals=tuple(refused))


def refuse(made: Plan) -> None:
    """Raise ConfigError for a plan that does not fit, with the cure of each stage."""
    if made.refusals:
        raise ConfigError("\n".join(made.refusals))


def shards_of(counts: InputCounts, settings: Settings, machine: Machine, *, costs: Costs = MEASURED) -> int:
    """Into how many shards the lists' search cuts the catalogue: 1 where a worker holds it, or no number helps.

    No number helps a baseline, which holds no vectors.
    """
    if settings.recommend.search == "index":
        return 1

    def fits(shards: int) -> bool:
        return memory("recommend", counts, settings, shards, costs) <= machine.memory

    return _least(fits, 1, MOST_SHARDS) or 1


def _least(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The least number from low to high for which a condition holds that stays true; None where it never does."""
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def dim_of(c: InputCounts, settings: Settings) -> int:
    """Coordinates of a vector: the blocks' and two of the prior."""
    train = settings.train
    return c.dim or train.svd_dim + train.next_item_dim + (train.dim if train.epochs else 0) + train.sequence_dim + 2


def _stage(name: str, c: InputCounts, settings: Settings, machine: Machine, shards: int, costs: Costs) -> Stage:
    flops, cpu = _work(name, c, settings, costs)
    read, written = _bytes(name, c, settings, shards, machine.workers)
    rows = {"prepare": c.purchases, "train": c.known, "embed": c.users + c.items, "index": c.items}
    parts, cores = settings.run.parts, machine.cores
    lanes = {"train": 1, "index": cores}  # one process each, which trains on little more than one core
    if name in ("prepare", "embed"):  # a part is worked on by one core
        lanes[name] = min(cores * machine.workers, parts)
    mode = "index" if settings.recommend.search == "index" else "sharded" if shards > 1 else "resident"
    return Stage(
        stage=name,
        rows=rows.get(name, c.users),
        bytes_read=read,
        bytes_written=written,
        flops=flops,
        cpu_seconds=cpu,
        seconds=costs.start_seconds[name] + cpu / lanes.get(name, cores * min(machine.workers, parts)),
        memory=memory(name, c, settings, shards, costs),
        shards=shards if name == "recommend" else 1,
        mode=mode if name == "recommend" else "",
    )


def _work(name: str, c: InputCounts, settings: Settings, costs: Costs) -> tuple[float, float]:
    """Floating-point operations of the matrix products, and CPU seconds of one core, of a stage."""
    dim, k, near = dim_of(c, settings), min(settings.recommend.k, c.items), settings.similar
    neighbours = c.items * near.items + c.users * (near.users + near.bought)
    if name == "prepare":
        return 0.0, c.purchases * costs.purchase
    if name == "train":
        return 0.0, c.known * costs.training_purchase
    if name == "embed":
        return 0.0, (c.known + c.items) * costs.pooled_purchase * dim / costs.dim
    if name == "index":
        depth = math.log2(2 + min(c.items, settings.index.shard_items))
        return 0.0, c.items * depth * costs.indexed_item * dim / costs.dim
    if name == "recommend" and settings.recommend.baseline is not None:
        pairs = BASELINES[settings.recommend.baseline].cost * c.users * c.items
        return 0.0, pairs * costs.judged_pair + c.users * k * costs.list_row
    if name == "recommend":
        flops = 2.0 * dim * c.users * _scored(c, settings)
        return flops, flops / costs.flops + c.users * k * costs.list_row
    if name == "similar":
        flops = 2.0 * dim * (c.items**2 * (near.items > 0) + c.users**2 * (near.users > 0))
        return flops, flops / costs.flops + neighbours * costs.neighbour_row
    return 2.0 * dim * c.users * c.items, 1.0 * c.users * c.items * costs.judged_pair  # held-out users are at most all


def _scored(c: InputCounts, settings: Settings) -> float:
    """Items scored for a user: all of them, or those that the index looks at, as many times log n as it keeps."""
    if settings.recommend.search == "exact":
        return c.items
    shards = math.ceil(c.items / settings.index.shard_items)
    return min(c.items, shards * settings.index.ef_search * settings.index.m)


def _bytes(name: str, c: InputCounts, settings: Settings, shards: int, workers: int) -> tuple[float, float]:
    """Bytes read and written by a stage, all workers together; each reads the items for itself."""
    parts, vector = settings.run.parts, COORDINATE * dim_of(c, settings)
    histories, catalogue, lists = ROW * c.known, 100.0 * c.items, 12.0 * c.users * min(settings.recommend.k, c.items)
    items, users, own = 2.0 * vector * c.items, float(vector * c.users), float(COORDINATE * c.vector_dim * c.items)
    if name == "prepare":
        return c.input_bytes + 2.0 * ROW * c.purchases, 4.0 * ROW * c.purchases + catalogue + 2 * own
    if name == "train":
        train = settings.train
        passes = train.epochs + (train.sequence_epochs if train.sequence_dim else 0)
        return histories * (1 + passes) + own, items + _words(c, settings) + _user_rows(c, settings)
    if name == "embed":
        each = catalogue + items + own + _words(c, settings) + _user_rows(c, settings)
        return histories + workers * each, items + users
    if name == "index":
        return items + users, 3.0 * vector * c.items
    if name == "recommend" and shards > 1:
        loads = -(-parts // PARTS_A_LOAD)
        moved = 8.0 * shards * c.users * min(settings.recommend.k, c.items)  # ids and scores, from shards to parts
        looked_up = parts * items if settings.recommend.because else 0.0  # some row of nearly every row group
        read = (shards + 1) * (histories + users) + loads * items / 2 + looked_up
        return read + workers * catalogue + moved, lists + moved
    if name == "recommend":
        return histories + users + workers * (items + catalogue), lists
    if name == "similar":
        rows = c.items * settings.similar.items + c.users * (settings.similar.users + settings.similar.bought)
        return workers * (items + catalogue) + parts * (histories + users), 12.0 * rows
    return 2 * histories + users + workers * (items + catalogue) + lists, 100.0 * c.users


def _words(c: InputCounts, settings: Settings) -> float:
    """Bytes of the encoder's rows for the words of titles, in and out; none where no title is read."""
    titled = settings.items is not None and settings.items.title is not None
    return 2.0 * COORDINATE * settings.train.word_buckets * dim_of(c, settings) if titled else 0.0


def _user_rows(c: InputCounts, settings: Settings) -> float:
    """Bytes of the rows of users' own; none where ``train.user_rows`` is off."""
    train = settings.train
    return float(c.users * (COORDINATE * train.dim + c.id_bytes)) if train.user_rows and train.epochs else 0.0


def _named(c: InputCounts, settings: Settings) -> float:
    """Distinct items that the reasons of a part name, at most: those listed and those bought."""
    if not settings.recommend.because or settings.recommend.baseline is not None:
        return 0.0
    bought = min(c.known, c.users * settings.embed.history_length)
    return min(c.items, _share(settings) * (c.users * min(settings.recommend.k, c.items) + bought))


def _share(settings: Settings) -> float:
    """The share of everything by user that the largest part holds: the hash spreads users nearly evenly."""
    return min(1.0, 1.2 / settings.run.parts)


def memory(name: str, c: InputCounts, settings: Settings, shards: int, costs: Costs = MEASURED) -> float:
    """Bytes of one worker at its peak in a stage."""
    train, vector = settings.train, COORDINATE * dim_of(c, settings)
    share = _share(settings)
    users = share * c.users
    purchase = 2 * c.id_bytes + 40  # as a row of a table: user, item, time, quantity, price, segment
    catalogue = c.items * (c.id_bytes + 60.0)
    items = 2.0 * vector * c.items  # scored and pooled vectors
    own = float(COORDINATE * c.vector_dim * c.items)
    fitted = 32.0 * c.known + 24.0 * c.items * settings.evaluate.neighbours  # baselines, and all purchases
    part = users * 2 * vector + share * c.known * (c.id_bytes + 60)
    if name == "prepare":
        more = 4 * share * c.purchases * purchase + 3 * catalogue + 4 * own
    elif name == "train":  # what is shuffled at a time; a decomposition; weights with two moments and a gradient
        shuffled = 13.0 * min(c.known, SHUFFLED) + share * c.known * (c.id_bytes + 60)
        closed = 12.0 * (train.svd_rank + 32) + 8.0 * (train.svd_dim + train.next_item_dim) if train.svd_dim else 0.0
        trained = 32.0 * ((train.dim if train.epochs else 0) + train.sequence_dim)
        more = shuffled + c.items * (closed + trained) + catalogue
        more += 8 * own  # as read, of each validation cut, in the step, and in float64 for the ridge map
        more += 6 * _user_rows(c, settings)  # with two moments, then without the empty ones, then rotated
    elif name == "embed":
        more = items + catalogue + own + part + 2 * _user_rows(c, settings)  # as read, and as an array
    elif name == "index":  # a copy for NMSLIB and its graph, one shard at a time
        shard = min(c.items, settings.index.shard_items)
        more = items + shard * (vector + 60.0 * settings.index.m)
    elif name == "recommend":
        k = min(settings.recommend.k, c.items)
        row = 40 + (1 + settings.recommend.because) * (c.id_bytes + 8)
        listed = users * k * row + 2 * vector * _named(c, settings)
        # The hash table that finds ids; a copy of what is allowed, or of the rows of a shard while they are read.
        held = items + vector * c.items if shards == 1 else 3.0 * vector * math.ceil(c.items / shards)
        held = held if settings.recommend.baseline is None else fitted
        more = catalogue + c.items * (c.id_bytes + 32) + part + listed + held + BUDGET_BYTES
    elif name == "similar":
        more = items + catalogue + 2 * part + 16 * share * c.known * settings.similar.users + BUDGET_BYTES
    else:
        more = items + catalogue + part + fitted + BUDGET_BYTES
    return costs.start_bytes[name] + more


def _refusal(stage: Stage, c: InputCounts, settings: Settings, machine: Machine, costs: Costs) -> str:
    """Why a stage does not fit, and the setting with which it would."""

    def needed(parts: int, search: str = settings.recommend.search) -> float:
        run = settings.run.model_copy(update={"parts": parts})
        recommend = settings.recommend.model_copy(update={"search": search})
        asked = settings.model_copy(update={"run": run, "recommend": recommend})
        shards = shards_of(c, asked, machine, costs=costs) if stage.stage == "recommend" else 1
        return memory(stage.stage, c, asked, shards, costs)

    said = (
        f"{stage.stage} needs {size(stage.memory)} of memory a worker, "
        f"run.worker_memory is {machine.memory / 1e9:.3g} (GB)"
    )
    parts = _least(lambda n: needed(n) <= machine.memory, settings.run.parts, MOST_PARTS)
    if parts is not None:
        return f"{said}: set run.parts = {parts}"
    if stage.mode == "index" and needed(settings.run.parts, "exact") <= machine.memory:
        return f'{said}: set recommend.search = "exact", which cuts the catalogue into shards'
    least = costs.start_bytes[stage.stage]
    enough = replace(machine, memory=stage.memory)
    if stage.stage == "recommend" and stage.mode != "index":  # a smaller worker would do, with shards
        low, high = least, stage.memory
        for _ in range(40):
            middle = (low + high) / 2
            shards = shards_of(c, settings, replace(machine, memory=middle), costs=costs)
            fits = memory(stage.stage, c, settings, shards, costs) <= middle
            low, high = (low, middle) if fits else (middle, high)
        enough = replace(machine, memory=high)
    return f"{said}: take workers with more, and set run.worker_memory = {math.ceil(enough.memory / 1e8) / 10:g}"


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
