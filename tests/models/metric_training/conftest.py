"""Small tables of items whose classes can be learned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

CLASSES, ROWS, DIM = 6, 180, 16


def vector_items(rows: int = ROWS, seed: int = 0) -> pa.Table:
    """Vectors of six classes, half of whose coordinates are noise: raw ones find their class in part."""
    rng = np.random.default_rng(seed)
    of = np.arange(rows) % CLASSES
    vectors = 1.5 * np.random.default_rng(7).normal(size=(CLASSES, DIM))[of] + rng.normal(size=(rows, DIM))
    vectors[:, DIM // 2 :] = 3 * rng.normal(size=(rows, DIM // 2))
    return pa.table(
        {
            "item_id": [f"i{n:04d}" for n in range(rows)],
            "label": [f"class {n}" for n in of],
            "size": pa.FixedSizeListArray.from_arrays(vectors.astype(np.float32).ravel(), DIM),
        }
    )


def image_items(rows: int = 120) -> pa.Table:
    """Pictures of 8 x 8 with a bright bar whose direction is the class."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 90, (rows, 8, 8), dtype=np.uint8)
    for row in range(rows):
        place = int(rng.integers(1, 7))
        if row % 2:
            pixels[row, place] = 250
        else:
            pixels[row, :, place] = 250
    raw = pa.FixedSizeBinaryArray.from_buffers(pa.binary(64), rows, [None, pa.py_buffer(np.ascontiguousarray(pixels))])
    names = ["across" if row % 2 else "down" for row in range(rows)]
    return pa.table({"item_id": np.arange(rows), "label": names, "image": raw})


@pytest.fixture
def parts(tmp_path: Path) -> Callable[..., list[str]]:
    def write(table: pa.Table, files: int = 2, **how: Any) -> list[str]:
        (tmp_path / "items").mkdir(exist_ok=True)
        paths = []
        step = -(-len(table) // files)
        for number in range(files):
            path = str(tmp_path / "items" / f"part-{number:05d}-of-{files:05d}.parquet")
            pq.write_table(table.slice(number * step, step), path, **how)
            paths.append(path)
        return paths

    return write
