"""Rows of two nights' tables are the same where every value is."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from topkin.recommend.unchanged.rows import OldLists, column_at, lists_column, numbers_of, same_rows

TYPES = {
    "items": pa.list_(pa.int64()),
    "vector": pa.list_(pa.float32(), 2),
    "segment": pa.string(),
    "features": pa.struct({"size": pa.float64(), "tags": pa.list_(pa.string())}),
}
VALUES = {
    "items": [[], [1], [1, 2], [2, 1], None],
    "vector": [[0, 1], [1, 0]],
    "segment": ["a", "b", None],
    "features": [{"size": 1.0, "tags": ["x"]}, {"size": None, "tags": ["x"]}, {"size": 1.0, "tags": None}, None],
}
rows = st.dictionaries(st.integers(0, 9), st.fixed_dictionaries({n: st.sampled_from(v) for n, v in VALUES.items()}))


def _table(rows_of_users: dict[int, dict]) -> pa.Table:
    columns = {"user_id": pa.array(list(rows_of_users), pa.int64())}
    columns |= {name: pa.array([row[name] for row in rows_of_users.values()], kind) for name, kind in TYPES.items()}
    return pa.table(columns)


@given(rows, rows, st.sets(st.integers(0, 9)))
def test_the_same_rows_are_those_of_equal_values(before, now, kept):
    now = now | {key: before[key] for key in kept & before.keys()}
    expected = [key in before and before[key] == row for key, row in now.items()]
    assert same_rows(_table(now), _table(before), "user_id").tolist() == expected


def test_tables_of_other_columns_have_no_row_in_common():
    table = pa.table({"user_id": [1, 2], "items": [[1], [2]]})
    assert not same_rows(table, table.drop(["items"]), "user_id").any()
    assert not same_rows(table, pa.table({"user_id": ["1", "2"], "items": [[1], [2]]}), "user_id").any()


def test_lists_are_read_for_tonights_owners():
    table = pa.table(
        {
            "user_id": ["a", "a", "b", "gone", "a"],
            "rank": pa.array([1, 2, 1, 1, 3], pa.int32()),
            "item_id": ["x", "y", "z", "x", "z"],
            "score": pa.array([0.9, 0.8, 0.7, 0.6, 0.5], pa.float32()),
            "because": [["y"], ["x", "z"], [], ["x"], ["x"]],
        }
    )
    names = pa.array(["w", "x", "z"])  # y went
    numbers = numbers_of(table["item_id"], names)
    assert numbers.tolist() == [1, -1, 2, 1, 2]
    assert numbers_of(table["item_id"], names, np.array([True, False, True])).tolist() == [-1, -1, 2, -1, 2]
    old = OldLists.of(table, pa.array(["new", "b", "a"]), numbers, 2)
    assert old.ids.tolist() == [[-1, -1], [2, -1], [1, -1]]
    assert old.scores.astype(str).tolist() == [["-inf"] * 2, ["0.7", "-inf"], ["0.9", "0.8"]]
    assert old.row.tolist() == [[-1, -1], [2, -1], [0, 1]]
    because = lists_column(table["because"], old.row.ravel(), names, 2)
    assert because.tolist() == [[-1, -1]] * 4 + [[-1, -1], [1, 2]]
    ranks = column_at(table["rank"], old.row)
    assert ranks.dtype == np.int32
    assert ranks.tolist() == [[0, 0], [1, 0], [1, 2]]
