"""Ids that are the same but for their spelling: the SQL expressions under which two columns meet.

Zeros in front, case, spaces, ``.0`` of ids that were floats, Unicode forms, separators, a common prefix, and numbers
against texts are tried on the ids that some such spelling could make equal.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import value_kind
from topkin.ingest.joins.measure import IdCounts, shared_ids
from topkin.ingest.sql import literal, query

WORTH = 0.02
"""Share of left's ids, or of its rows, that an expression must mend to be shown."""

LOOKED_AT = 2000  # ids of left that are tried
RIGHT_LOOKED_AT = 200_000  # ids of right among which theirs are looked for
CHAINS, CHECKED = 240, 24  # chains of steps tried on a side, and of the best ones asked of all ids


@dataclass(frozen=True)
class Spelling:
    """What makes two columns of ids meet: a form with ``{}`` for the column of each, ``{}`` itself where it stays.

    left_form and right_form merge no two ids of their columns. differs: what differs, in words. shared: which of left's
    ids meet one of right's by it.
    """

    left_form: str
    right_form: str
    differs: str
    shared: np.ndarray

    @property
    def changes(self) -> dict[str, str]:
        """The forms by ``left`` and ``right``, of the sides that change."""
        forms = {"left": self.left_form, "right": self.right_form}
        return {side: form for side, form in forms.items() if form != "{}"}


@dataclass(frozen=True)
class Merging:
    """What would make columns meet and is not to be done: two ids of the side ``left`` or ``right`` would be one."""

    side: str
    ids: tuple[Any, Any]
    differs: str


class _Step(NamedTuple):
    """One change of spelling. pattern: a regular expression that some id must match for the step to be tried."""

    form: str
    differs: str
    pattern: str = ""


_SPACE = r"[\s\x{00A0}\x{200B}\x{FEFF}]"
_SLOTS: tuple[tuple[_Step, ...], ...] = (
    (_Step("nfc_normalize({})", "Unicode forms", r"[^\x00-\x7F]"),),
    (
        _Step("trim({})", "spaces around", "^ | $"),
        _Step(f"regexp_replace({{}}, '^{_SPACE}+|{_SPACE}+$', '', 'g')", "spaces around", f"^{_SPACE}|{_SPACE}$"),
        _Step("replace({}, ' ', '')", "spaces", " "),
        _Step(f"regexp_replace({{}}, '{_SPACE}+', '', 'g')", "spaces", _SPACE),
        _Step(r"regexp_replace({}, '^\s*\x7B|\x7D\s*$', '', 'g')", "braces around", r"^\s*\x7B|\x7D\s*$"),
    ),
    (_Step(r"regexp_replace({}, '\.0+$', '')", "an ending .0", r"\.0+\s*$"),),
    (
        _Step("upper({})", "case", r"\p{Ll}"),
        _Step("lower({})", "case", r"\p{Lu}"),
    ),
    (
        *(_Step(f"replace({{}}, '{a}', '')", "separators", re.escape(a)) for a in ("-", "_", ".", "/", ":")),
        *(_Step(f"replace({{}}, '{a}', '{b}')", "separators", a) for a, b in ("_-", "-_", " -", " _", ".-", "/-")),
        _Step("regexp_replace({}, '[-_./: ]', '', 'g')", "separators", "[-_./: ]"),
    ),
)
_ZEROS = (
    _Step("ltrim({}, '0')", "leading zeros", r"^\W*0|\D0"),
    _Step(r"regexp_replace({}, '^0+([0-9])', '\1')", "leading zeros", r"^\W*0|\D0"),
)
_LOOSE = r"ltrim(lower(regexp_replace(regexp_replace({}, '\.0+\s*$', ''), '[^\p{L}\p{N}]+', '', 'g')), '0')"
_IN_FRONT = r"^\s*([^0-9\s][^0-9]*)[0-9]"  # what stands before the first digit


def suggest_join(left: IdCounts, right: IdCounts) -> Spelling | Merging | None:
    """The expressions by which most of left's ids meet right's; None where none mends a share worth a line.

    An expression that merges two ids of a column, or makes one null or blank, is not suggested; where all that would
    mend do, :class:`Merging` says of which ids. Of those that mend
    equally, one on the right side is preferred to one on the left, that to both, and fewer steps to more. Ids that meet
    already stay each other's.
    """
    if not len(left.ids) or not len(right.ids):
        return None
    before = shared_ids(left.ids, right.ids)
    open_rows = np.flatnonzero(~before)
    if not _worth(left, open_rows):
        return None
    most = open_rows[np.argsort(-left.rows[open_rows], kind="stable")[:LOOKED_AT]]
    unmet = left.ids.take(pa.array(np.sort(most)))
    met, merging = left.ids.filter(pa.array(before)), None
    for spelling in _candidates(unmet, _some(right.ids, RIGHT_LOOKED_AT)):
        checked = _checked(spelling, left.ids, right.ids)
        if isinstance(checked, Merging):
            merging = merging or (checked if 2 * spelling.shared.sum() >= len(unmet) else None)
        elif checked is not None and _worth(left, np.flatnonzero(checked.shared & ~before)) and _same(checked, met):
            return checked
    return merging


def _some(ids: pa.Array, most: int) -> pa.Array:
    """At most so many of the ids, drawn at random, in order."""
    if len(ids) <= most:
        return ids
    return ids.take(pa.array(np.sort(np.random.default_rng(0).choice(len(ids), most, replace=False))))


def _worth(left: IdCounts, rows: np.ndarray) -> bool:
    """Whether some of left's ids are a share of its ids or of its rows that is worth a line."""
    total = max(int(left.rows.sum()), 1)
    return bool(len(rows) and max(len(rows) / len(left.ids), left.rows[rows].sum() / total) >= WORTH)


class _Pair(NamedTuple):
    """Two forms, which of left's ids they join, (n,) bool, whether ids become one, their steps and what differs."""

    left: str
    right: str
    joined: np.ndarray
    merges: bool
    cost: tuple[int, int]
    differs: tuple[str, ...]


def _candidates(left: pa.Array, right: pa.Array) -> Iterator[Spelling]:
    """Pairs of forms under which some of left's ids are right's, best first."""
    pairs: list[_Pair] = []
    for left_base, right_base, end in _bases(value_kind(left.type), value_kind(right.type)):
        near = _near(left, right, left_base, right_base)
        if near is not None:
            pairs += _pairs(*near, left_base, right_base, end)
    pairs.sort(key=lambda p: (p.merges, -p.joined.sum(), p.cost, len(p.left) + len(p.right)))
    for pair in pairs[:CHECKED]:
        words = list(dict.fromkeys(pair.differs))
        differs = ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)
        yield Spelling(pair.left, pair.right, differs or _kinds_differ(left, right), pair.joined)


def _kinds_differ(left: pa.Array, right: pa.Array) -> str:
    kinds = {value_kind(left.type), value_kind(right.type)}
    return f"{'bytes' if 'binary' in kinds else 'numbers'} against texts"


def _bases(left: str, right: str) -> list[tuple[str, str, str]]:
    """How each side becomes text, and which side may become a number in the end: left, right or none."""
    text, number = "{}", "CAST({} AS VARCHAR)"
    if left == right == "text":
        return [(text, text, "")]
    if (left, right) == ("integer", "text"):
        return [(number, text, "right")]
    if (left, right) == ("text", "integer"):
        return [(text, number, "left")]
    if (left, right) == ("text", "binary"):
        return [(text, form, "") for form in ("decode({})", "lower(hex({}))")]
    if (left, right) == ("binary", "text"):
        return [(form, text, "") for form in ("decode({})", "lower(hex({}))")]
    return []


def _near(left: pa.Array, right: pa.Array, left_base: str, right_base: str) -> tuple[pa.Array, pa.Array] | None:
    """The texts of left's ids, and of those of right's that the loosest spelling makes equal to one of them."""
    try:
        left_texts, right_texts = _texts(left, left_base), _texts(right, right_base)
        keys = []
        for texts in (left_texts, right_texts):
            front = _front(texts)
            bare = "nfc_normalize({})"
            if front is not None:
                bare = f"regexp_replace({bare}, '^\\s*{_escaped(front)}', '')"
            keys.append(query(f"SELECT {_put(_LOOSE, _put(bare, 'id'))} AS key FROM rows", _rows(texts))["key"])
    except duckdb.Error:  # bytes that are no text
        return None
    kept = np.asarray(pc.is_in(keys[1], value_set=keys[0].combine_chunks())).astype(bool)
    at = np.flatnonzero(kept)[: 4 * LOOKED_AT]
    return (left_texts, right_texts.take(pa.array(at))) if len(at) else None


def _pairs(left: pa.Array, right: pa.Array, left_base: str, right_base: str, end: str) -> Iterator[_Pair]:
    """Every pair of chains that joins some ids: one side changed, or both by the same steps."""
    of_left, of_right = _chains(left, right), _chains(right, left)
    left_values, right_values = _evaluated(left, of_left), _evaluated(right, of_right)
    for column, chain in enumerate(of_right):
        number = end == "right"
        form = _put(f"TRY_CAST({chain.form} AS BIGINT)" if number else chain.form, right_base)
        values = _as_numbers(right_values[column]) if number else right_values[column]
        # A number of the left side stays as it is where right becomes one.
        first = "{}" if number else left_base
        yield from _joined(left, values, first, form, (0, chain.steps), chain.differs)
    for column, chain in enumerate(of_left):
        number = end == "left"
        form = _put(f"TRY_CAST({chain.form} AS BIGINT)" if number else chain.form, left_base)
        values = _as_numbers(left_values[column]) if number else left_values[column]
        yield from _joined(values, right, form, "{}" if number else right_base, (1, chain.steps), chain.differs)
    left_keys, right_keys = ({chain.key: n for n, chain in enumerate(chains)} for chains in (of_left, of_right))
    for a, b in sorted({*_alike(left_keys, right_keys), *((a, b) for b, a in _alike(right_keys, left_keys))}):
        one, other = of_left[a], of_right[b]
        if one.steps and other.steps:
            forms = _put(one.form, left_base), _put(other.form, right_base)
            differs = one.differs if one.steps >= other.steps else other.differs
            yield from _joined(left_values[a], right_values[b], *forms, (2, one.steps + other.steps), differs)


def _alike(own: Mapping[tuple[str, ...], int], other: Mapping[tuple[str, ...], int]) -> Iterator[tuple[int, int]]:
    """The numbers of chains of two sides with the same steps, those left out that could change nothing on the other."""
    taken = {key[0] for key in other if len(key) == 1}
    for key, number in own.items():
        same = tuple(step for step in key if step in taken)
        if same in other:
            yield number, other[same]


def _joined(
    left: pa.Array, right: pa.Array, left_form: str, right_form: str, cost: tuple[int, int], differs: tuple[str, ...]
) -> Iterator[_Pair]:
    joined = np.asarray(pc.is_in(left, value_set=right.drop_null())).astype(bool)
    if joined.any():
        merges = any(len(side.unique()) < len(side) for side in (left, right))
        yield _Pair(left_form, right_form, joined, merges, cost, differs)


class _Chain(NamedTuple):
    """Steps one after another; ``key`` are those that can be taken of the other side too."""

    form: str
    steps: int
    differs: tuple[str, ...]
    key: tuple[str, ...]


def _chains(own: pa.Array, other: pa.Array) -> list[_Chain]:
    """The chains of steps that could change ids of a side into those of the other, short ones first, none the first."""
    front, wanted = _front(own), _front(other)
    slots = [[s for s in slot if not s.pattern or _any(own, s.pattern)] for slot in _SLOTS]
    prefixes = []
    if front is not None and front != wanted:
        prefixes.append(_Step(f"regexp_replace({{}}, '^{_escaped(front)}', '')", f"the prefix {front}"))
    slots.insert(2, prefixes)
    zeros = [s for s in _ZEROS if _any(own, s.pattern)]
    width = _width(other, wanted)
    if width is not None and not _any(_bare(own, front), rf"^[^0-9]|[0-9][^0-9.]|[0-9]{{{width + 1}}}"):
        zeros.append(_Step(f"lpad({{}}, {width}, '0')", "leading zeros"))
    slots.append(zeros)
    if wanted is not None and front is None:
        slots.append([_Step(f"{literal(wanted)} || {{}}", f"the prefix {wanted}")])
    chains = []
    for steps in itertools.product(*([None, *slot] for slot in slots)):
        taken = [s for s in steps if s is not None]
        if front is not None and any(s.form.startswith("lpad") for s in taken) and not set(prefixes) & set(taken):
            continue  # lpad would cut what has a prefix
        form = "{}"
        for step in taken:
            form = _put(step.form, form)
        key = tuple(s.form for s in taken)
        chains.append(_Chain(form, len(taken), tuple(s.differs for s in taken), key))
    return sorted(chains, key=lambda c: c.steps)[:CHAINS]


def _front(texts: pa.Array) -> str | None:
    """What stands before the first digit of most ids, such as ``SKU-``; None where most have nothing alike there."""
    sql = f"SELECT regexp_extract(nfc_normalize(id), '{_IN_FRONT}', 1) AS f FROM rows"
    fronts = pc.drop_null(query(sql, _rows(texts))["f"])
    counts = fronts.combine_chunks().value_counts()
    if not len(counts):
        return None
    best = int(np.argmax(np.asarray(counts.field("counts"))))
    front, n = counts.field("values")[best].as_py(), counts.field("counts")[best].as_py()
    return front if front and n > max(1, len(texts) // 2) else None


def _width(texts: pa.Array, front: str | None) -> int | None:
    """The digits that nearly all ids are filled up to with zeros, after their prefix; None where they are not."""
    sql = "SELECT length(id) AS n, starts_with(id, '0') AS zero FROM rows"
    widths = query(sql, _rows(_bare(texts, front)))
    counts = widths["n"].combine_chunks().value_counts()
    best = int(np.argmax(np.asarray(counts.field("counts")))) if len(counts) else 0
    if not len(counts) or counts.field("counts")[best].as_py() < 0.9 * len(texts) or not pc.any(widths["zero"]).as_py():
        return None
    return int(counts.field("values")[best].as_py())


def _bare(texts: pa.Array, front: str | None) -> pa.Array:
    """Ids without the spaces around them and their prefix."""
    form = "{}" if front is None else f"regexp_replace({{}}, '^{_escaped(front)}', '')"
    return _texts(texts, _put(form, f"regexp_replace({{}}, '^{_SPACE}+|{_SPACE}+$', '', 'g')"))


def _escaped(text: str) -> str:
    """A text as part of a regular expression inside an SQL text."""
    return re.sub(r"([][.*+?^$|(){}\\])", r"\\\1", text).replace("'", "''")


def _put(form: str, inner: str) -> str:
    return form.replace("{}", inner)


def _rows(texts: pa.Array) -> pa.Table:
    return pa.table({"id": texts})


def _texts(ids: pa.Array, base: str) -> pa.Array:
    return query(f"SELECT {_put(base, 'id')} AS value FROM rows", _rows(ids))["value"].combine_chunks()


def _any(texts: pa.Array, pattern: str) -> bool:
    sql = f"SELECT bool_or(regexp_matches(id, {literal(pattern)})) AS any FROM rows"
    return bool(query(sql, _rows(texts))["any"][0].as_py())


def _evaluated(texts: pa.Array, chains: Sequence[_Chain]) -> list[pa.Array]:
    """The ids after each chain."""
    columns = ", ".join(f"{_put(chain.form, 'id')} AS c{n}" for n, chain in enumerate(chains))
    return [column.combine_chunks() for column in query(f"SELECT {columns} FROM rows", _rows(texts)).columns]


def _as_numbers(texts: pa.Array) -> pa.Array:
    """Texts read as whole numbers and written again; null where they are none."""
    sql = "SELECT CAST(TRY_CAST(id AS BIGINT) AS VARCHAR) AS value FROM rows"
    return query(sql, _rows(texts))["value"].combine_chunks()


def _same(spelling: Spelling, shared: pa.Array) -> bool:
    """Whether ids that both columns have stay each other's."""
    if not len(shared):
        return True
    return bool(_texts(shared, spelling.left_form).equals(_texts(shared, spelling.right_form)))


def _checked(spelling: Spelling, left: pa.Array, right: pa.Array) -> Spelling | Merging | None:
    """The spelling with what it joins of all ids; the ids that it merges; None where it makes one null or blank."""
    values = {"left": left, "right": right}
    for side, form in spelling.changes.items():
        ids = values[side]
        if "TRY_CAST" in form and _any(_texts(ids, "CAST({} AS VARCHAR)"), r"\.0*[1-9]|[eE]"):
            return None  # a cast would round
        if (pad := re.search(r"lpad\(.*, ([0-9]+), '0'\)", form)) and _any(
            _texts(ids, "CAST({} AS VARCHAR)"), rf"[0-9]{{{int(pad[1]) + 1}}}"
        ):
            return None  # lpad cuts what is longer
        try:
            changed = _texts(ids, form)
        except duckdb.Error:
            return None
        if changed.null_count or (pa.types.is_string(changed.type) and not pc.all(pc.not_equal(changed, "")).as_py()):
            return None
        codes = np.asarray(changed.dictionary_encode().indices)
        if len(codes) and codes.max() + 1 < len(codes):
            order = np.argsort(codes, kind="stable")
            first = order[np.flatnonzero(np.diff(codes[order]) == 0)[0] :][:2]
            return Merging(side, tuple(ids.take(pa.array(first)).to_pylist()), spelling.differs)
        values[side] = changed
    shared = shared_ids(values["left"], values["right"])
    return Spelling(spelling.left_form, spelling.right_form, spelling.differs, shared)
