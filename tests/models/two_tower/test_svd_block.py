"""The purchases of a decomposition are the same however they are read."""

from functools import partial

import numpy as np

from topkin.models.two_tower import svd_block


def test_purchases_held_for_all_passes_give_what_reading_them_again_does(context, purchases, catalogue, monkeypatch):
    train = context.train.changed(svd_rank=6, next_item_dim=2)
    index = context.index(purchases, catalogue)
    monkeypatch.setattr(svd_block, "SpectralSettings", partial(svd_block.SpectralSettings, oversampling=2))
    read: list[str] = []
    part = type(purchases).part
    monkeypatch.setattr(type(purchases), "part", lambda self, name: read.append(name) or part(self, name))
    held = svd_block.decomposition(train, purchases, index, seed=3).spectrum
    assert sorted(read) == sorted(purchases.names())
    monkeypatch.setattr(svd_block, "_HELD", 0)
    again = svd_block.decomposition(train, purchases, index, seed=3).spectrum
    assert len(read) > 2 * len(purchases.names())
    np.testing.assert_array_equal(held.V, again.V)
    np.testing.assert_array_equal(held.s, again.s)
