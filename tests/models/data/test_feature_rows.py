"""Features as rows of a table and shares of them, against what each value says by itself."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from topkin.errors import ArtifactError
from topkin.models.data.feature_rows import KNOTS, LISTED, FeatureRows

LABELS = pa.list_(pa.string())


def table(**columns):
    fields = {name: pa.array(values, kind) for name, (values, kind) in columns.items()}
    struct = pa.StructArray.from_arrays(list(fields.values()), list(fields))
    return pa.table({"features": struct})


def named(rows, read):
    """What was read as {label or knot: share} of each row."""
    names = [None] + [value for f in rows.features for value in f.get("labels", f.get("knots"))]
    return [{names[r]: float(s) for r, s in zip(at, share, strict=True) if r} for at, share in zip(*read, strict=True)]


def test_labels_have_rows_of_their_own_by_how_often_they_come():
    known = table(
        brand=(["b", "a", "b", "a", "b", "once", None], pa.string()),
        tags=([["x", "y"], ["x"], [], None, ["y", "never again", "x"], ["x"], []], LABELS),
    )
    rows = FeatureRows.of(known)
    assert rows.features == ({"name": "brand", "labels": ["b", "a"]}, {"name": "tags", "labels": ["x", "y"]})
    assert rows.size == 4
    assert named(rows, rows.read(known)) == [
        {"b": 1, "x": 0.5, "y": 0.5},
        {"a": 1, "x": 1},
        {"b": 1},
        {"a": 1},
        {"b": 1, "y": 0.5, "x": 0.5},
        {"x": 1},
        {},
    ]
    assert named(rows, rows.read(table(brand=(["c"], pa.string()), tags=([["y"]], LABELS)))) == [{"y": 1}]


def test_no_more_labels_of_a_list_are_read_than_there_are_places():
    many = [f"t{i}" for i in range(LISTED + 5)]
    known = table(tags=([many, many], LABELS))
    rows = FeatureRows.of(known)
    at, share = rows.read(known)
    assert at.shape == (2, LISTED)
    np.testing.assert_allclose(share.sum(axis=1), 1)


numbers = st.lists(st.floats(-1e6, 1e6, width=32) | st.none(), min_size=1, max_size=60)


@example([0.0, 270.0], [1.2611686178923354e-44])
@given(numbers, numbers)
def test_a_number_is_the_blend_of_the_knots_beside_it(learned, asked):
    known = table(cost=(learned, pa.float32()))
    rows = FeatureRows.of(known)
    (feature,) = rows.features
    assert len(feature["knots"]) <= KNOTS
    at, share = rows.read(table(cost=(asked, pa.float32())))
    assert ((at > 0) == (share > 0)).all()
    knots = np.r_[0.0, feature["knots"]]
    for value, row, parts in zip(asked, at, share, strict=True):
        if value is None or not feature["knots"]:
            assert not parts.any()
        else:
            assert parts.sum() == pytest.approx(1)
            wanted = min(max(value, knots[1]), knots[-1])
            assert knots[row] @ parts == pytest.approx(wanted, rel=1e-5, abs=1e-2)


def test_what_was_learned_is_kept_as_json():
    known = table(cost=([1.5, 2.5, 9.0], pa.float32()), brand=(["é", "é", None], pa.string()))
    rows = FeatureRows.of(known)
    again = FeatureRows.from_json(json.loads(json.dumps(rows.to_json())))
    for one, other in zip(rows.read(known), again.read(known), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_features_there_is_nothing_to_read():
    bare = pa.table({"item_id": ["a", "b"]})
    rows = FeatureRows.of(bare)
    assert rows.size == 0
    assert [x.shape for x in rows.read(bare)] == [(2, 0), (2, 0)]


@pytest.mark.parametrize("lacking", [pa.table({"item_id": ["a"]}), table(size=(["L", "L"], pa.string()))])
def test_a_table_without_a_feature_that_was_trained_on_is_refused(lacking):
    rows = FeatureRows.of(table(brand=(["a", "a"], pa.string())))
    with pytest.raises(ArtifactError, match="must have the feature 'brand' that the encoder was trained on"):
        rows.read(lacking)


def test_a_feature_of_another_type_than_was_trained_on_is_refused():
    labels, numbers = table(size=(["1", "1"], pa.string())), table(size=([1.0, 2.0], pa.float32()))
    with pytest.raises(ArtifactError, match=r"the feature 'size' must be a number as in .* it is string: train again"):
        FeatureRows.of(numbers).read(labels)
    with pytest.raises(ArtifactError, match="must be labels as in"):
        FeatureRows.of(labels).read(numbers)


def test_a_null_column_is_as_many_unknown_features():
    kind = pa.struct({"brand": pa.string(), "cost": pa.float32()})
    rows = FeatureRows.of(pa.table({"features": pa.array([{"brand": "a", "cost": 1.0}] * 2, kind)}))
    at, share = rows.read(pa.table({"features": pa.nulls(2, kind)}))
    assert not at.any()
    assert not share.any()
