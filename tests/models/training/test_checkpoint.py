"""A checkpoint holds what the plan counts: weights and two moments, in one file that the next epoch replaces."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from topkin.models.training.checkpoint import Checkpoint
from topkin.models.training.trainer import Trainer


def test_a_checkpoint_has_weights_and_two_moments(
    context: Any, purchases: Any, catalogue: pa.Table, tmp_path: Path
) -> None:
    trainer = Trainer(context, purchases, "validation", context.index(purchases, catalogue))
    kept = Checkpoint(str(tmp_path), "key")
    for epoch in (1, 2):
        kept.write({"epoch": epoch}, trainer.variables())
    (file,) = tmp_path.iterdir()
    weights = sum(np.asarray(v).nbytes for v in trainer.model.variables)
    assert weights == 4 * sum(table.table.shape[0] for table in trainer.model.tables) * 8
    held = sum(np.asarray(v).nbytes for v in trainer.variables())
    assert 3 <= held / weights < 3.2
    assert held < file.stat().st_size < held + 20_000
    checkpoint = kept.read()
    assert checkpoint is not None
    assert checkpoint[0] == {"epoch": 2}
