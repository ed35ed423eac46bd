"""Features of purchases as logs of weights, against a loop, and where histories carry them."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import schemas, storage
from topkin.interactions import Interactions
from topkin.models.data.feature_rows import FeatureRows
from topkin.models.data.histories import PreparedHistories
from topkin.models.data.purchase_weights import MOST, PurchaseWeights, flat, read_features

KIND = pa.struct([pa.field("channel", pa.string()), pa.field("paid", pa.float32())])
DAY = datetime(2024, 5, 1)


@pytest.fixture
def histories() -> pa.Table:
    features = [
        [{"channel": "web", "paid": 0.0}, {"channel": "gift", "paid": 1.0}],
        [],
        [{"channel": "web", "paid": 0.5}, {"channel": "gift", "paid": None}, {"channel": "once", "paid": 0.25}],
    ]
    rows = [
        {
            "user_id": f"u{n}",
            "items": ["a"] * len(own),
            "times": [DAY] * len(own),
            "weights": [1.0] * len(own),
            "purchase_features": own,
            "segment": None,
        }
        for n, own in enumerate(features)
    ]
    return pa.Table.from_pylist(rows, schemas.histories(pa.string(), pa.string(), of_purchases=KIND))


def weights_of(histories: pa.Table) -> PurchaseWeights:
    rows = FeatureRows.of(flat(histories))
    table = np.r_[0, np.linspace(-2, 2, rows.size)].astype(np.float32)
    return PurchaseWeights(rows, table)


def test_a_log_is_a_sum_over_features_and_nothing_of_what_is_unknown(histories: pa.Table) -> None:
    weights = weights_of(histories)
    gift, web = (1 + weights.rows.features[0]["labels"].index(label) for label in ("gift", "web"))
    knots = np.asarray(weights.rows.features[1]["knots"])
    values = weights.table[3:]
    logs = weights.logs(read_features(weights.rows, histories))
    wanted = [
        weights.table[web] + np.interp(0.0, knots, values),
        weights.table[gift] + np.interp(1.0, knots, values),
        weights.table[web] + np.interp(0.5, knots, values),
        weights.table[gift],
        np.interp(0.25, knots, values),  # a label that one purchase alone has tells nothing
    ]
    assert logs == pytest.approx(wanted, abs=1e-5)
    far = PurchaseWeights(weights.rows, weights.table * 100)
    assert np.abs(far.logs(read_features(weights.rows, histories))).max() == MOST


def test_histories_carry_them_to_whoever_pools(histories: pa.Table) -> None:
    weights = weights_of(histories)
    known = Interactions.from_histories(weights.added(histories), pa.array(["a"]), DAY)
    assert known.log_weights is not None
    assert known.log_weights == pytest.approx(weights.logs(read_features(weights.rows, histories)))
    assert Interactions.from_histories(histories, pa.array(["a"]), DAY).log_weights is None
    part = histories.slice(1)
    assert pa.chunked_array(weights.added(part)["log_weights"]).to_pylist()[0] == []


def test_what_came_after_a_cut_says_nothing_of_how_features_are_read(histories: pa.Table, tmp_path: Path) -> None:
    as_of, days = DAY + timedelta(days=20), 8.0
    kept, later = DAY, DAY + timedelta(days=15)
    columns = {name: histories[name].to_pylist() for name in histories.column_names}
    columns["items"] = [own * 2 for own in columns["items"]]
    columns["times"] = [[kept] * len(own) + [later] * len(own) for own in columns["times"]]
    columns["weights"] = [own * 2 for own in columns["weights"]]
    own = columns["purchase_features"]

    def written(features: dict[str, Any]) -> PreparedHistories:
        lists = [first + [features] * len(first) for first in own]
        table = pa.table({**columns, "purchase_features": lists}, schema=histories.schema)
        folder = tmp_path / str(features["channel"])
        storage.write_parquet(table, str(folder / storage.part_name(0, 1)))
        return PreparedHistories(str(folder), pa.chunked_array([["a"]]), as_of, featured=True)

    once, other = written({"channel": "once", "paid": 9.0}), written({"channel": "other", "paid": -9.0})
    assert once.rows != other.rows
    before = replace(once, days=days)
    assert before.rows == replace(other, days=days).rows == FeatureRows.of(flat(histories))
    features = before.part(before.names()[0]).features
    assert features is not None
    assert features["row"].max() <= FeatureRows.of(flat(histories)).size
    assert replace(before, days=0.0).rows == once.rows
    assert PreparedHistories(once.folder, once.item_ids, as_of).rows is None


def test_a_signature_holds_them_whole(histories: pa.Table) -> None:
    weights = weights_of(histories)
    back = PurchaseWeights.from_signature({"purchases": weights.to_json()})
    assert back is not None
    assert back.rows == weights.rows
    assert np.array_equal(back.table, weights.table)
    assert PurchaseWeights.from_signature({}) is None
