"""What a unit of work costs, as measured: the one table from which plans are made.

``python -m benchmarks.jobs.constants`` runs every stage on two generated shops, prints the table anew, and with
``--write`` puts it here.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Costs:
    """CPU seconds of one core for a unit of each stage's work, and what a stage costs before its first unit.

    start_seconds: of each stage in the process that runs it; worker_seconds: in a worker of its own, imports included.
    start_bytes: memory of each stage on a tiny shop. purchase:
    preparing a row; training_purchase: training a block on a purchase once;
    closed_purchase: the closed form of one and all that is computed beside it; tried_purchase: what it adds for each
    source that may stand beside the encoder;
    pooled_purchase: embedding the user of one; indexed_item: an item, for each doubling of their number; list_row,
    neighbour_row: making and writing a row of the lists, or of the neighbours, without the products; judged_pair:
    evaluating a user against an item, all models. flops: of exact top-k, a second and core; item_byte:
    preparing a byte of what feeds an encoder. dim: coordinates of the
    vectors with which this was measured.
    """

    machine: str
    dim: int
    start_seconds: Mapping[str, float]
    worker_seconds: Mapping[str, float]
    start_bytes: Mapping[str, float]
    purchase: float
    training_purchase: float
    closed_purchase: float
    tried_purchase: float
    pooled_purchase: float
    indexed_item: float
    list_row: float
    neighbour_row: float
    judged_pair: float
    flops: float
    item_byte: float


# begin of what python -m benchmarks.jobs.constants --write writes
MEASURED = Costs(
    machine="2 cores, 24 GiB, x86_64",
    dim=96,
    start_seconds={
        "prepare": 2.6,
        "train": 15.0,
        "embed": 1.8,
        "index": 0.63,
        "recommend": 0.48,
        "similar": 0.025,
        "hindsight": 0.003,
        "evaluate": 2.6,
        "report": 0.99,
    },
    worker_seconds={
        "prepare": 1.9,
        "train": 0.0,
        "embed": 6.6,
        "index": 1.5,
        "recommend": 1.7,
        "similar": 1.7,
        "hindsight": 0.0,
        "evaluate": 1.7,
        "report": 0.15,
    },
    start_bytes={
        "prepare": 390000000.0,
        "train": 1600000000.0,
        "embed": 1500000000.0,
        "index": 1400000000.0,
        "recommend": 1400000000.0,
        "similar": 1400000000.0,
        "hindsight": 1400000000.0,
        "evaluate": 1400000000.0,
        "report": 1500000000.0,
    },
    purchase=1.3e-06,
    training_purchase=2.1e-05,
    closed_purchase=3.1e-05,
    tried_purchase=9.5e-06,
    pooled_purchase=1.2e-06,
    indexed_item=5.6e-06,
    list_row=1.3e-05,
    neighbour_row=1.2e-05,
    judged_pair=1.9e-07,
    flops=110000000000.0,
    item_byte=8.2e-09,
)
# end
