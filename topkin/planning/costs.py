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
    preparing a row; training_purchase: training blocks on a purchase, all passes and the choice of settings together;
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
    dim=256,
    start_seconds={
        "prepare": 1.2,
        "train": 0.0,
        "embed": 0.53,
        "index": 0.43,
        "recommend": 0.15,
        "similar": 0.34,
        "evaluate": 1.4,
    },
    worker_seconds={
        "prepare": 0.0,
    },
    start_bytes={
        "prepare": 310000000.0,
        "train": 1400000000.0,
        "embed": 1400000000.0,
        "index": 1400000000.0,
        "recommend": 1500000000.0,
        "similar": 1400000000.0,
        "evaluate": 1400000000.0,
    },
    purchase=7.3e-07,
    training_purchase=0.00072,
    closed_purchase=1.7e-05,
    tried_purchase=7.2e-06,
    pooled_purchase=6.7e-06,
    indexed_item=3.8e-05,
    list_row=4.9e-06,
    neighbour_row=2.2e-06,
    judged_pair=9.5e-08,
    flops=110000000000.0,
    item_byte=5.1e-09,
)
# end
