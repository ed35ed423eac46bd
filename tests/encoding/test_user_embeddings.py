import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.encoding import user_embeddings
from topkin.encoding.user_embeddings import UserRows
from topkin.errors import ArtifactError


def table(ids=("b", "a", "é"), seed=0):
    return UserRows(pa.array(list(ids)), np.random.default_rng(seed).normal(size=(len(ids), 4)).astype(np.float32))


@given(st.lists(st.integers(-3, 9), unique=True), st.lists(st.lists(st.integers(-5, 12)), max_size=3))
def test_rows_are_found_by_id_and_others_are_zero(known, asked):
    users = UserRows(pa.array(known, pa.int64()), np.arange(1, 2 * len(known) + 1, dtype=np.float32).reshape(-1, 2))
    by_id = dict(zip(known, users.rows.tolist(), strict=True))
    got = users.of(pa.chunked_array([pa.array(chunk, pa.int64()) for chunk in asked], pa.int64()))
    assert got.tolist() == [by_id.get(i, [0, 0]) for chunk in asked for i in chunk]
    assert got.dtype == np.float32


def test_ids_of_another_type_are_refused():
    with pytest.raises(TypeError, match="type of the users with rows, string, got int64"):
        table().of(pa.array([1]))


@pytest.mark.parametrize("ids", [["b", "a"], [2**62, -1], [b"\x00", b""], []])
def test_what_was_written_is_read_again_and_is_the_same_file(tmp_path, ids):
    kind = pa.array(ids).type if ids else pa.string()
    users = UserRows(pa.array(ids, kind), table(range(len(ids))).rows)
    for name in ("one", "two"):
        user_embeddings.write(users, str(tmp_path / name), "e1")
        users = user_embeddings.load(str(tmp_path / name), "e1", users.sha256)
    assert users.ids.to_pylist() == ids
    assert users.ids.type == kind
    assert (users.rows == table(range(len(ids))).rows).all()
    assert (tmp_path / "one" / user_embeddings.FILE).read_bytes() == (
        tmp_path / "two" / user_embeddings.FILE
    ).read_bytes()


def test_rows_of_another_encoder_or_others_than_these_are_refused(tmp_path):
    users = table()
    with pytest.raises(ArtifactError, match=r"users\.parquet is missing"):
        user_embeddings.load(str(tmp_path), "e1", users.sha256)
    user_embeddings.write(users, str(tmp_path), "e1")
    with pytest.raises(ArtifactError, match=r"users\.parquet must be of the encoder e2, got e1: train again"):
        user_embeddings.load(str(tmp_path), "e2", users.sha256)
    for other in (table(seed=1), table(("a", "b", "é"))):
        user_embeddings.write(other, str(tmp_path), "e1")
        with pytest.raises(ArtifactError, match="must hold the rows that the encoder was trained with"):
            user_embeddings.load(str(tmp_path), "e1", users.sha256)


def test_a_rotation_turns_every_row(monkeypatch):
    monkeypatch.setattr(user_embeddings, "_AT_ONCE", 3)
    users = table("abcdefgh")
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    np.testing.assert_allclose(users.turned(turned).rows, users.rows @ turned, atol=1e-6)
    assert users.turned(turned).ids.equals(users.ids)
    assert not len(table(()).turned(turned).rows)
