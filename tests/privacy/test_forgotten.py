"""Users that were forgotten: known again by their ids, and by nothing else."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.errors import ArtifactError
from topkin.privacy.forgotten import FILE, Forgotten

IDS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1)),
    st.lists(st.text(st.characters(codec="utf-8"), max_size=8)),
    st.lists(st.binary(max_size=8)),
)


@given(IDS, st.data())
def test_among_is_membership(ids: list[int | str | bytes], data: st.DataObject) -> None:
    gone = data.draw(st.lists(st.sampled_from(ids), unique=True)) if ids else []
    asked = [*ids, None, *ids]
    kind = pa.array(ids).type if ids else pa.string()
    expected = [i is not None and i in gone for i in asked]
    forgotten = Forgotten.none().with_users(gone)
    assert forgotten.among(pa.array(asked, kind)).tolist() == expected
    chunked = pa.chunked_array([pa.array(asked[:1], kind), pa.array(asked[1:], kind)])
    assert forgotten.among(chunked).tolist() == expected


def test_an_integer_and_its_digits_are_one_user_and_an_empty_table_has_none() -> None:
    forgotten = Forgotten.none().with_users([42])
    assert forgotten.among(pa.array(["42", "4", "042"])).tolist() == [True, False, False]
    assert forgotten.among(pa.chunked_array([], pa.int64())).tolist() == []


def test_the_file_brings_them_back_and_shows_no_id(tmp_path: Path) -> None:
    assert Forgotten.read(str(tmp_path)) is None
    forgotten = Forgotten.none().with_users(["customer-1"]).with_users(["customer-2"])
    forgotten.write(str(tmp_path))
    assert Forgotten.read(str(tmp_path)) == forgotten
    assert "customer" not in (tmp_path / FILE).read_text()
    assert Forgotten.none().with_users(["customer-1"]).hashes.isdisjoint(forgotten.hashes)


@pytest.mark.parametrize("text", ["{}", "[]", '{"key": 1, "hashes": []}', '{"key": "zz", "hashes": []}'])
def test_a_damaged_file_is_said_and_lets_nobody_in(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ArtifactError, match=r"forgotten\.json must hold a key and hashes .* bring it back"):
        Forgotten.read(str(tmp_path))


def test_nobody_is_among_none() -> None:
    assert not np.any(Forgotten.none().among(pa.array(["a", None])))
