"""What a unit of work costs, as measured: the one table from which plans are made.

``python -m benchmarks.constants`` runs every stage on two generated shops, prints the table anew, and with
``--write`` puts it here.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Costs:
    """CPU seconds of one core for a unit of each stage's work, and what a stage costs before its first unit.

    start_seconds: of each stage, imports included. start_bytes: memory of each stage on a tiny shop. purchase:
    preparing a row; training_purchase: training on a purchase, all passes and the choice of settings together;
    pooled_purchase: embedding the user of one; indexed_item; list_row, neighbour_row: making and writing a row of
    the lists, or of the neighbours; judged_pair: evaluating a user against one item, all models together.
    flops: of exact top-k, a second and core.
    """

    machine: str
    start_seconds: Mapping[str, float]
    start_bytes: Mapping[str, float]
    purchase: float
    training_purchase: float
    pooled_purchase: float
    indexed_item: float
    list_row: float
    neighbour_row: float
    judged_pair: float
    flops: float


# begin of what python -m benchmarks.constants --write writes
MEASURED = Costs(
    machine="not measured",
    start_seconds={
        "prepare": 4.0,
        "train": 15.0,
        "embed": 1.0,
        "index": 0.5,
        "recommend": 0.5,
        "similar": 0.5,
        "evaluate": 1.0,
    },
    start_bytes={
        "prepare": 3e8,
        "train": 1e9,
        "embed": 1e9,
        "index": 1e9,
        "recommend": 1e9,
        "similar": 1e9,
        "evaluate": 1e9,
    },
    purchase=4e-6,
    training_purchase=3e-4,
    pooled_purchase=1e-6,
    indexed_item=1e-3,
    list_row=2e-6,
    neighbour_row=3e-6,
    judged_pair=1e-8,
    flops=4e10,
)
# end
