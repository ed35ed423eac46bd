"""What a run over items alone will cost, stage by stage: work, bytes and memory before it runs."""

import math
from dataclasses import dataclass

from topkin.config.items_run import ItemsRunSettings
from topkin.planning.costs import MEASURED, Costs
from topkin.planning.estimate import COORDINATE, Machine, StageCost

BUFFERS = 256e6
"""Bytes of the chunks of arrays that the encoder is fed from, a few at a time."""


@dataclass(frozen=True, kw_only=True)
class ItemsCounts:
    """How much there is.

    Args:
        items: Rows of the items' table.
        queries: Rows of the queries' table.
        input_bytes: Of all input files.
        row_bytes: Of what feeds the encoder, of a row in memory.
        dim: Coordinates of a vector.
        row_seconds: Of one core, for the encoder on a row.
        epochs: Of training, at most; 0 for none. views: versions of a row that a step learns from. passes: how often
            the encoder that is served reads a row, twice with its mirror image.
    """

    items: int
    queries: int = 0
    input_bytes: int = 0
    row_bytes: int = 0
    dim: int = 64
    row_seconds: float = 0.0
    epochs: int = 0
    views: int = 1
    passes: int = 1


def plan_items(
    c: ItemsCounts, settings: ItemsRunSettings, machine: Machine, costs: Costs = MEASURED
) -> tuple[StageCost, ...]:
    """The stages of a run over items alone, in order; a step of training costs three times a row's encoding."""
    rows, parts = c.items + c.queries, settings.run.n_parts
    fed, vectors, share = float(rows * c.row_bytes), float(COORDINATE * c.dim * c.items), min(1.0, 1.2 / parts)
    shard, near = min(c.items, settings.index.shard_items), settings.similar.items
    judged = min(settings.evaluate.sample, c.queries or c.items)
    trained = c.items * c.epochs * c.views
    spread = machine.cores * min(machine.workers, parts)

    def cost(
        stage: str, cpu: float, memory: float, *, rows: int, read: float, written: float, cores: int, flops: float = 0.0
    ) -> StageCost:
        cpu += flops / costs.flops
        return StageCost(
            stage=stage,
            rows=rows,
            bytes_read=read,
            bytes_written=written,
            flops=flops,
            cpu_seconds=cpu,
            seconds=costs.start_seconds.get(stage, 0.0) + cpu / cores,
            memory=costs.start_bytes.get(stage, 0.0) + memory,
        )

    reading = rows * costs.purchase + fed * costs.item_byte
    held = min(c.items * c.row_bytes, 1e9 * settings.train.memory) if settings.train is not None else 0.0
    index = c.items * math.log2(2 + shard) * costs.indexed_item * c.dim / costs.dim
    sizes = {"read": vectors, "written": 12.0 * c.items * near}
    return (
        cost("prepare", reading, 3 * share * fed, rows=rows, read=c.input_bytes, written=fed, cores=spread),
        cost("train", 3 * trained * c.row_seconds, held, rows=trained, read=fed, written=0.0, cores=machine.cores),
        cost("embed", rows * c.passes * c.row_seconds, BUFFERS, rows=rows, read=fed, written=vectors, cores=spread),
        cost("index", index, 2 * vectors, rows=c.items, read=vectors, written=1.5 * vectors, cores=machine.cores),
        cost(
            "similar",
            c.items * near * costs.neighbour_row,
            2 * vectors,
            rows=c.items,
            cores=spread,
            flops=2.0 * c.dim * c.items**2 * (near > 0),
            **sizes,
        ),
        cost(
            "evaluate",
            0.0,
            2 * vectors,
            rows=judged,
            read=vectors,
            written=100.0 * judged,
            cores=machine.cores,
            flops=2.0 * c.dim * c.items * judged * (settings.items.label is not None),
        ),
    )
