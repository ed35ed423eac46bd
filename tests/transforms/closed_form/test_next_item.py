"""The next-item regression by the workers of a runner against that of one process, on prepared files."""

import numpy as np
import pytest

from topkin.artifacts import storage
from topkin.models.data.histories import before_cut
from topkin.models.two_tower.next_item_ridge import NextItemSettings, next_item_ridge
from topkin.pipelines.engine.job import run_pipeline
from topkin.transforms.closed_form.next_item import NextItemInputs, RegressParts, read_vectors, write_vectors


@pytest.mark.parametrize("dim", [3, 7])
def test_workers_find_the_vectors_of_one_process(small_blocks, prepared, tmp_path, dim):
    folder, purchases = prepared
    rng, n_items = np.random.default_rng(dim), len(purchases.item_ids)
    E, buyers = rng.normal(size=(n_items, dim)).astype(np.float32), rng.integers(1, 40, n_items)
    settings = NextItemSettings(windows=3, days=20.0)
    whole = next_item_ridge(
        lambda: (before_cut(purchases.part(name), 0.0) for name in purchases.names()), E, buyers, settings
    )
    inputs = NextItemInputs(
        purchases=purchases.to_send(),
        catalogue=storage.join(folder, "catalogue.parquet"),
        n_items=n_items,
        scratch=str(tmp_path),
        dim=dim,
        settings=settings,
    )
    write_vectors(inputs, E, buyers)
    run_pipeline(RegressParts(inputs), ())
    assert whole.any(axis=1).sum() > 32
    np.testing.assert_allclose(read_vectors(inputs), whole, rtol=1e-4, atol=1e-6)
