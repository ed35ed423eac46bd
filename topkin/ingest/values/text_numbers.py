"""Numbers written as texts: which form they have, and the SQL that reads them."""

import re
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import decoded

_LOOKED_AT = 2000
_SIGNS = r"[^0-9.,+-]"
"""What stands around an amount: the sign or the name of a currency, spaces."""
_DIGITS = re.compile(r"[+-]?[0-9][0-9.,]*")
_SIGN = r"\s*(?:[^\W\d_]{1,3}|[$€£¥₹₽₺₩])?\s*"
_AMOUNT = re.compile(rf"{_SIGN}[+-]?{_SIGN}([0-9][0-9.,]*){_SIGN}")


class TextNumbers(NamedTuple):
    """The SQL form that reads the texts, ``{}`` for the column, and what they look like in words."""

    form: str
    why: str


def text_numbers(values: pa.ChunkedArray) -> TextNumbers | None:
    """The form of numbers in texts without nulls; None where some are none, or it is not told.

    ``1,234`` alone may be a thousand or one and a bit: texts of which all have three digits after one comma or point
    and no other sign are not read by a form with thousands.
    """
    texts = [t for t in pc.unique(decoded(values).cast(pa.string())).to_pylist() if t.strip()]
    step = max(1, len(texts) // _LOOKED_AT)
    matches = [_AMOUNT.fullmatch(t) for t in texts[::step]]
    if not matches or not all(matches):
        return None
    numbers = [m[1] for m in matches if m]
    signs = any(not _DIGITS.fullmatch(t.strip()) for t in texts[::step])
    bare = "regexp_replace({}, '" + _SIGNS + "', '', 'g')" if signs else "trim({})"
    for form, pattern, sign, shown in (
        (bare, r"[0-9]+(\.[0-9]*)?", None, "numbers"),
        (f"replace({bare}, ',', '.')", r"[0-9]+(,[0-9]*)?", r"[0-9]+,([0-9]{1,2}|[0-9]{4,})", "a decimal comma"),
        (
            f"replace(replace({bare}, '.', ''), ',', '.')",
            r"([0-9]+|[0-9]{1,3}(\.[0-9]{3})+)(,[0-9]*)?",
            r".*\..*,.*|.*\..*\..*|[0-9]+,([0-9]{1,2}|[0-9]{4,})",
            "a decimal comma and points in thousands",
        ),
        (
            f"replace({bare}, ',', '')",
            r"([0-9]+|[0-9]{1,3}(,[0-9]{3})+)(\.[0-9]*)?",
            r".*,.*\..*|.*,.*,.*|[0-9]+\.([0-9]{1,2}|[0-9]{4,})",
            "commas in thousands",
        ),
    ):
        if all(re.fullmatch(pattern, n) for n in numbers) and (not sign or any(re.fullmatch(sign, n) for n in numbers)):
            return TextNumbers(f"TRY_CAST({form} AS DOUBLE)", f"{shown} as text, such as {texts[0].strip()}")
    return None
