import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.report.browse.names import Titles, clean, show_id


@given(st.text())
def test_a_text_of_the_data_is_one_bounded_line_without_control_characters(text: str) -> None:
    shown = clean(text, 20)
    assert len(shown) <= 20
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)
    assert shown == shown.strip()
    assert clean(shown, 20) == shown


def test_long_texts_end_with_an_ellipsis() -> None:
    assert clean("abcdefghij", 5) == "abcd…"
    assert clean("abcd efghij", 6) == "abcd…"


@pytest.mark.parametrize(("value", "shown"), [(7, "7"), ("a<b", "a<b"), (b"tea", "tea"), (b"\xff\x01", "0xff01")])
def test_an_id_is_shown_as_it_may_be_typed(value: int | str | bytes, shown: str) -> None:
    assert show_id(value) == shown


def test_an_item_without_a_title_is_called_by_its_id() -> None:
    names = Titles(pa.table({"item_id": [b"a", b"b", b"c"], "title": ["A  \n tea", " ", None]}))
    assert [names[row] for row in range(3)] == ["A tea", "b", "c"]
    assert names.own(1) == ""
    assert names.of([b"c", b"x", b"a"]) == ["c", "x", "A tea"]
