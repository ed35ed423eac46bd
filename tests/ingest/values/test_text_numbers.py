"""Numbers as texts, read by the form that they are told to have."""

import pyarrow as pa
import pytest

from topkin.ingest.sql import Expression
from topkin.ingest.values.text_numbers import text_numbers


def read(texts: list[str]) -> list[float] | None:
    numbers = text_numbers(pa.chunked_array([texts]))
    if numbers is None:
        return None
    numbers_read = Expression("purchases.normalise.n", numbers.form.replace("{}", "n")).evaluate(pa.table({"n": texts}))
    return numbers_read.to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["1", " 12 ", "-3"], [1, 12, -3]),
        (["1.50", "12.5", "3"], [1.5, 12.5, 3]),
        (["12,5", "3,00", "7"], [12.5, 3, 7]),
        (["1.234,50", "3,00", "12.345.678,9"], [1234.5, 3, 12345678.9]),
        (["1,234.50", "3.00"], [1234.5, 3]),
        (["€ 12,50", "3,00 €"], [12.5, 3]),
        (["$1,234.50", "$3.00"], [1234.5, 3]),
        (["EUR 12.50", "-4.00 EUR"], [12.5, -4]),
        (["12 ST", "1 ST"], [12, 1]),
    ],
)
def test_numbers_are_read_in_their_form(texts: list[str], numbers: list[float]) -> None:
    assert read(texts) == numbers


@pytest.mark.parametrize("texts", [["1,234"], ["a"], ["1", "x1y2"], ["2024-01-02"], ["1,2,3"], [""], ["1.2", "1,2"]])
def test_what_is_no_number_or_may_be_two_is_not_read(texts: list[str]) -> None:
    assert read(texts) is None
