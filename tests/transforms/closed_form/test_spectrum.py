"""The decomposition by the workers of a runner against that of one process, on prepared files."""

import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp

from topkin.artifacts import storage
from topkin.encoding.svd import SpectralSettings, decompose, purchase_weights
from topkin.errors import TopkinError
from topkin.models.data.histories import before_cut
from topkin.models.data.positions import PositionHistories
from topkin.pipelines.engine.job import run_pipeline
from topkin.transforms.closed_form.spectrum import DecomposeParts, SpectrumInputs, read_spectrum

SETTINGS = SpectralSettings(dim=8, oversampling=16, passes=3, seed=4)
WEIGH = partial(purchase_weights, half_life_days=60.0, most=1.5)


def inputs_of(folder, purchases, scratch, **changes):
    return SpectrumInputs(
        purchases=purchases.to_send(),
        catalogue=storage.join(folder, "catalogue.parquet"),
        n_items=len(purchases.item_ids),
        weigh=WEIGH,
        settings=replace(SETTINGS, **changes),
        scratch=str(scratch),
    )


@pytest.mark.parametrize("by_position", [False, True])
def test_what_is_sent_to_workers_does_not_grow_with_the_catalogue(prepared, by_position):
    _, purchases = prepared
    sizes = []
    for times in (1, 100):
        more = pa.chunked_array(purchases.item_ids.chunks * times)
        large = replace(purchases, item_ids=more, featured=True)
        large = (
            replace(large, workers=object())
            if not by_position
            else PositionHistories(large.folder, more, large.as_of, source=large, workers=object())
        )
        sent = large.to_send()
        assert sent.workers is None
        assert not sent.featured
        sizes.append(len(pickle.dumps(sent)))
    assert sizes[0] == sizes[1] < 2_000


@pytest.mark.parametrize("by_position", [False, True])
def test_workers_find_the_vectors_of_one_process(small_blocks, prepared, tmp_path, by_position):
    folder, purchases = prepared
    purchases = replace(
        PositionHistories.of(purchases, 3) if by_position else purchases, days=1.0 if by_position else 9
    )
    parts = [before_cut(purchases.part(name), purchases.days) for name in purchases.names()]
    whole = decompose(lambda: map(WEIGH, parts), len(purchases.item_ids), SETTINGS)
    inputs = inputs_of(folder, purchases, tmp_path / "scratch")
    run_pipeline(DecomposeParts(inputs), ())
    by_parts = read_spectrum(inputs)
    np.testing.assert_allclose(by_parts.s, whole.s, rtol=1e-4)
    np.testing.assert_allclose(by_parts.degrees, whole.degrees, rtol=1e-5)
    np.testing.assert_allclose((by_parts.V * by_parts.s) @ by_parts.V.T, (whole.V * whole.s) @ whole.V.T, atol=1e-3)
    assert (np.sum(by_parts.V[:, :3] * whole.V[:, :3], axis=0) > 0.999).all()  # signs too


def of_kinds(history):
    """R where each user bought all items of one of five kinds, so that there are five directions."""
    kinds = sp.csr_matrix(np.kron(np.eye(5), np.ones(history.n_items // 5)).astype(np.float32))
    return kinds[np.arange(history.n_users) % 5]


def test_workers_find_as_few_directions_as_there_are(small_blocks, prepared, tmp_path):
    folder, purchases = prepared
    parts = [before_cut(purchases.part(name), 0.0) for name in purchases.names()]
    inputs = replace(inputs_of(folder, purchases, tmp_path / "scratch"), weigh=of_kinds)
    assert inputs.n_items % 5 == 0
    run_pipeline(DecomposeParts(inputs), ())
    by_parts, whole = (
        read_spectrum(inputs),
        decompose(lambda: map(of_kinds, parts), len(purchases.item_ids), SETTINGS),
    )
    assert by_parts.V.shape == whole.V.shape == (inputs.n_items, 5)
    np.testing.assert_allclose(by_parts.s, whole.s, rtol=1e-4)


def test_two_processes_write_the_bytes_of_one(prepared, tmp_path):
    folder, purchases = prepared
    flags = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    written = []
    for name, given in {"one": (), "two": flags}.items():
        inputs = inputs_of(folder, purchases, tmp_path / name, passes=2)
        inputs = replace(inputs, threads=1 + len(given))
        run_pipeline(DecomposeParts(inputs), given)
        names = [inputs.path("V", 0), inputs.path("turn", 0), inputs.path("turn", 1)]
        written.append([storage.read_bytes(name) for name in names])
    assert written[0] == written[1]


def test_workers_are_asked_only_where_columns_are_fewer_than_items(prepared, tmp_path):
    folder, purchases = prepared
    with pytest.raises(ValueError, match="there must be more than"):
        inputs_of(folder, purchases, tmp_path, dim=500)


def test_no_purchase_before_the_cut_is_refused(prepared, tmp_path):
    folder, purchases = prepared
    inputs = inputs_of(folder, replace(purchases, days=10_000.0), tmp_path)
    with pytest.raises((ValueError, TopkinError, RuntimeError), match="at least one purchase"):
        run_pipeline(DecomposeParts(inputs), ())
