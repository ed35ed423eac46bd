"""The tables of docs/scaling.md: what was measured, and the plan of a run of 100 million users by it."""

from collections.abc import Iterable, Sequence

from topkin.config.sections import Settings
from topkin.pipelines.engine.stages import plan_stages
from topkin.planning.costs import MEASURED
from topkin.planning.estimate import InputCounts, Machine, Plan, Workload, duration, size

USERS, ITEMS, PURCHASES, PARTS = 100_000_000, 10_000_000, 2_000_000_000, 2_000
LARGE, SMALL = Machine(memory=32e9, cores=8, workers=500), Machine(memory=12e9, cores=2, workers=2_000)

SETTINGS = Settings.model_validate(
    {
        "purchases": {"path": "x"},
        "run": {"parts": PARTS},
        "train": {"preset": "small"},
        "recommend": {"k": 20, "because": 3},
    }
)


def scaling(page: str, begin: str, end: str) -> str:
    """The page with its tables written anew."""
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n\n{_constants()}\n{_cluster()}\n{end}{rest.partition(end)[2]}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _constants() -> str:
    m = MEASURED
    rows = [
        ("prepare", "a row of purchases", m.purchase),
        ("train", "a purchase that an epoch reads", m.training_purchase),
        ("train", "a known purchase, of the closed form", m.closed_purchase),
        ("train", "a purchase that a source beside it is tried on", m.tried_purchase),
        ("embed", "a known purchase or an item", m.pooled_purchase),
        ("index", "an item, for each doubling of their number", m.indexed_item),
        ("recommend", "a row of a list, beside the products", m.list_row),
        ("similar", "a row of a neighbour, beside the products", m.neighbour_row),
        ("evaluate", "a user against an item, all models", m.judged_pair),
    ]
    text = "## What was measured\n\n"
    text += f"By `python -m benchmarks.jobs.constants --write`, on {m.machine}, all defaults (`d` = {m.dim}). "
    text += f"Exact top-k does {m.flops / 1e9:.0f} billion floating-point operations a second and core.\n\n"
    head = (
        "stage",
        "unit of work",
        "CPU of one core a unit",
        "seconds before the first",
        "and of each worker",
        "memory",
    )
    cells = [
        (s, unit, _tiny(cost), f"{m.start_seconds[s]:g}", f"{m.worker_seconds.get(s, 0):g}", size(m.start_bytes[s]))
        for s, unit, cost in rows
    ]
    return text + _table(head, cells)


def _tiny(seconds: float) -> str:
    for unit, length in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= length:
            return f"{float(f'{seconds / length:.2g}'):g} {unit}"
    return f"{float(f'{seconds / 1e-9:.2g}'):g} ns"


def _plan(machine: Machine) -> Plan:
    counts = InputCounts(
        purchases=PURCHASES, known=PURCHASES, users=USERS, items=ITEMS, input_bytes=20 * PURCHASES, id_bytes=16
    )
    return plan_stages(counts, SETTINGS, machine)


def _cluster() -> str:
    large, small = _plan(LARGE), _plan(SMALL)
    dim = Workload(counts=large.counts, settings=SETTINGS, machine=LARGE).dim
    text = f"## {USERS:,} users x {ITEMS:,} items\n\n"
    text += f"What the plan says of {PURCHASES:,} purchases, `k` = 20, `d` = {dim}, `run.parts = {PARTS}`, on "
    text += (
        f"{LARGE.workers:,} workers of {LARGE.cores} cores and {size(LARGE.memory)}, all results of the table above "
    )
    text += "scaled up and nothing of it run:\n\n"
    head = ("stage", "core-hours", "expected", "memory a worker", "read", "written", "flops")
    rows = []
    for s in large.stages:
        memory = f"**{size(s.memory)}**" if s.memory > LARGE.memory else size(s.memory)
        flops = f"{s.flops:.1e}" if s.flops else ""
        sizes = size(s.bytes_read), size(s.bytes_written)
        rows.append((s.stage, f"{s.cpu_seconds / 3600:,.1f}", duration(s.seconds), memory, *sizes, flops))
    text += _table(head, rows)
    s = small.stage("recommend")
    text += f"\nThe same lists on {SMALL.workers:,} workers of {SMALL.cores} cores and {size(SMALL.memory)}: "
    text += f"{s.shards} shards, {size(s.memory)} a worker, {size(s.bytes_read)} read, {duration(s.seconds)}.\n\n"
    if large.refusals:
        text += "Such a run is refused as it is, with\n\n```\n" + "\n".join(large.refusals) + "\n```\n"
    return text
