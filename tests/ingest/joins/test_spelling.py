"""Expressions that make two columns of ids meet: what they promise, asked of DuckDB and of plain Python."""

import unicodedata
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.ingest.joins import spelling
from topkin.ingest.joins.measure import IdCounts
from topkin.ingest.joins.spelling import Merging, Spelling, suggest_join
from topkin.ingest.sql import query

NUMBERS = [str(n) for n in range(1, 60)]
MIXED = [f"Ab{n}é" for n in range(1, 60)]
UPPER = [f"AB-{n}" for n in range(1, 60)]
MISSES: dict[str, tuple[list[Any], Callable[[Any], Any], str]] = {
    "leading zeros": (NUMBERS, lambda v: v.zfill(10), "leading zeros"),
    "case": (UPPER, str.lower, "case"),
    "trailing spaces": (UPPER, lambda v: v + "   ", "spaces"),
    "a tab": (UPPER, lambda v: "\t" + v, "spaces"),
    "no-break space": (UPPER, lambda v: v + "\u00a0", "spaces"),
    "inner space": (UPPER, lambda v: v.replace("-", " -"), "spaces"),
    ".0": (NUMBERS, lambda v: v + ".0", "an ending .0"),
    "NFD": (MIXED, lambda v: unicodedata.normalize("NFD", v), "Unicode forms"),
    "no dash": (UPPER, lambda v: v.replace("-", ""), "separators"),
    "underscore": (UPPER, lambda v: v.replace("-", "_"), "separators"),
    "prefix": (NUMBERS, lambda v: "SKU-" + v, "the prefix SKU-"),
    "prefix with signs": (NUMBERS, lambda v: "it's.[x](y)/" + v, ""),
    "resource name": (NUMBERS, lambda v: "gid://shopify/Product/" + v, "the prefix gid://shopify/Product/"),
    "prefix and zeros": (NUMBERS, lambda v: "SKU-" + v.zfill(5), "leading zeros"),
    "spaces and zeros": (NUMBERS, lambda v: v.zfill(6) + " ", "spaces around and leading zeros"),
    "a number": (NUMBERS, int, "numbers against texts"),
    "a number of filled texts": ([n.zfill(6) for n in NUMBERS], int, "leading zeros"),
    "a text of a number": (list(range(1, 60)), lambda v: str(v).zfill(8), "numbers against texts"),
    "braces": (UPPER, lambda v: "{" + v + "}", "braces around"),
    "bytes": (UPPER, str.encode, "bytes against texts"),
    "hexadecimal": ([bytes([n, 255, n]) for n in range(60)], bytes.hex, "bytes against texts"),
}


def counts(values: list[Any]) -> IdCounts:
    return IdCounts.of(pa.array(values))


def after(values: pa.Array, form: str) -> list[Any]:
    """The ids by the expression that a form makes of their column."""
    rows = pa.table({"id": values})
    return query(f"SELECT {form.replace('{}', 'id')} AS value FROM rows", rows)["value"].to_pylist()


def keeps_its_promise(suggestion: Spelling, left: IdCounts, right: IdCounts) -> None:
    """No two ids of a side become one, none is lost, those that met still do, and as many meet as was said."""
    values = [after(left.ids, suggestion.left_form), after(right.ids, suggestion.right_form)]
    for changed in values:
        assert len(set(changed)) == len(changed)
        assert not {None, ""} & set(changed)
    others, rights = set(values[1]), set(right.ids.to_pylist())
    assert [v in others for v in values[0]] == suggestion.shared.tolist()
    both = [v for v in left.ids.to_pylist() if v in rights]
    if both:
        kept = pa.array(both, left.ids.type)
        assert after(kept, suggestion.left_form) == after(kept, suggestion.right_form)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("miss", MISSES)
def test_a_miss_is_mended_whole_on_the_side_that_can(miss: str, side: str) -> None:
    plain, change, differs = MISSES[miss]
    left, right = counts(plain), counts([change(v) for v in plain])
    if side == "left":
        left, right = right, left
    suggestion = suggest_join(left, right)
    assert isinstance(suggestion, Spelling)
    keeps_its_promise(suggestion, left, right)
    assert suggestion.shared.all()
    words = differs.split(" and ")[0].removesuffix(" around")
    assert words in suggestion.differs or {"leading zeros", "numbers against texts"} & {suggestion.differs}
    if side == "right" and miss != "no dash":
        assert suggestion.left_form == "{}" or miss == "hexadecimal"


@pytest.mark.parametrize("miss", ["leading zeros", "case", "trailing spaces", ".0", "NFD"])
def test_the_right_side_is_preferred(miss: str) -> None:
    plain, change, _ = MISSES[miss]
    suggestion = suggest_join(counts(plain), counts([change(v) for v in plain]))
    assert isinstance(suggestion, Spelling)
    assert list(suggestion.changes) == ["right"]


def test_one_of_several_spellings_on_both_sides_is_made_of_both() -> None:
    left, right = counts([f"aB{n} " for n in range(9)]), counts([f"Ab{n}" for n in range(9)])
    suggestion = suggest_join(left, right)
    assert isinstance(suggestion, Spelling)
    assert set(suggestion.changes) == {"left", "right"}
    keeps_its_promise(suggestion, left, right)
    assert suggestion.shared.all()


IDS = st.lists(st.text("01aAbBé \u0301-_.S", min_size=1, max_size=6).filter(str.strip), min_size=1, max_size=12)


@settings(max_examples=100)
@given(IDS, IDS, st.sampled_from(["", "0", " ", ".0", "S-", "lower", "NFD"]))
def test_whatever_is_suggested_merges_nothing_and_mends_what_it_says(
    left: list[str], right: list[str], change: str
) -> None:
    spelled = {
        "": str,
        "0": lambda v: "0" + v,
        " ": lambda v: v + " ",
        ".0": lambda v: v + ".0",
        "S-": lambda v: "S-" + v,
        "lower": str.lower,
        "NFD": lambda v: unicodedata.normalize("NFD", v),
    }[change]
    one, other = counts(left), counts([*right, *(spelled(v) for v in left[: len(left) // 2])])
    suggestion = suggest_join(one, other)
    if isinstance(suggestion, Spelling):
        keeps_its_promise(suggestion, one, other)
        assert suggestion.changes


def test_an_expression_that_merges_two_ids_is_not_suggested_and_they_are_named() -> None:
    suggestion = suggest_join(counts(["1", "2", "3"]), counts(["01", "001", "02", "03"]))
    assert isinstance(suggestion, Merging)
    assert (suggestion.side, set(suggestion.ids), suggestion.differs) == ("right", {"01", "001"}, "leading zeros")


def test_ids_that_meet_already_stay_each_others() -> None:
    # upper(item_id) would give 'a' and 'b' of the purchases to other items than they have
    assert not isinstance(suggest_join(counts(["a", "b", "c"]), counts(["A", "a", "B", "b", "C"])), Spelling)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (["x", "y"], ["p", "q"]),
        (["a", "b"], ["a", "b", "c"]),
        ([], ["a"]),
        (["P1", "P2", "P3"], ["C1", "C2", "C3"]),
        ([1, 2], [3, 4]),
        ([b"\xff", b"\xfe"], ["a", "b"]),
        ([1, 2, 3], ["1.5", "2.5", "3.5"]),
    ],
)
def test_nothing_is_suggested_where_no_spelling_mends(left: list[Any], right: list[Any]) -> None:
    assert suggest_join(counts(left), counts(right)) is None


def test_one_mended_among_very_many_is_not_worth_a_line() -> None:
    ids = [f"a{n}" for n in range(1000)]
    assert suggest_join(counts([*ids, "B1"]), counts([*ids, "b1"])) is None


def test_of_very_many_ids_some_tell_the_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "RIGHT_LOOKED_AT", 500)
    left, right = counts([f"s{n}" for n in range(20_000)]), counts([f" S{n}" for n in range(20_000)])
    suggestion = suggest_join(left, right)
    assert isinstance(suggestion, Spelling)
    assert suggestion.shared.all()
    keeps_its_promise(suggestion, left, right)
